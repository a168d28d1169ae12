"""What a comparison of schedulers found, as data: printed, written as JSON, drawn."""

from collections.abc import Sequence
from typing import Any

from attrs import asdict, frozen

from ipvs_model.flags import KERNEL_VERSION


@frozen
class Leaving:
    """One server leaves in the middle of the run."""

    server: str
    at: float  #: seconds after the first packet
    cut: int  #: connections that it held then (active ones where there are such): their packets are dropped from now on, they move nowhere
    others: int  #: later connections that would not have been its own
    moved: int  #: of these, those that went to another server than with all servers there


@frozen
class Outcome:
    """One scheduler, one service. Sequences have an item for each server, in the order of `ServiceComparison.servers`."""

    scheduler: str
    connections: tuple[int, ...]  #: given to each server
    share: tuple[float, ...]  #: of the connections, 0 to 1
    peak_active: tuple[int, ...]  #: most active connections at a time
    peak_held: tuple[int, ...]  #: most active and inactive connections at a time
    refused: int  #: packets for which the scheduler found no server
    imbalance: tuple[float | None, ...]  #: over time, see `imbalance`; None while there are too few connections
    mean_imbalance: float | None
    worst_imbalance: float | None
    leaving: Leaving | None  #: None: a service with a single server


@frozen
class ServiceComparison:
    """All schedulers on one service."""

    service: str
    servers: tuple[str, ...]
    weights: tuple[int, ...]
    counted: str  #: "active" or "held": the connections by which imbalance is judged
    outcomes: tuple[Outcome, ...]

    @property
    def fair(self) -> tuple[float, ...]:
        """Each server's share of the weights, 0 to 1."""
        total = sum(self.weights)
        return tuple(weight / total if total else 0.0 for weight in self.weights)


@frozen
class Comparison:
    """What was found."""

    workload: str
    packets: int
    seconds: float
    step: float  #: seconds between two values of an `imbalance`
    services: tuple[ServiceComparison, ...]
    problems: tuple[str, ...] = ()  #: what could not be read of a capture

    def as_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"kernel": KERNEL_VERSION}


def imbalance(loads: Sequence[int], weights: Sequence[int]) -> float | None:
    """The load of the fullest server for its weight, as a multiple of what it would have if all were equally full; 1 is even.

    Servers of weight 0 are left out. None when there are fewer connections than servers: a single one would be a multiple already.

    >>> imbalance([30, 10], [1, 1]), imbalance([30, 10], [3, 1]), imbalance([1, 0], [1, 1])
    (1.5, 1.0, None)
    """
    pairs = [(load, weight) for load, weight in zip(loads, weights, strict=True) if weight > 0]
    total = sum(load for load, _ in pairs)
    if not pairs or total < len(pairs):
        return None
    return max(load / weight for load, weight in pairs) / (total / sum(weight for _, weight in pairs))
