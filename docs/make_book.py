"""Tables and pictures of the book, made from the code: `python docs/make_book.py` writes them; a test holds the pages against it.

A table stands in a page between `<!-- table: WHAT -->` and `<!-- end -->`.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from struct import calcsize
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside this one, also where a test loads it

import pictures_path
import pictures_states
import pictures_structures
import pictures_timers

from ipvs_model import IPVS
from ipvs_model.datapath.hooks import HANDLERS
from ipvs_model.fields import Field
from ipvs_model.sysctl import VARS, Var
from ipvs_model.timers import LVL_DEPTH, lvl_gran, lvl_start
from ipvs_model.tools.states import DIRECTIONS, machine
from ipvs_model.tools.walk import PHASES
from ipvs_model.transmit.action import REASONS

DOCS: Final = Path(__file__).parent
MARKER: Final = re.compile(r"(<!-- table: (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


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


def sysctls(names: str) -> str:
    """Sysctls with the values that a namespace begins with: those that are named, or all."""
    ipvs, wanted = IPVS(), names.split()
    shown = [var for var in VARS if not wanted or var.name in wanted]
    return table(("sysctl", "default", "values"), ((code(var.name), ipvs.sysctl_read(var.name).strip().replace("\t", " "), _permitted(var)) for var in shown))


def _permitted(var: Var) -> str:
    if var.kind not in ("int", "seconds", "ulong"):
        return {"pair": "threshold and period", "cpulist": "CPUs"}.get(var.kind, var.kind)
    limited = var.low > -(1 << 31) or var.high < (1 << 31) - 1
    unit = "seconds" if var.kind == "seconds" else ""
    return ", ".join(filter(None, (unit, f"{var.low} to {var.high}" if limited else "" if unit else "any")))


def events(_: str) -> str:
    """Every event, by what the kernel is about."""
    return table(("event", "about", "what it says"), ((code(kind.__name__), phase, (kind.__doc__ or "").splitlines()[0]) for kind, phase in PHASES.items()))


#: what each hook function is for
HOOK_FUNCTIONS: Final = {
    "ip_vs_out_hook": "the packet of a server: find its entry, translate it",
    "ip_vs_in_hook": "the packet of a client: find or make its entry, send it",
    "ip_vs_forward_icmp": "an ICMP error that passes through, about a packet of a virtual address",
}


def hooks(_: str) -> str:
    """The functions of each hook, in the order in which they see a packet."""
    rows = []
    for hook, functions in HANDLERS.items():
        for function in functions:
            rows.append((code(hook.name), code(function.__name__), HOOK_FUNCTIONS[function.__name__]))
    return table(("hook", "function", "what it is for"), rows)


def reasons(_: str) -> str:
    """Every reason that an outcome may give."""
    return table(("`reason.code`", "in words"), ((code(name), words) for name, words in REASONS.items()))


def wire(name: str) -> str:
    """A format on the wire, field by field."""
    module, _, attribute = name.rpartition(".")
    rows, offset = [], 0
    for field, form in getattr(import_module(module), attribute):
        size = calcsize(">" + form)
        rows.append((offset, size, code(field)))
        offset += size
    return table(("offset", "bytes", "field"), rows)


TABLES: Final[dict[str, Callable[[str], str]]] = {
    "fields": fields, "states": states, "transitions": transitions, "levels": levels, "sysctls": sysctls, "events": events,
    "hooks": hooks, "reasons": reasons, "wire": wire,
}  # fmt: skip


def fill(text: str) -> str:
    """A page with its tables as the code has them."""

    def made(match: re.Match[str]) -> str:
        kind, _, what = match[2].partition(" ")
        return f"{match[1]}\n{TABLES[kind](what)}\n{match[3]}"

    return MARKER.sub(made, text)


# --- pictures -----------------------------------------------------------------------------------------------------------


PICTURES: Final[dict[str, Callable[[], str]]] = {
    "tcp": pictures_states.ordinary,
    **{
        f"{protocol}_{direction.lower()}": partial(pictures_states.all_transitions, protocol, direction)
        for protocol, directions in (("tcp", ("INPUT", "OUTPUT", "INPUT_ONLY")), ("udp", ("INPUT",)), ("sctp", ("INPUT", "OUTPUT", "INPUT_ONLY")))
        for direction in directions
    },
    "structures": pictures_structures.structures,
    "references": pictures_structures.references,
    "wheel": pictures_timers.wheel,
    "buckets": pictures_timers.buckets,
    "headers": pictures_path.headers,
    "nat_direct": pictures_path.nat_direct,
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
