"""`ipvs-model compare`: the same arrivals through several schedulers."""

import json
import sys
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ipvs_model.errors import IPVSError
from ipvs_model.tools.commands.replay import INCOMPLETE, Refusal, _marks, _pairs
from ipvs_model.tools.compare import CompareError, compare, find_schedulers
from ipvs_model.tools.compare_picture import FORMATS, draw
from ipvs_model.tools.comparison import Comparison, ServiceComparison
from ipvs_model.tools.pcap import CaptureError
from ipvs_model.tools.replay import Mark, RulesError
from ipvs_model.tools.workload import PARAMETERS, WorkloadError, workload

SHOWN_SERVERS: Final = 20
COLUMN: Final = 18  #: characters


def _parameters() -> str:
    """The help's table of what generated workloads take."""
    lines = []
    for kind, values in PARAMETERS.items():
        lines.append(f"{kind}:NAME=VALUE,…")
        lines += [f"  {name:9} {default:>4g}  {what}" for name, (default, _, _, what) in values.items()]
    return "\n".join(lines)


def _picture(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix not in FORMATS:
        raise click.BadParameter(f"{str(path)!r}: the name must end in {', '.join(FORMATS)}", context, option)
    return path


@click.command(epilog="\b\nGenerated workloads, with the defaults:\n" + _parameters())
@click.option("--rules", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Rules as ipvsadm -S writes them, # for comments.")
@click.option("--schedulers", required=True, metavar="NAME,…", help="Schedulers, all of them (all), or your own: MODULE:CLASS or FILE.py:CLASS.")
@click.option("--workload", "arrivals", required=True, metavar="CAPTURE|KIND:…", help="A capture, or generated arrivals: see below.")
@click.option("--leave", multiple=True, metavar="SERVER", help="The server that leaves (default: the first of each service); repeatable.")
@click.option("--leave-at", type=click.FloatRange(min=0), metavar="SECONDS", help="When it leaves (default: half-way).")
@click.option("--sysctl", "sysctls", callback=_pairs, multiple=True, metavar="NAME=VALUE", help="Set net.ipv4.vs.NAME first; repeatable.")
@click.option("--mark", "marks", callback=_marks, multiple=True, metavar="MARK=PROTO:ADDR[:PORT]", help="Packets that the firewall would mark; repeatable.")
@click.option("--picture", callback=_picture, type=click.Path(dir_okay=False, path_type=Path), metavar="OUT.svg|png|pdf", help="Draw it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(
    rules: Path,
    schedulers: str,
    arrivals: str,
    leave: tuple[str, ...],
    leave_at: float | None,
    sysctls: tuple[tuple[str, str], ...],
    marks: tuple[Mark, ...],
    picture: Path | None,
    as_json: bool,
) -> None:
    """Play the same arrivals through several schedulers: shares, peaks, imbalance over time, and which connections move when a server leaves.

    Exit status: 0; 2 wrong usage, or a file that cannot be read; 3 the capture could be read only in part.
    """
    columns = (TextColumn("comparing"), BarColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("", total=1.0)
            found = compare(
                rules.read_text(),
                find_schedulers([name for name in schedulers.split(",") if name]),
                lambda targets: workload(arrivals, targets),
                leave=leave,
                leave_at=leave_at,
                sysctls=sysctls,
                marks=marks,
                progress=lambda fraction: bar.update(task, completed=fraction),
            )
        if picture is not None:
            draw(found, picture)
    except (RulesError, UnicodeDecodeError) as wrong:
        raise Refusal(f"{rules}: {wrong}") from wrong
    except IPVSError as refused:
        raise Refusal(f"--sysctl or --schedulers refused: {refused.strerror or refused}") from refused
    except (CompareError, WorkloadError, CaptureError, OSError) as wrong:
        raise Refusal(str(wrong)) from wrong
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        show(found)
        if picture is not None:
            click.echo(f"written: {picture}")
    if found.problems:
        click.echo(f"{found.workload}: {len(found.problems)} records could not be read or understood; the rest was played", err=True)
        sys.exit(INCOMPLETE)


def show(comparison: Comparison) -> None:
    """Print two tables for each service."""
    tables = [table for service in comparison.services for table in (_summary(service), _shares(service))]
    wide = max(len(table.columns) for table in tables) * COLUMN
    console = Console(width=None if sys.stdout.isatty() else max(wide, 120), highlight=False)
    console.print(f"{comparison.workload}: {comparison.packets} packets over {comparison.seconds:.3f} s", markup=False, soft_wrap=True)
    for table in tables:
        console.print()
        console.print(table)


def _summary(service: ServiceComparison) -> Table:
    """A row a scheduler."""
    leaver = next((outcome.leaving for outcome in service.outcomes if outcome.leaving is not None), None)
    table = _table(service.service, "scheduler", "connections,refused,imbalance,worst")
    if leaver is not None:
        table.title = f"{service.service}; after {leaver.at:g} s {leaver.server} leaves a copy"
        for head in ("cut off", "moved", "of the others'"):
            table.add_column(head, justify="right")
    for outcome in service.outcomes:
        row = [outcome.scheduler, str(sum(outcome.connections)), str(outcome.refused), _ratio(outcome.mean_imbalance), _ratio(outcome.worst_imbalance)]
        if outcome.leaving is not None:
            one = outcome.leaving
            row += [str(one.cut), str(one.moved), f"{one.moved / one.others:.1%} of {one.others}" if one.others else "0"]
        table.add_row(*row)
    return table


def _shares(service: ServiceComparison) -> Table:
    """Each server's share of the connections and its peak with each scheduler; what is more in number, schedulers or servers, goes down the page."""
    peaks = [outcome.peak_active if service.counted == "active" else outcome.peak_held for outcome in service.outcomes]
    cells = [[f"{share:.1%} {peak:5}" for share, peak in zip(outcome.share, high, strict=True)] for outcome, high in zip(service.outcomes, peaks, strict=True)]
    schedulers = [outcome.scheduler for outcome in service.outcomes]
    title = f"share of the connections, most {service.counted} at a time"
    if len(schedulers) > len(service.servers):
        table = _table(title, "scheduler", ",".join(service.servers))
        table.add_row("weight", *(f"{fair:.1%} w {weight:3}" for fair, weight in zip(service.fair, service.weights, strict=True)))
        for scheduler, row in zip(schedulers, cells, strict=True):
            table.add_row(scheduler, *row)
        return table
    table = _table(title, "server", ",".join(("weight", "fair", *schedulers)))
    for number, server in enumerate(service.servers[:SHOWN_SERVERS]):
        table.add_row(server, str(service.weights[number]), f"{service.fair[number]:.1%}", *(row[number] for row in cells))
    if len(service.servers) > SHOWN_SERVERS:
        table.caption = f"and {len(service.servers) - SHOWN_SERVERS} more (--json has all)"
        table.caption_justify = "left"
    return table


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(title: str, text: str, numbers: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column(text, no_wrap=True)
    for head in numbers.split(","):
        table.add_column(head, justify="right")
    return table
