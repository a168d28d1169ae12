"""Rows of the ``FIELDS`` tables: each member of a kernel structure beside what the model has for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from attrs import frozen

KINDS: Final = ("slot", "ext", "derived", "not modelled")


@frozen
class Field:
    """One member of a kernel structure.

    ``kind``: "slot" (an attribute of the hot object), "ext" (an attribute kept apart because it is rare), "derived" (a property or a
    table that gives the same answer), "not modelled" (``note`` says why). ``older``: names that 2.6/3.x-era texts use for it.
    """

    name: str  #: the kernel's name
    python: str  #: the attribute or expression here; "" when not modelled
    width: str  #: the kernel's type
    kind: str
    note: str = ""
    older: tuple[str, ...] = ()


def names(fields: Iterable[Field]) -> set[str]:
    """All kernel names in a table, present and older."""
    return {name for field in fields for name in (field.name, *field.older)}


def render(fields: Iterable[Field]) -> str:
    """A table as text, for docs."""
    rows: list[Mapping[str, str]] = [{"kernel": f.name, "here": f.python or "-", "width": f.width, "kind": f.kind, "note": f.note} for f in fields]
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in ("kernel", "here", "width", "kind")}
    lines = [f"{'kernel':{widths['kernel']}}  {'here':{widths['here']}}  {'width':{widths['width']}}  {'kind':{widths['kind']}}  note"]
    lines += [
        f"{r['kernel']:{widths['kernel']}}  {r['here']:{widths['here']}}  {r['width']:{widths['width']}}  {r['kind']:{widths['kind']}}  {r['note']}"
        for r in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
