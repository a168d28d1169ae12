"""Samples of every destination's counters at even steps of virtual time, thinned as the capture gets longer: what the pictures are drawn from."""

from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from ipvs_model.dest import Dest
from ipvs_model.timers import Clock

MAX_SAMPLES: Final = 240

Count = TypeVar("Count")


class Sample(NamedTuple):
    """A destination at one moment."""

    conns: int  #: connections scheduled to it so far
    packets: int  #: both ways, so far
    bytes: int  #: both ways, so far
    active: int
    inactive: int


class Timeline:
    """`step` jiffies lie between two samples; when there would be too many, every second one is dropped and the step doubles.

    >>> Timeline(Clock(), []).step
    25
    """

    def __init__(self, clock: Clock, dests: Sequence[Dest]) -> None:
        self._clock, self._dests = clock, dests
        self.start = clock.now
        self.step = max(clock.hz // 10, 1)
        self.samples: list[tuple[Sample, ...]] = [self.now()]

    def now(self) -> tuple[Sample, ...]:
        """All destinations as they are."""
        return tuple(self._sample(dest) for dest in self._dests)

    @staticmethod
    def _sample(dest: Dest) -> Sample:
        stats = dest.stats
        active, total = dest.activeconns, dest.totalconns
        return Sample(stats.conns, stats.inpkts + stats.outpkts, stats.inbytes + stats.outbytes, active, total - active)

    def advance_to(self, jiffies: int) -> None:
        """Let the clock run to `jiffies`, sampling on the way."""
        while (jiffies - self.start) // self.step >= MAX_SAMPLES:
            self._thin()
        while (due := self.start + len(self.samples) * self.step) <= jiffies:
            self._clock.advance_to(due)
            self._take()
        self._clock.advance_to(jiffies)

    def _take(self) -> None:
        self.samples.append(self.now())

    def _thin(self) -> None:
        self.samples = self.samples[::2]
        self.step *= 2

    def seconds(self) -> list[float]:
        """When the samples were taken, from the start of the capture."""
        return [number * self.step / self._clock.hz for number in range(len(self.samples))]


class CountedTimeline(Timeline, Generic[Count]):
    """A timeline that keeps something else of each moment, too: what `count` returns."""

    def __init__(self, clock: Clock, dests: Sequence[Dest], count: Callable[[], Count]) -> None:
        super().__init__(clock, dests)
        self.count = count
        self.counts = [count()]

    def _take(self) -> None:
        super()._take()
        self.counts.append(self.count())

    def _thin(self) -> None:
        super()._thin()
        self.counts = self.counts[::2]
