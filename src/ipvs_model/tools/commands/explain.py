"""`ipvs-model explain`: packets step by step."""

import json
from collections.abc import Iterator
from pathlib import Path

import click

from ipvs_model.addresses import parse_endpoint
from ipvs_model.errors import IPVSError
from ipvs_model.packet import Packet
from ipvs_model.tools.commands.replay import Refusal, _marks, _pairs
from ipvs_model.tools.explain import Explainer, ExplainError, Walk
from ipvs_model.tools.packet_text import PacketTextError
from ipvs_model.tools.pcap import Capture, CaptureError
from ipvs_model.tools.replay import ANSWERS, ELSEWHERE, Mark, RulesError
from ipvs_model.tools.walk import as_json, as_mermaid, as_text

DEFAULT_LIMIT = 20


def _endpoint(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, int, int] | None:
    if value is None:
        return None
    try:
        return parse_endpoint(value)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong), context, option) from wrong


@click.command()
@click.argument("steps", nargs=-1, required=True, metavar="CAPTURE|STEP...")
@click.option("--rules", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Rules as ipvsadm -S writes them, # for comments.")
@click.option("--sysctl", "sysctls", callback=_pairs, multiple=True, metavar="NAME=VALUE", help="Set net.ipv4.vs.NAME first; repeatable.")
@click.option("--scheduler", metavar="NAME", help="What if every service used this scheduler?")
@click.option("--mark", "marks", callback=_marks, multiple=True, metavar="MARK=PROTO:ADDR[:PORT]", help="Packets that the firewall would mark; repeatable.")
@click.option("--answers", type=click.Choice(ANSWERS), default="nat", show_default=True, help="Answers to feed; all: direct routing and tunnels, too.")
@click.option("--only", callback=_endpoint, metavar="ADDR[:PORT]", help="Of a capture, explain packets of this host; the others are played all the same.")
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
    only: tuple[int, int, int] | None,
    limit: int,
    form: str | None,
) -> None:
    """Explain what IPVS does with packets: each decision with its kernel function, references and timers before and after.

    A STEP is one argument: a packet ("tcp 203.0.113.7:40000 > 192.0.2.1:80 S", or hexadecimal digits), a command ("ipvsadm ...", "sysctl NAME=VALUE"), or
    nothing, with +SECONDS in front where time passes first. A packet from a virtual address is an answer: it is fed as coming from the server of its
    connection.

    Exit status: 0; 2 wrong usage, a step that cannot be, or a file that cannot be read.
    """
    try:
        explainer = Explainer(rules.read_text(), sysctls=sysctls, scheduler=scheduler, marks=marks, answers=answers)
        if len(steps) == 1 and Path(steps[0]).is_file():
            walks = _capture(explainer, steps[0], only, limit)
        else:
            walks = explainer.steps(steps)
        if form == "mermaid":
            click.echo(as_mermaid(list(walks)), nl=False)
        elif form == "json":
            click.echo(json.dumps([as_json(walk) for walk in walks], indent=2))
        else:
            for number, walk in enumerate(walks):
                click.echo("\n" * (number > 0) + as_text(walk), nl=False)
    except (RulesError, UnicodeDecodeError) as wrong:
        raise Refusal(f"{rules}: {wrong}") from wrong
    except IPVSError as refused:
        raise Refusal(f"--sysctl or --scheduler refused: {refused.strerror or refused}") from refused
    except (ExplainError, PacketTextError, CaptureError, OSError) as wrong:
        raise Refusal(str(wrong)) from wrong


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
