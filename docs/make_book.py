"""Tables and pictures of the book, made from the code: `python docs/make_book.py` writes them; a test holds the pages against it.

A table stands in a page between `<!-- table: WHAT -->` and `<!-- end -->`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Final

from ipvs_model import IPVS, Clock, Packet
from ipvs_model.datapath.hooks import HANDLERS
from ipvs_model.fields import Field
from ipvs_model.sysctl import VARS, Var
from ipvs_model.timers import LVL_DEPTH, FunctionTimer, lvl_gran, lvl_start
from ipvs_model.tools.states import DIRECTIONS, as_svg, machine
from ipvs_model.tools.walk import PHASES
from ipvs_model.transmit.action import REASONS

DOCS: Final = Path(__file__).parent
MARKER: Final = re.compile(r"(<!-- table: (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)
HZ: Final = 250


# --- tables -------------------------------------------------------------------------------------------------------------


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def fields(name: str) -> str:
    """A FIELDS table: members of a kernel structure beside what the model has for them."""
    module, _, attribute = name.rpartition(".")
    rows: list[Field] = getattr(import_module(module), attribute)
    return table(("kernel", "here", "type", "kept as", "note"), ((code(row.name), code(row.python), row.width, row.kind, row.note) for row in rows))


def states(protocol: str) -> str:
    """States, timeouts, and whether they count as active."""
    shown = machine(protocol)
    rows = ((code(code_), state.name, f"{state.timeout} s", "active" if state.active else "inactive") for code_, state in zip(shown.codes, shown.states, strict=True))
    return table(("", "state", "timeout", "counts as"), rows)


def transitions(what: str) -> str:
    """One direction of a state machine: event down, present state across, next state in the cell; what stays is a dot."""
    protocol, direction = what.split()
    shown = machine(protocol)
    rows = []
    for event, cells in shown.rows[direction].items():
        rows.append((event, *("·" if present == following else shown.codes[following] for present, following in enumerate(cells))))
    return table((DIRECTIONS[direction], *shown.codes), rows)


def levels(hz: str) -> str:
    """Levels of the timer wheel."""
    rate = int(hz)
    rows = []
    for level in range(LVL_DEPTH):
        start, end = lvl_start(level), lvl_start(level + 1) - 1
        rows.append((level, seconds(start, rate), seconds(end, rate), f"{lvl_gran(level):,}", seconds(lvl_gran(level), rate)))
    return table(("level", "delays from", "to", "grain in jiffies", "latest"), rows)


def seconds(jiffies: int, hz: int) -> str:
    return f"{jiffies / hz:,.3f}".rstrip("0").rstrip(".") + " s"


def sysctls(_: str) -> str:
    """All sysctls, with the values that a namespace begins with."""
    ipvs = IPVS()
    return table(("sysctl", "default", "values"), ((code(var.name), ipvs.sysctl_read(var.name).strip().replace("\t", " "), _permitted(var)) for var in VARS))


def _permitted(var: Var) -> str:
    if var.kind not in ("int", "seconds", "ulong"):
        return {"pair": "threshold and period", "cpulist": "CPUs"}.get(var.kind, var.kind)
    limited = var.low > -(1 << 31) or var.high < (1 << 31) - 1
    unit = "seconds" if var.kind == "seconds" else ""
    return ", ".join(filter(None, (unit, f"{var.low} to {var.high}" if limited else "" if unit else "any")))


def events(_: str) -> str:
    """Every event, by what the kernel is about."""
    return table(("event", "about", "what it says"), ((code(kind.__name__), phase, (kind.__doc__ or "").splitlines()[0]) for kind, phase in PHASES.items()))


def hooks(_: str) -> str:
    """The functions of each hook, in the order in which they see a packet."""
    names = {"ip_vs_out_hook": "the packet of a server: find its entry, translate it", "ip_vs_in_hook": "the packet of a client: find or make its entry, send it"}
    names["ip_vs_forward_icmp"] = "an ICMP error that passes through, about a packet of a virtual address"
    rows = []
    for hook, functions in HANDLERS.items():
        for function in functions:
            name = f"ip_vs_{function.__name__}".replace("ip_vs_ip_vs_", "ip_vs_")
            rows.append((code(hook.name), code(name), names[name]))
    return table(("hook", "function", "what it is for"), rows)


def reasons(_: str) -> str:
    """Every reason that an outcome may give."""
    return table(("`reason.code`", "in words"), ((code(name), words) for name, words in REASONS.items()))


TABLES: Final[dict[str, Callable[[str], str]]] = {
    "fields": fields, "states": states, "transitions": transitions, "levels": levels, "sysctls": sysctls, "events": events,
    "hooks": hooks, "reasons": reasons,
}  # fmt: skip


def fill(text: str) -> str:
    """A page with its tables as the code has them."""

    def made(match: re.Match[str]) -> str:
        kind, _, what = match[2].partition(" ")
        return f"{match[1]}\n{TABLES[kind](what)}\n{match[3]}"

    return MARKER.sub(made, text)


# --- pictures -----------------------------------------------------------------------------------------------------------


def svg(width: int, height: int, parts: Iterable[str], title: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" role="img">'
    marker = '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z"/></marker></defs>'
    return "\n".join([head, f"<title>{escape(title)}</title>", marker, f'<rect width="{width}" height="{height}" rx="6" fill="#fff"/>', *parts, "</svg>", ""])


def box(x: int, y: int, lines: Sequence[str], fill_: str) -> list[str]:
    """A box of 250 by 22 for each line."""
    parts = [f'<rect x="{x}" y="{y}" width="250" height="{10 + 18 * len(lines)}" rx="5" fill="{fill_}" stroke="#444"/>']
    weights = ["bold", *["normal"] * len(lines)]
    return parts + [
        f'<text x="{x + 8}" y="{y + 18 + 18 * n}" font-size="12" font-weight="{weight}">{escape(line)}</text>'
        for n, (line, weight) in enumerate(zip(lines, weights, strict=False))
    ]


def arrow(x1: int, y1: int, x2: int, y2: int, words: str, dashed: bool = False) -> str:
    style = ' stroke-dasharray="5 3"' if dashed else ""
    return (
        f'<path d="M{x1} {y1}L{x2} {y2}" stroke="#222"{style} marker-end="url(#tip)"/>'
        f'<text x="{(x1 + x2) // 2}" y="{(y1 + y2) // 2 - 5}" font-size="11" fill="#57606a" text-anchor="middle">{escape(words)}</text>'
    )


def structures() -> str:
    """A persistent service with two servers and two clients, as it hangs together after three connections: who refers to whom, and the counts."""
    ipvs = IPVS()
    web = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr", persistent=300)
    for address in ("10.1.0.11:8080", "10.1.0.12:8080"):
        ipvs.add_dest(web, address)
    for client in ("203.0.113.7:40000", "203.0.113.7:40001", "203.0.113.8:40000"):
        ipvs.receive(Packet.tcp(client, "192.0.2.1:80", "S"))
    parts = ['<text x="20" y="24" font-size="13">service</text><text x="360" y="24" font-size="13">destinations, newest first</text>']
    parts.append('<text x="700" y="24" font-size="13">entries and templates</text>')
    parts += box(20, 150, [str(web.key()), "persistent 300 s, rr", f"refcnt {web.refcnt}"], "#dbe9f6")
    places = {}
    for number, dest in enumerate(web.destinations):
        y = 60 + number * 190
        places[id(dest)] = y + 30
        counts = f"active {dest.activeconns}, inactive {dest.inactconns}, templates {dest.persistconns}"
        parts += box(360, y, [str(dest.key()), counts, f"refcnt {dest.refcnt}"], "#e3f1e1")
        parts.append(arrow(360, y + 30, 272, 180, "svc"))
    tops = {}
    entries = sorted(ipvs.ns.conns, key=lambda cp: (cp.dest is not web.destinations[0], not cp.is_template, cp.client))
    for number, cp in enumerate(entries):
        y = 40 + number * 72
        tops[id(cp)] = y + 20
        client = str(cp.key()).split(" -> ")[0]
        parts += box(700, y, [f"{'template ' if cp.is_template else ''}{client}", f"refcnt {cp.refcnt}, n_control {cp.n_control}"], "#fbeed5" if cp.is_template else "#f4f4f4")
        parts.append(arrow(700, y + 20, 612, places[id(cp.dest)], "dest"))
    for cp in entries:
        if cp.control is not None:
            up, down = tops[id(cp.control)], tops[id(cp)]
            middle = 965 + (down - up) // 4
            parts.append(f'<path d="M950 {down}C{middle} {down} {middle} {up} 952 {up}" fill="none" stroke="#222" stroke-dasharray="5 3" marker-end="url(#tip)"/>')
            parts.append(f'<text x="{middle - 4}" y="{(up + down) // 2 + 4}" font-size="11" fill="#57606a">control</text>')
    return svg(1060, 420, parts, "service, destinations, entries, templates")


def wheel() -> str:
    """How late a timer fires: the bound, and timers armed at the boot jiffy, with delays as IPVS uses them marked."""
    from math import log10

    width, height, left, bottom = 760, 360, 70, 310
    low, high = 0.1, 1030.0

    def x(seconds: float) -> float:
        return left + (width - left - 20) * log10(seconds / low) / log10(high / low)

    def y(late: float) -> float:
        return bottom - (bottom - 30) * late / 20

    parts = [f'<path d="M{left} 30V{bottom}H{width - 20}" fill="none" stroke="#222"/>']
    for late in range(0, 21, 4):
        parts.append(f'<text x="{left - 8}" y="{y(late) + 4:.1f}" font-size="11" text-anchor="end">{late} s</text>')
    for seconds in (0.1, 1, 10, 100, 1000):
        parts.append(f'<text x="{x(seconds):.1f}" y="{bottom + 18}" font-size="11" text-anchor="middle">{seconds:g} s</text>')
    path = ""
    for level in range(LVL_DEPTH):
        start, end = max(lvl_start(level) / HZ, low), min(lvl_start(level + 1) / HZ, high)
        if start < end:
            path += f"M{x(start):.1f} {y(lvl_gran(level) / HZ):.1f}H{x(end):.1f}"
    parts.append(f'<path d="{path}" stroke="#d9822b" stroke-width="2" fill="none"/>')
    dots = "".join(f"M{x(delay):.1f} {y(lateness(delay)):.1f}h.01" for delay in (low * 1.035**n for n in range(270)) if delay < high)
    parts.append(f'<path d="{dots}" stroke="#1f6fb2" stroke-width="3" stroke-linecap="round"/>')
    for delay in (10, 60, 120, 300, 900):
        parts.append(f'<path d="M{x(delay):.1f} {bottom}V40" stroke="#888" stroke-dasharray="2 3"/><text x="{x(delay) - 3:.1f}" y="38" font-size="11" text-anchor="end">{delay} s</text>')
    parts.append(f'<text x="{left + 10}" y="52" font-size="12" fill="#d9822b">at most so late</text><text x="{left + 10}" y="70" font-size="12" fill="#1f6fb2">armed now</text>')
    parts.append(f'<text x="{(left + width) // 2}" y="{height - 8}" font-size="12" text-anchor="middle">delay asked for</text>')
    return svg(width, height, parts, "lateness of kernel timers by delay, HZ 250")


def lateness(seconds: float) -> float:
    """Seconds that a timer of this delay fires after its expiry, armed at the boot jiffy."""
    clock = Clock(HZ)
    timer = FunctionTimer(lambda: None)
    clock.mod_timer(timer, clock.now + round(seconds * HZ))
    due = clock.next_deadline()
    assert due is not None
    return (due - timer.expires) / HZ


PICTURES: Final[dict[str, Callable[[], str]]] = {
    "tcp": lambda: as_svg(machine("tcp"), ("INPUT", "OUTPUT")),
    "sctp": lambda: as_svg(machine("sctp"), ("INPUT", "OUTPUT")),
    "structures": structures,
    "wheel": wheel,
}


def pages() -> list[Path]:
    """Pages of the book."""
    return sorted(page for page in DOCS.glob("**/*.md") if "_build" not in page.parts)


def main() -> None:
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := fill(text)) != text:
            page.write_text(new, encoding="utf-8")
    for name, draw in PICTURES.items():
        (DOCS / "pictures" / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
