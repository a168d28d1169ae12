"""`ipvs-model verify`: replay kernel traces, exit with status 1 if the model does anything else."""

import json

import click

from ipvs_model.tools.verify import Report, SelectionError, TraceError, read_names, select, verify

DEFAULT_SHOWN = 10


@click.command()
@click.argument("traces", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--names", type=click.Path(exists=True, dir_okay=False), help="Take only the whole scenarios named in this file, one a line.")
@click.option("--show", default=DEFAULT_SHOWN, show_default=True, type=click.IntRange(min=0), help="Divergences to show in full; the others are named.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
@click.option("--layered", is_flag=True, help="Let no packet take the quick road.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Processes.")
def command(traces: tuple[str, ...], names: str | None, show: int, as_json: bool, layered: bool, jobs: int) -> None:
    """Replay kernel TRACES step by step and byte by byte; exit status 1 if anything differs, 2 if a file cannot be used.

    A scenario ends at its first divergence. The last line counts scenarios, compared steps and divergences.
    """
    wanted = None if names is None else read_names(names)
    try:
        report = Report(tuple(verify(select(traces, wanted), jobs=jobs, layered=layered)))
    except (TraceError, SelectionError) as error:
        raise click.UsageError(str(error)) from None
    divergences = report.divergences
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        for divergence in divergences[:show]:
            click.echo(f"{divergence}\n")
        for divergence in divergences[show:]:
            click.echo(f"{divergence.scenario} step {divergence.step}: {divergence.what}")
        click.echo(f"choices={report.choices} (steps of several jiffies for which the jiffy had to be chosen)")
        click.echo(report.summary())
    if wanted is not None and (missing := wanted - {checked.scenario for checked in report.checked}):
        click.echo(f"not in these files: {', '.join(sorted(missing))}", err=True)
    click.get_current_context().exit(1 if divergences else 0)


verify_command = command
