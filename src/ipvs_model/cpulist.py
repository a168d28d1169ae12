"""Lists of CPUs as sysctls take and show them.

source: lib/bitmap-str.c, bitmap_parselist, bitmap_print_to_pagebuf
"""

from __future__ import annotations

import errno
from typing import Final

from ipvs_model.errors import IPVSError

UINT_MAX: Final = (1 << 32) - 1
BETWEEN: Final = " \t\n\v\f\r,"  #: what may stand between regions


def parse_cpulist(text: str, cpus: int) -> set[int]:
    """The CPUs that a list of numbers and ranges names: "0-3,8", "all", "N" for the last one, "0-7:1/2" for every other one.

    Raises IPVSError: EINVAL for what is no list, EOVERFLOW for a number of more than 32 bits, ERANGE for a CPU that is not there.

    >>> sorted(parse_cpulist("0,4-N:1/2", 8))
    [0, 4, 6]
    """
    found: set[int] = set()
    text = text.partition("\n")[0]
    at = 0
    while True:
        while at < len(text) and text[at] in BETWEEN:
            at += 1
        if at == len(text):
            return found
        at = _region(text, at, cpus, found)


def format_cpulist(cpus: set[int]) -> str:
    """The shortest list.

    >>> format_cpulist({0, 1, 2, 5})
    '0-2,5'
    """
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _region(text: str, at: int, cpus: int, found: set[int]) -> int:
    """Add the CPUs of one region; where it ends."""
    whole = text[at : at + 3].lower() == "all"
    first, last = 0, cpus - 1
    if whole:
        at += 3
    else:
        first, at = _number(text, at, cpus)
        last = first
        if text[at : at + 1] == "-":
            last, at = _number(text, at + 1, cpus)
            whole = True  # a range may have a pattern
    used = group = last + 1 & UINT_MAX
    if whole and text[at : at + 1] == ":":
        used, at = _number(text, at + 1, cpus)
        if text[at : at + 1] != "/":
            raise IPVSError(errno.EINVAL)
        group, at = _number(text, at + 1, cpus)
    if (at < len(text) and text[at] not in BETWEEN) or first > last or not group or used > group:
        raise IPVSError(errno.EINVAL)
    if last >= cpus:
        raise IPVSError(errno.ERANGE)
    found.update(cpu for cpu in range(first, last + 1) if (cpu - first) % group < used)
    return at


def _number(text: str, at: int, cpus: int) -> tuple[int, int]:
    """A number, or the last CPU for "N"; where it ends."""
    if text[at : at + 1] == "N":
        return cpus - 1, at + 1
    end = at
    while end < len(text) and text[end] in "0123456789":
        end += 1
    if end == at:
        raise IPVSError(errno.EINVAL)
    number = int(text[at:end])
    if number > UINT_MAX:
        raise IPVSError(errno.EOVERFLOW)
    return number, end
