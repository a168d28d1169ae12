"""`ipvs-model replay`: what IPVS would have done with a capture."""

import json
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import FrameType
from typing import Any

import click
from attrs import evolve
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ipvs_model.errors import IPVSError
from ipvs_model.tools.lives import Chooser, Progressed, follow
from ipvs_model.tools.pcap import Capture, CaptureError, CaptureWriter, Frame
from ipvs_model.tools.quick_lane import quick_lane
from ipvs_model.tools.replay import ANSWERS, Mark, Replay, RulesError
from ipvs_model.tools.report import WENT, html_report, summary
from ipvs_model.tools.result import Result

INCOMPLETE = 3
INTERRUPTED = 130  #: as shells report a command that Ctrl-C ended
SHOWN_PROBLEMS = 20


def _pairs(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r}: write NAME=VALUE", context, option)
    return tuple((name, text) for name, _, text in (value.partition("=") for value in values))


def _marks(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[Mark, ...]:
    try:
        return tuple(map(Mark.parse, values))
    except ValueError as wrong:
        raise click.BadParameter(str(wrong), context, option) from wrong


class Refusal(click.ClickException):
    """A file or a setting that cannot be used, in one line."""

    exit_code = 2


@click.command()
@click.argument("capture", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--rules", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Rules as ipvsadm -S writes them, # for comments.")
@click.option("--sysctl", "sysctls", callback=_pairs, multiple=True, metavar="NAME=VALUE", help="Set net.ipv4.vs.NAME first; repeatable.")
@click.option("--scheduler", metavar="NAME", help="What if every service used this scheduler?")
@click.option("--mark", "marks", callback=_marks, multiple=True, metavar="MARK=PROTO:ADDR[:PORT]", help="Packets that the firewall would mark; repeatable.")
@click.option("--answers", type=click.Choice(ANSWERS), default="nat", show_default=True, help="Answers to feed; all: direct routing and tunnels, too.")
@click.option("--mtu", type=click.IntRange(576, 65535), default=1500, show_default=True, help="MTU of all routes; larger packets are taken for aggregates.")
@click.option("--write", type=click.Path(dir_okay=False, path_type=Path), metavar="OUT.pcap", help="Write the packets that left the director.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), metavar="OUT.html", help="Write a page with tables and pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(
    capture: str,
    rules: Path,
    sysctls: tuple[tuple[str, str], ...],
    scheduler: str | None,
    marks: tuple[Mark, ...],
    answers: str,
    mtu: int,
    write: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Play CAPTURE (pcap or pcapng, gzip or not; - reads a pipe), taken in front of a virtual address, through IPVS with the given rules.

    Exit status: 0 all was read; 3 the capture could be read only in part (what and where is printed); 2 wrong usage, or a file that cannot be read;
    130 Ctrl-C ended it: tables, --json, --report and --write then hold what was read up to there, and say so.
    """
    options: dict[str, Any] = {"sysctls": sysctls, "scheduler": scheduler, "marks": marks, "answers": answers, "mtu": mtu}
    try:
        replay = Replay(rules.read_text(), **options) if report is None else Chooser(rules.read_text(), **options)
    except (RulesError, UnicodeDecodeError) as wrong:
        raise Refusal(f"{rules}: {wrong}") from wrong
    except IPVSError as refused:
        raise Refusal(f"--sysctl or --scheduler refused: {refused.strerror or refused}") from refused
    try:
        with ExitStack() as stack:
            source = stack.enter_context(standard_input()) if report is not None and capture == "-" else capture
            with counting_ctrl_c() as interrupts:
                result = evolve(play(source, replay, write, interrupts), capture=capture)
            if report is not None and isinstance(replay, Chooser):
                with progress("following") as tell:
                    lives = follow(source, replay, result, tell, **options)
                report.write_text(html_report(result, lives), encoding="utf-8")
    except (CaptureError, OSError) as wrong:
        raise Refusal(str(wrong)) from wrong
    if as_json:
        click.echo(json.dumps(result.as_json(), indent=2))
    else:
        show(result)
        for path in filter(None, (write, report)):
            click.echo(f"written: {path}")
    if result.problems:
        name = "standard input" if capture == "-" else capture
        click.echo(f"{name}: {len(result.problems)} of {result.records} records could not be read or understood; the rest was replayed", err=True)
    if result.interrupted:
        click.echo(result.notes[0], err=True)
        sys.exit(INTERRUPTED)
    if result.problems:
        sys.exit(INCOMPLETE)


@contextmanager
def standard_input() -> Iterator[str]:
    """Standard input as a file: a report reads its capture twice."""
    with NamedTemporaryFile(suffix=".pcap") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield copy.name


@contextmanager
def counting_ctrl_c() -> Iterator[list[int]]:
    """A list that Ctrl-C adds to, so that the packet that is on its way can be finished; pressed again, it raises KeyboardInterrupt as ever."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def press(number: int, _frame: FrameType | None) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress(doing: str) -> Iterator[Progressed]:
    """A bar, when somebody watches."""
    columns = (TextColumn(doing), BarColumn(), TextColumn("{task.fields[packets]} packets"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=1.0, packets=0)
        yield lambda fraction, packets: bar.update(task, completed=fraction, packets=packets)


def play(path: str, replay: Replay, write: Path | None = None, interrupts: Sequence[int] = ()) -> Result:
    """Feed a whole capture, or until there is something in `interrupts`, with a progress bar when somebody watches."""
    with ExitStack() as stack:
        capture = stack.enter_context(Capture(path))
        writer = stack.enter_context(CaptureWriter(write)) if write is not None else None
        tell = stack.enter_context(progress("replaying"))
        take = quick_lane(replay, capture.link_types, opens=not isinstance(replay, Chooser)) if writer is None else _declined  # the quick lane makes no packets that could be written
        for frame in capture.frames():
            record = capture.records
            if not take(frame, record) and (captured := capture.packet(frame)) is not None:
                for packet in replay.feed(captured):
                    if writer is not None:  # an ICMP error of the director is whole, whatever was cut off the packet that it answers
                        writer.write(captured.time, packet.raw, captured.missing if packet.length >= len(captured.data) else 0)
            if not record & 1023:
                tell(capture.fraction, record)
            if interrupts:
                break
        result = replay.result(capture)
        if not interrupts:
            return result
        note = f"Interrupted after record {result.records}: everything here is about the capture up to that record."
        return evolve(result, interrupted=True, notes=(note, *result.notes))


def _declined(frame: Frame, record: int) -> bool:
    return False


def show(result: Result) -> None:
    """Print the listing and the tables."""
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)

    def table(title: str, text: str, numbers: str) -> Table:
        made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for head in text.split(","):
            made.add_column(head)
        for head in numbers.split(","):
            made.add_column(head, justify="right")
        return made

    console.print(summary(result), markup=False, soft_wrap=True)
    for note in result.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print()
    console.print(result.listing.rstrip(), markup=False, soft_wrap=True)
    console.print()
    servers = table("Servers", "service,server,method", "weight,conns,share,pkts in,pkts out,bytes in,bytes out,lost,active,inactive")
    for row in result.servers:
        counts = (row.inpkts, row.outpkts, row.inbytes, row.outbytes, row.lost, row.active, row.inactive)
        servers.add_row(row.service, row.server, row.method, *map(str, (row.weight, row.connections)), f"{row.share:.1%}", *map(str, counts))
    console.print(servers)
    console.print()
    fates = table("What became of the packets", "packet,why,verdict,went", "packets,first record")
    for fate in result.outcomes:
        style = "red" if fate.lost else None
        fates.add_row(fate.what, fate.text, fate.verdict, WENT[fate.went], str(fate.packets), str(fate.first_record), style=style)
    console.print(fates)
    if result.left_out or result.passed_over:
        console.print()
        out = table("Not fed to IPVS", "why", "packets,first record")
        for left in result.left_out:
            out.add_row(left.why, str(left.packets), str(left.first_record))
        for what, count in result.passed_over.items():
            out.add_row(f"frames without IP: {what}", str(count), "")
        console.print(out)
    if result.problems:
        console.print()
        console.print(f"Not readable: {len(result.problems)}", markup=False)
        for problem in result.problems[:SHOWN_PROBLEMS]:
            console.print(f"  {problem}", markup=False, soft_wrap=True)
        if len(result.problems) > SHOWN_PROBLEMS:
            console.print(f"  and {len(result.problems) - SHOWN_PROBLEMS} more (--json lists all)", markup=False)
