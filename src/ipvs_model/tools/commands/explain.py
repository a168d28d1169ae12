"""`ipvs-model explain`: packets step by step."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final

import click
from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.text import Text
from rich.theme import Theme

from ipvs_model.addresses import parse_addr, parse_endpoint
from ipvs_model.errors import IPVSError
from ipvs_model.packet import Packet
from ipvs_model.tools.commands.replay import Refusal, _marks, _pairs
from ipvs_model.tools.explain import Explainer, ExplainError, Walk
from ipvs_model.tools.explain_follow import Follower
from ipvs_model.tools.packet_text import PacketTextError
from ipvs_model.tools.pcap import Capture, CaptureError
from ipvs_model.tools.replay import ANSWERS, ELSEWHERE, Mark, RulesError
from ipvs_model.tools.walk import as_json, as_mermaid, as_text

DEFAULT_LIMIT: Final = 20
#: parts of a walk → their colour on a terminal
THEME: Final = Theme(
    {
        "walk.step": "bold", "walk.number": "dim", "walk.phase": "cyan", "walk.function": "blue", "walk.sent": "bold green", "walk.accepted": "bold yellow",
        "walk.dropped": "bold red", "walk.leaves": "green", "walk.debug": "magenta",
    }
)  # fmt: skip


class WalkHighlighter(RegexHighlighter):
    """The parts of a walk's text."""

    base_style = "walk."
    highlights: ClassVar[list[str]] = [
        r"(?m)^(?P<step>\d+  at .*)$",
        r"(?m)^   (?P<number>\d+\.\d+) +(?P<phase>\w+) +(?P<function>\S+)",
        r"(?m)^   (?P<sent>STOLEN): ",
        r"(?m)^   (?P<accepted>ACCEPT): ",
        r"(?m)^   (?P<dropped>DROP): ",
        r"(?m)^   (?P<leaves>leaves: .*)$",
        r"(?P<debug><debug \d+> .*)$",
    ]



def _endpoint(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, int, int] | None:
    if value is None:
        return None
    try:
        return parse_endpoint(value)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong), context, option) from wrong


def _addresses(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            parse_addr(value)
        except ValueError as wrong:
            raise click.BadParameter(str(wrong), context, option) from wrong
    return values


@click.command()
@click.argument("steps", nargs=-1, required=True, metavar="CAPTURE|STEP...")
@click.option("--rules", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Rules as ipvsadm -S writes them, # for comments.")
@click.option("--sysctl", "sysctls", callback=_pairs, multiple=True, metavar="NAME=VALUE", help="Set net.ipv4.vs.NAME first; repeatable.")
@click.option("--scheduler", metavar="NAME", help="What if every service used this scheduler?")
@click.option("--mark", "marks", callback=_marks, multiple=True, metavar="MARK=PROTO:ADDR[:PORT]", help="Packets that the firewall would mark; repeatable.")
@click.option("--answers", type=click.Choice(ANSWERS), default="nat", show_default=True, help="Answers to feed; all: direct routing and tunnels, too.")
@click.option("--address", "addresses", callback=_addresses, multiple=True, metavar="ADDR", help="An address of the director beside the virtual ones; repeatable.")
@click.option("--local-stack", is_flag=True, help="Tell what the director's own stack, on which nothing listens, answers to a packet that it gets.")
@click.option("--kernel-debug", is_flag=True, help="Add the lines that a kernel with CONFIG_IP_VS_DEBUG would have logged, with their level.")
@click.option("--only", callback=_endpoint, metavar="ADDR[:PORT]", help="Of a capture, explain packets of this host; the others are played all the same.")
@click.option("--follow", is_flag=True, help="Follow one connection to its end: the first, or the first of --only. Time goes on until it is gone.")
@click.option("--limit", default=DEFAULT_LIMIT, show_default=True, type=click.IntRange(min=1), help="Of a capture, packets to explain.")
@click.option("--mermaid", "form", flag_value="mermaid", help="A Mermaid sequence diagram instead.")
@click.option("--json", "form", flag_value="json", help="A JSON array instead.")
def command(
    steps: tuple[str, ...],
    rules: Path,
    sysctls: tuple[tuple[str, str], ...],
    scheduler: str | None,
    marks: tuple[Mark, ...],
    answers: str,
    addresses: tuple[str, ...],
    local_stack: bool,
    kernel_debug: bool,
    only: tuple[int, int, int] | None,
    follow: bool,
    limit: int,
    form: str | None,
) -> None:
    """Explain what IPVS does with packets: each decision with its kernel function, references and timers before and after.

    A STEP is one argument: a packet ("tcp 203.0.113.7:40000 > 192.0.2.1:80 S", or hexadecimal digits), a command ("ipvsadm ...", "sysctl NAME=VALUE",
    "modprobe ip_vs_ftp"), or nothing, with +SECONDS in front where time passes first. A packet from a virtual address is an answer: it is fed as coming from
    the server of its connection.

    Exit status: 0; 2 wrong usage, a step that cannot be, or a file that cannot be read.
    """
    try:
        explainer = Explainer(
            rules.read_text(), sysctls=sysctls, scheduler=scheduler, marks=marks, answers=answers, addresses=addresses, local_stack=local_stack,
            kernel_debug=kernel_debug,
        )  # fmt: skip
        is_capture = len(steps) == 1 and Path(steps[0]).is_file()
        if follow:
            _follow(Follower(explainer, only), steps, is_capture, form)
        else:
            _show(_capture(explainer, steps[0], only, limit) if is_capture else explainer.steps(steps), form)
    except (RulesError, UnicodeDecodeError) as wrong:
        raise Refusal(f"{rules}: {wrong}") from wrong
    except IPVSError as refused:
        raise Refusal(f"--sysctl or --scheduler refused: {refused.strerror or refused}") from refused
    except (ExplainError, PacketTextError, CaptureError, OSError) as wrong:
        raise Refusal(str(wrong)) from wrong


def _follow(follower: Follower, steps: tuple[str, ...], is_capture: bool, form: str | None) -> None:
    """A connection's life, and in a text its sum."""
    if is_capture:
        with Capture(steps[0]) as capture:
            _show(follower.capture(capture), form, timers=True)
    else:
        _show(follower.steps(steps), form, timers=True)
    if form is None:
        late = follower.late / follower.explainer.ipvs.clock.hz
        click.echo(f"\nIts states: {', '.join(follower.states)}. Its timer fired {late:g} s late.")


def _show(walks: Iterable[Walk], form: str | None, *, timers: bool = False) -> None:
    if form == "mermaid":
        click.echo(as_mermaid(list(walks), timers=timers), nl=False)
    elif form == "json":
        click.echo(json.dumps([as_json(walk) for walk in walks], indent=2))
    else:
        console, highlight = Console(theme=THEME, highlight=False), WalkHighlighter()
        for number, walk in enumerate(walks):
            text = Text("\n" * (number > 0) + as_text(walk))
            highlight.highlight(text)
            console.print(text, soft_wrap=True, end="")


def _capture(explainer: Explainer, path: str, only: tuple[int, int, int] | None, limit: int) -> Iterator[Walk]:
    """The packets of a capture that have to do with IPVS, as far as they are wanted."""
    with Capture(path) as capture:
        for captured in capture:
            if only is not None and not _of(Packet.parse(captured.data), only):
                explainer.feed(captured)
                continue
            walk = explainer.packet(captured)
            if walk.kind == ELSEWHERE:
                continue
            yield walk
            limit -= 1
            if not limit:
                return


def _of(packet: Packet, host: tuple[int, int, int]) -> bool:
    af, addr, port = host
    return packet.af == af and any(end >> 16 == addr and port in (0, end & 0xFFFF) for end in (packet.src, packet.dst))
