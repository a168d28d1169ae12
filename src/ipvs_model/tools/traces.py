"""Recorded kernel traces: reading them, and refusing what is damaged with the place of the damage.

A file holds one scenario a line as JSON, gzip-compressed or not; the format is that of the recorder (see docs/verification.md).
"""

from __future__ import annotations

import binascii
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from attrs import frozen

#: what each operation needs beside "op" and "at"
OPERANDS: Final[Mapping[str, Mapping[str, type]]] = {
    "ipvsadm": {"args": str, "rc": int},
    "sysctl": {"name": str, "value": str, "rc": int},
    "sh": {"cmd": str, "rc": int},
    "packet": {"dev": str, "hex": str},
    "to": {"jiffies": int},
    "dump": {"files": dict},
}

GZIP_MAGIC: Final = b"\x1f\x8b"


class TraceError(ValueError):
    """A trace file cannot be read: says which file, which line (counted from 1), and why."""

    def __init__(self, path: str, line: int, why: str) -> None:
        super().__init__(f"{path}:{line}: {why}")
        self.path = path
        self.line = line
        self.why = why

    def __reduce__(self) -> tuple[type[TraceError], tuple[str, int, str]]:
        return type(self), (self.path, self.line, self.why)


@frozen
class Step:
    """One step of a scenario and what the kernel did.

    ``at``: jiffies since the start when the step began and ended. ``operands``: what its operation needs (`OPERANDS`), "rc" and "files" included.
    """

    op: str
    at: tuple[int, int]
    operands: Mapping[str, Any]
    out: tuple[str, ...] = ()  #: lines that a command printed
    emitted: tuple[tuple[str, bytes], ...] = ()  #: packets that left, with their device

    def __str__(self) -> str:
        operands = self.operands
        match self.op:
            case "packet":
                return f"packet {operands['dev']} {operands['hex']}"
            case "to":
                return f"to {operands['jiffies']}"
            case "sysctl":
                return f"sysctl {operands['name']}={operands['value']}"
            case "ipvsadm":
                return f"ipvsadm {operands['args']}"
            case "sh":
                return f"sh {operands['cmd']}"
            case _:
                return self.op


@frozen
class Trace:
    """A scenario: the machine's clock at its start (32 bits), and the steps."""

    name: str
    kernel: str
    hz: int
    start_jiffies: int
    estimation: bool
    steps: tuple[Step, ...]


def read_traces(path: str | Path) -> Iterator[Trace]:
    """The scenarios of a file, in order. Raises TraceError at the first damaged line, OSError if the file cannot be opened."""
    name = str(path)
    for number, line in _lines(name):
        if line.strip():
            yield parse_trace(name, number, line)


def parse_trace(path: str, number: int, line: str) -> Trace:
    """A scenario from line ``number`` of the file. Raises TraceError."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise TraceError(path, number, f"not JSON at column {error.colno} of {len(line)}: {error.msg}") from None
    place = _Place(path, number)
    if not isinstance(value, dict):
        place.fail("not an object")
    name = place.member(value, "name", str)
    place = _Place(path, number, f'scenario "{name}"')
    hz = place.member(value, "hz", int)
    start = place.member(value, "start_jiffies", int)
    kernel = place.member(value, "kernel", str)
    if hz <= 0 or not 0 <= start < 1 << 32:
        place.fail(f"hz={hz}, start_jiffies={start}: out of range")
    steps = []
    before = 0
    for index, item in enumerate(place.member(value, "steps", list)):
        step = _step(_Place(path, number, f'scenario "{name}", step {index}'), item, before)
        before = step.at[1]
        steps.append(step)
    return Trace(name, kernel, hz, start, bool(value.get("estimation")), tuple(steps))


def _lines(path: str) -> Iterator[tuple[int, str]]:
    with open(path, "rb") as plain:
        packed = plain.read(2) == GZIP_MAGIC
    number = 0
    with gzip.open(path, "rb") if packed else open(path, "rb") as file:
        while True:
            try:
                data = file.readline()
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise TraceError(path, number + 1, f"the file is cut off or damaged here: {error}") from None
            if not data:
                return
            number += 1
            try:
                line = data.decode()
            except UnicodeDecodeError as error:
                raise TraceError(path, number, f"not UTF-8 at byte {error.start}") from None
            yield number, line


@frozen
class _Place:
    """Where in a file we are, for messages."""

    path: str
    line: int
    what: str = ""

    def fail(self, why: str) -> NoReturn:
        raise TraceError(self.path, self.line, f"{self.what}: {why}" if self.what else why)

    def member(self, value: Mapping[str, Any], key: str, kind: type) -> Any:
        if key not in value:
            self.fail(f'"{key}" is missing')
        found = value[key]
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            self.fail(f'"{key}" is {json.dumps(found)[:60]}, wants {kind.__name__}')
        return found

    def lines(self, value: Any, what: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
            self.fail(f"{what} is not a list of lines")
        return tuple(value)

    def packet(self, text: Any) -> bytes:
        try:
            return binascii.unhexlify(text)
        except (ValueError, TypeError):
            self.fail(f"not a packet in hexadecimal: {json.dumps(text)[:60]}")


def _step(place: _Place, value: Any, before: int) -> Step:
    if not isinstance(value, dict):
        place.fail("not an object")
    op = place.member(value, "op", str)
    if op not in OPERANDS:
        place.fail(f'unknown operation "{op}"')
    at = place.member(value, "at", list)
    if len(at) != 2 or not all(type(jiffies) is int for jiffies in at) or not before <= at[0] <= at[1]:
        place.fail(f'"at" is {json.dumps(at)[:60]}, wants two jiffies that do not go back (the step before ended at {before})')
    operands = {key: place.member(value, key, kind) for key, kind in OPERANDS[op].items()}
    if op == "packet":
        place.packet(operands["hex"])
    elif op == "to" and operands["jiffies"] > at[1]:
        place.fail(f'"to" {operands["jiffies"]} ended before that, at {at[1]}')
    elif op == "dump":
        operands["files"] = {name: place.lines(text, f'file "{name}"') for name, text in operands["files"].items()}
    emitted = []
    for pair in place.member({"emitted": [], **value}, "emitted", list):
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            place.fail(f'"emitted" holds {json.dumps(pair)[:60]}, wants [device, packet]')
        emitted.append((pair[0], place.packet(pair[1])))
    return Step(op, (at[0], at[1]), operands, place.lines(value.get("out", []), '"out"'), tuple(emitted))
