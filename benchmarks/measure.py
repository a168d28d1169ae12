"""How a figure is taken: alternatives interleaved in one process, CPU time, the ratio formed inside each round, median and spread.

A ratio moves far less than a time when the machine is busy with other things; absolute times are printed only to give a feeling.
"""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

from attrs import frozen

from benchmarks.goals import GOALS, Goal

ROUNDS = 11
INTERPRETER = f"{platform.python_implementation()} {platform.python_version()}"

Timed = Callable[[], float]  #: runs once, returns the CPU seconds of the part that counts


@frozen
class Pair:
    """What is compared: the model's work and the floor's (or the peer's), and how many operations a run is made of."""

    model: Timed
    other: Timed
    operations: int


@frozen
class Case:
    """A row of the table: ``make`` builds the pair and asserts that both do what they are timed for.

    ``allocates``: connections are made, so the garbage collector runs as it always does; else it is off after a collection.
    """

    id: str
    what: str
    make: Callable[[], Pair | Figure]
    unit: str = "F"  #: of rows without a goal
    allocates: bool = False
    rounds: int = ROUNDS

    def measure(self) -> Figure:
        """Take the figure."""
        pair = self.make()
        if isinstance(pair, Figure):
            return pair
        pair.model(), pair.other()
        rounds = race((pair.model, pair.other), self.rounds, self.allocates)
        goal = GOALS.get(self.id)
        faster = (goal.unit if goal is not None else self.unit) == "x"
        ratios = tuple(other / model if faster else model / other for model, other in rounds)
        nanoseconds = statistics.median(model for model, _ in rounds) / pair.operations * 1e9
        return Figure(self.id, self.what, goal.unit if goal is not None else self.unit, ratios, goal, nanoseconds)


@frozen
class Figure:
    """A measured row: a ratio for each round; ``nanoseconds``: CPU time of one of the model's operations."""

    id: str
    what: str
    unit: str
    ratios: tuple[float, ...]
    goal: Goal | None = None
    nanoseconds: float | None = None

    @property
    def ratio(self) -> float:
        """The median: the figure to quote."""
        return statistics.median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest round."""
        return min(self.ratios), max(self.ratios)

    @property
    def reached(self) -> str:
        """The best mark that the median reaches; "" for none, "-" where nothing is asked."""
        return self.goal.reached(self.ratio) if self.goal is not None else "-"

    @property
    def is_defect(self) -> bool:
        """Worse than good, where good is asked for."""
        return self.goal is not None and self.goal.required and not self.reached

    def __str__(self) -> str:
        spread = "{:.2f}..{:.2f}".format(*self.spread)
        took = f"{self.nanoseconds:10,.0f} ns" if self.nanoseconds is not None else " " * 13
        marks = "/".join(f"{mark:g}" for mark in (self.goal.good, self.goal.excellent, self.goal.impossible) if mark is not None) if self.goal else ""
        return f"{self.id:7} {self.ratio:8.2f} {self.unit:6} {spread:>17} {took}  {marks:12} {self.reached or 'TOO SLOW':10}  {self.what}"

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        goal = self.goal
        return {
            "ratio": self.ratio,
            "spread": list(self.spread),
            "unit": self.unit,
            "good": goal.good if goal is not None else None,
            "excellent": goal.excellent if goal is not None else None,
            "impossible": goal.impossible if goal is not None else None,
            "reached": self.reached,
            "nanoseconds": self.nanoseconds,
            "what": self.what,
            "python": INTERPRETER,
        }


def cpu(function: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def timed(function: Callable[[], object]) -> Timed:
    """The whole function counts."""
    return partial(cpu, function)


def race(alternatives: Sequence[Timed], rounds: int, allocates: bool) -> list[list[float]]:
    """CPU seconds of each alternative in each round; the one that begins changes from round to round."""
    taken = []
    count = len(alternatives)
    gc.collect()
    if not allocates:
        gc.disable()
    try:
        for number in range(rounds):
            seconds = [0.0] * count
            for place in range(count):
                which = (number + place) % count
                if allocates:  # what earlier runs and other libraries left behind is not this one's to go through
                    gc.collect()
                    gc.freeze()
                seconds[which] = alternatives[which]()
                gc.unfreeze()
            taken.append(seconds)
    finally:
        gc.enable()
    return taken
