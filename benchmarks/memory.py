"""M1: what a connection weighs, measured in a process of its own."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tracemalloc

from benchmarks.goals import GOALS
from benchmarks.measure import Case, Figure
from benchmarks.traffic import connect, director

PROGRAM = "from benchmarks.memory import {0}; {0}({1})"


def resident() -> int:
    """Resident bytes of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def weigh_resident(conns: int) -> None:
    """Print the growth of the resident set for each of so many established connections."""
    connect(director(), 1000)  # everything is imported and warm
    gc.collect()
    before = resident()
    ipvs = director()
    connect(ipvs, conns)
    print(json.dumps((resident() - before) / conns))


def weigh_objects(conns: int) -> None:
    """Print the bytes that Python's allocator gave for each."""
    connect(director(), 1000)
    gc.collect()
    tracemalloc.start()
    ipvs = director()
    connect(ipvs, conns)
    gc.collect()
    print(json.dumps(tracemalloc.get_traced_memory()[0] / conns))


def in_fresh_process(function: str, conns: int, times: int = 1) -> tuple[float, ...]:
    """What the function prints, once for each fresh process."""
    command = [sys.executable, "-c", PROGRAM.format(function, conns)]
    return tuple(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(times))


def resident_bytes(conns: int = 1_000_000) -> Figure:
    """The figure of M1."""
    return Figure("M1", f"resident bytes a connection, {conns:,} established", "B", in_fresh_process("weigh_resident", conns), GOALS["M1"])


def object_bytes(conns: int = 200_000) -> Figure:
    """The same by tracemalloc."""
    return Figure("M1.py", f"the same by tracemalloc, {conns:,}", "B", in_fresh_process("weigh_objects", conns))


CASES = [Case("M1", "", resident_bytes), Case("M1.py", "", object_bytes)]
