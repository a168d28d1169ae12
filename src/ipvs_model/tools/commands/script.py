"""`ipvs-model script`: run a script of times, packets and expectations."""

import sys
from pathlib import Path

import click

from ipvs_model.testing.script import ScriptError, parse
from ipvs_model.testing.script_export import as_json_lines
from ipvs_model.testing.script_run import Machine, run_all
from ipvs_model.tools.machine import trace_machine

BOOT_JIFFIES = (1 << 32) - 300 * 250


def director() -> Machine:
    """The director of scripts: clients behind "cli", real servers behind "rs", 192.0.2.0/24 its own; it has just booted."""
    return trace_machine(BOOT_JIFFIES)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--failed", is_flag=True, help="Print only lines that are not as expected.")
@click.option("--json", "as_json", is_flag=True, help="Do not run them: print the scenarios as JSON for the kernel recorder, one a line.")
def command(files: tuple[Path, ...], failed: bool, as_json: bool) -> None:
    """Run FILES, each scenario on a director of its own, and print what was expected and what came; exit status 1 if anything differs, 2 if a file cannot be read."""
    wrong = scenarios = lines = 0
    for path in files:
        try:
            script = parse(path.read_text(encoding="utf-8"))
        except ScriptError as error:
            raise click.UsageError(f"{path}: {error}") from None
        if as_json:
            click.echo(as_json_lines(script, path.stem), nl=False)
            continue
        for scenario, shown in run_all(script, director):
            bad = [line for line in shown if not line.right]
            scenarios, lines, wrong = scenarios + 1, lines + len(shown), wrong + len(bad)
            if bad or not failed:
                click.echo(f"{path.name}: {scenario.name}")
                for line in bad if failed else shown:
                    click.echo(f"  {line}")
    if not as_json:
        click.echo(f"scenarios={scenarios} lines={lines} failed={wrong}")
    sys.exit(1 if wrong else 0)
