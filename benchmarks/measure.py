"""How a figure is taken: alternatives interleaved in one process, CPU time, the ratio formed inside each round, median and spread.

A ratio moves far less than a time when the machine is busy with other things; absolute times are printed only to give a feeling.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

from attrs import frozen

ROUNDS = 9


@frozen
class Figure:
    """One measured case: ratios of the case to its floor, a round each; ``limit`` is the goal called good."""

    id: str
    what: str
    unit: str
    ratios: tuple[float, ...]
    limit: float
    nanoseconds: float | None = None

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.ratios)

    @property
    def good(self) -> bool:
        """The median is within the limit."""
        return self.median <= self.limit

    def __str__(self) -> str:
        spread = f"{min(self.ratios):.2f}..{max(self.ratios):.2f}"
        took = f"{self.nanoseconds:8.0f} ns" if self.nanoseconds is not None else " " * 11
        return f"{self.id:4} {self.median:8.2f} {self.unit:2} ({spread:>15}) {took}  limit {self.limit:g}  {'good' if self.good else 'TOO SLOW':8} {self.what}"

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "id": self.id,
            "what": self.what,
            "median": self.median,
            "min": min(self.ratios),
            "max": max(self.ratios),
            "unit": self.unit,
            "limit": self.limit,
        }


def cpu(function: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def compare(
    id: str, what: str, case: Callable[[], object], floor: Callable[[], object], operations: int, limit: float, *, collect: bool = False, rounds: int = ROUNDS
) -> Figure:
    """Time a case against its floor, in turn; the garbage collector runs only where ``collect`` says that allocation is part of the case."""
    case()
    floor()
    ratios, times = [], []
    gc.collect()
    if not collect:
        gc.disable()
    try:
        for number in range(rounds):
            if number % 2:
                base, took = cpu(floor), cpu(case)
            else:
                took, base = cpu(case), cpu(floor)
            ratios.append(took / base)
            times.append(took / operations * 1e9)
    finally:
        gc.enable()
    return Figure(id, what, "F", tuple(ratios), limit, statistics.median(times))
