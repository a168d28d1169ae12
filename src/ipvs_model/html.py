"""What notebooks show: the structures as tables, a packet's way as a numbered list.

All text is escaped, and nothing has a colour of its own, so that light and dark notebooks show it in theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from ipvs_model.addresses import format_addr, format_endpoint
from ipvs_model.flags import AF_INET, FWD_NAMES, IP_VS_CONN_F_FWD_MASK, IP_VS_SVC_F_ONEPACKET, IP_VS_SVC_F_PERSISTENT, conn_flag_names, proto_name

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.ipvs import Outcome
    from ipvs_model.service import Service

TABLE: Final = "color:inherit;background:transparent;border-collapse:collapse"
CELL: Final = "color:inherit;background:transparent;border:1px solid;padding:2px 8px;text-align:left;vertical-align:top"
LISTING_HEADS: Final = ("Prot", "Address:Port", "Scheduler, Forward", "Weight", "ActiveConn", "InActConn")
DEST_HEADS: Final = ("server", "forward", "weight", "active", "inactive", "persistent", "refcnt")


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a caption; the first cell of a row is what the others are about.

    >>> table("x < y", ("a",), [(1,)]).count("&lt;")
    1
    """
    title = f'<caption style="color:inherit;text-align:left;font-weight:bold">{escape(caption)}</caption>'
    lines = ["".join(_cell("th", head) for head in heads)] if heads else []
    lines += ["".join((_cell("th", first), *(_cell("td", value) for value in rest))) for first, *rest in rows]
    return f'<table style="{TABLE}">{title}{"".join(f"<tr>{line}</tr>" for line in lines)}</table>'


def _cell(tag: str, value: object) -> str:
    return f'<{tag} style="{CELL}">{escape(str(value))}</{tag}>'


def listing(text: str) -> str:
    """What `ipvsadm -Ln` prints, as a table: services, and below each its servers."""
    title, _, _, *lines = text.splitlines()
    rows = [words if words[0] == "->" else [*words[:2], " ".join(words[2:]), "", "", ""] for words in map(str.split, lines)]
    return table(title, LISTING_HEADS, rows)


def service(svc: Service) -> str:
    """A service's own fields, and its servers in the order in which the scheduler sees them."""
    scheduler = getattr(svc.scheduler, "name", "none")
    rows: list[tuple[str, object]] = [("scheduler", scheduler)]
    if svc.flags & IP_VS_SVC_F_PERSISTENT:
        mask = format_addr(AF_INET, svc.netmask) if svc.af == AF_INET else f"/{svc.netmask}"
        rows.append(("persistent", f"{svc.timeout / svc.ipvs.env.hz:g} s, clients told apart by {mask}"))
    if svc.flags & IP_VS_SVC_F_ONEPACKET:
        rows.append(("one packet", "every datagram is scheduled anew"))
    rows += zip(("connections", "packets in", "packets out", "bytes in", "bytes out"), svc.stats.live(), strict=True)
    dests = (
        (dest.key(), FWD_NAMES[dest.conn_flags & IP_VS_CONN_F_FWD_MASK], dest.weight, dest.activeconns, dest.inactconns, dest.persistconns, dest.refcnt)
        for dest in svc.destinations
    )
    return table(f"Service {svc.key()}", (), rows) + table("Servers", DEST_HEADS, dests)


def conn(cp: Conn) -> str:
    """A connection entry: who with whom, its state, its timer, and who holds it."""
    clock = cp.ipvs.clock
    left = f"fires in {(cp.expires - clock.now) / clock.hz:g} s" if cp.bucket is not None else "stopped"
    rows = [
        ("client", format_endpoint(cp.af, cp.client)),
        ("virtual", format_endpoint(cp.af, cp.virt)),
        ("server", format_endpoint(cp.daf, cp.real)),
        ("state", cp.state_name),
        ("timer", f"{left}; restarted with {cp.timeout / clock.hz:g} s"),
        ("flags", conn_flag_names(cp.flags)),
        ("refcnt", cp.refcnt),
        ("in_pkts", cp.in_pkts),
        ("n_control", cp.n_control),
        ("control", cp.control.key() if cp.control is not None else "none"),
    ]
    return table(f"{'Template' if cp.is_template else 'Connection'}, {proto_name(cp.protocol)}", (), rows)


def outcome(out: Outcome) -> str:
    """A packet's verdict, why, what left the host, and every decision on the way."""
    rows: list[tuple[str, object]] = [("verdict", out.verdict.name), ("reason", out.reason), ("hook", out.reason.hook.name)]
    rows += [("leaves", repr(packet)) for packet in out.emitted]
    if out.delivered is not None:
        rows.append(("the host gets", repr(out.delivered)))
    steps = "".join(f"<li><code>{escape(event.function)}</code> {escape(event.describe())}</li>" for event in out.reason.events)
    return table("Outcome", (), rows) + (f"<ol>{steps}</ol>" if steps else "")
