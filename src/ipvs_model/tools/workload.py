"""Arrivals to compare schedulers with: a capture, or generated ones, as packets of a capture that was never taken.

`poisson:` connections begin at random at a steady rate. `onoff:` sources open connections in bursts and are silent in between. How long a connection lives
is drawn from a Pareto distribution: most are short, a few very long. The same text gives the same packets, bit for bit.
"""

import math
import random
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import accumulate, count
from pathlib import Path
from typing import Final, Protocol

from attrs import field, frozen

from ipvs_model.flags import AF_INET, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP
from ipvs_model.packet import Packet
from ipvs_model.tools.pcap import Capture, CapturedPacket

NANOSECONDS: Final = 1_000_000_000
MAX_ARRIVALS: Final = 1_000_000
RTT: Final = 0.001  #: seconds between a packet and what answers it
CLIENTS: Final = {AF_INET: 0xC6120000, 10: 0x20010DB8000C << 80}  #: 198.18.0.0/15 and 2001:db8:c::/48
MAX_CLIENTS: Final = 1 << 17  #: addresses in 198.18.0.0/15
FIRST_PORT: Final = 32768
LAST_PORT: Final = 60999

#: kind → parameter → (default, smallest, largest, what it is)
PARAMETERS: Final[dict[str, dict[str, tuple[float, float, float, str]]]] = {
    "poisson": {
        "rate": (20, 0.001, 1e6, "connections a second"),
        "duration": (60, 0.001, 1e6, "seconds"),
        "lifetime": (5, 0.001, 1e6, "mean seconds that a connection lives"),
        "alpha": (1.5, 1.01, 100, "shape of the lifetimes: near 1 a few last very long, from 3 on all are much alike"),
        "clients": (200, 1, MAX_CLIENTS, "client addresses"),
        "skew": (0, 0, 10, "0: all clients are equally busy; s: the n-th has a share like 1/n^s"),
        "seed": (1, 0, 1 << 64, "of the random source"),
    },
}
PARAMETERS["onoff"] = PARAMETERS["poisson"] | {
    "rate": (20, 0.001, 1e6, "connections a second, all sources together, in the long run"),
    "sources": (10, 1, 10_000, "independent sources"),
    "on": (1, 0.001, 1e6, "mean seconds of a burst"),
    "off": (4, 0.001, 1e6, "mean seconds of silence"),
}
WHOLE: Final = ("clients", "sources", "seed")

SYN, ACK, SYN_ACK, FIN_ACK = 2, 16, 18, 17
INIT, INIT_ACK, HEARTBEAT, SHUTDOWN, SHUTDOWN_ACK, COOKIE_ECHO, COOKIE_ACK, SHUTDOWN_COMPLETE = 1, 2, 4, 7, 8, 10, 11, 14
#: protocol → (moment, from the client?, TCP flags or SCTP chunk type); moments: "begin", "keep" (repeated while it lives), "end"
CONVERSATIONS: Final = {
    IPPROTO_TCP: (
        ("begin", True, SYN), ("begin", False, SYN_ACK), ("begin", True, ACK),
        ("keep", True, ACK), ("end", True, FIN_ACK), ("end", False, FIN_ACK), ("end", True, ACK),
    ),
    IPPROTO_UDP: (("begin", True, 0), ("begin", False, 0), ("keep", True, 0)),
    IPPROTO_SCTP: (
        ("begin", True, INIT), ("begin", False, INIT_ACK), ("begin", True, COOKIE_ECHO), ("begin", False, COOKIE_ACK),
        ("keep", True, HEARTBEAT), ("end", True, SHUTDOWN), ("end", False, SHUTDOWN_ACK), ("end", True, SHUTDOWN_COMPLETE),
    ),
}  # fmt: skip
KEEP: Final = {IPPROTO_TCP: 300.0, IPPROTO_UDP: 30.0, IPPROTO_SCTP: 300.0}  #: seconds between packets of an idle connection: none is forgotten


class WorkloadError(ValueError):
    """A workload that cannot be; the text is fit to be shown."""


class Workload(Protocol):
    """Packets in order of time; iterating again gives the same ones."""

    @property
    def text(self) -> str:
        """What the user wrote."""

    @property
    def duration(self) -> float:
        """Seconds from the first packet to the last, or as long as generated arrivals go on."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read in the last pass."""

    def __iter__(self) -> Iterator[CapturedPacket]: ...


@frozen
class Target:
    """A virtual endpoint that generated connections go to."""

    protocol: int
    af: int
    endpoint: int


@frozen
class Generated:
    """Generated arrivals at the targets, each of which gets an equal part.

    >>> workload = Generated.parse("poisson:rate=2,duration=10", [Target(6, 2, 0xC0000201_0050)])
    >>> syns = [packet for packet in workload if packet.data[33] == 2]
    >>> len(syns), len(list(workload)) == len(list(workload))
    (14, True)
    """

    text: str
    kind: str
    targets: tuple[Target, ...]
    values: dict[str, float]
    problems: tuple[str, ...] = field(default=(), init=False)

    @classmethod
    def parse(cls, text: str, targets: list[Target]) -> "Generated":
        """KIND:NAME=VALUE,… with the names of `PARAMETERS`; what is not named has its default. Raises WorkloadError."""
        kind, _, rest = text.partition(":")
        known = PARAMETERS.get(kind)
        if known is None:
            raise WorkloadError(f"{kind!r} is no kind of workload; there are {', '.join(PARAMETERS)}")
        values = {name: default for name, (default, _, _, _) in known.items()}
        for item in filter(None, rest.split(",")):
            name, equals, written = item.partition("=")
            if name not in known or not equals:
                raise WorkloadError(f"{item!r}: {kind} takes NAME=VALUE with {', '.join(known)}")
            _, least, most, what = known[name]
            try:
                value = int(written) if name in WHOLE else float(written)
            except ValueError:
                raise WorkloadError(f"{item!r}: {name} ({what}) is a {'whole number' if name in WHOLE else 'number'}") from None
            if not least <= value <= most:
                raise WorkloadError(f"{item!r}: {name} ({what}) must be {least:g} to {most:g}")
            values[name] = value
        if values["rate"] * values["duration"] > MAX_ARRIVALS:
            raise WorkloadError(f"{values['rate'] * values['duration']:,.0f} connections are too many: rate times duration may be {MAX_ARRIVALS:,}")
        if not targets:
            raise WorkloadError("the rules have no service that generated connections could go to; one with a firewall mark needs --mark")
        return cls(text, kind, tuple(targets), values)

    @property
    def duration(self) -> float:
        """Seconds during which connections arrive; what would happen later does not."""
        return self.values["duration"]

    def __iter__(self) -> Iterator[CapturedPacket]:
        rng = random.Random(self.values["seed"])
        end = round(self.duration * NANOSECONDS)
        waiting: list[tuple[int, int, bytes]] = []
        order, record = count(), count(1)
        ports = dict.fromkeys(range(int(self.values["clients"])), 0)
        weights = list(accumulate((number + 1) ** -self.values["skew"] for number in ports))
        for moment in self._arrivals(rng):
            while waiting and waiting[0][0] <= moment:
                time, _, data = heappop(waiting)
                yield CapturedPacket(next(record), 0, time, data, 0, ())
            client = rng.choices(range(len(ports)), cum_weights=weights)[0]
            target = rng.choice(self.targets)
            port = FIRST_PORT + ports[client] % (LAST_PORT - FIRST_PORT + 1)
            ports[client] += 1
            source = CLIENTS[target.af] + client << 16 | port
            for time, data in conversation(target, source, self._lifetime(rng), end - moment):
                heappush(waiting, (moment + time, next(order), data))
        while waiting:
            time, _, data = heappop(waiting)
            yield CapturedPacket(next(record), 0, time, data, 0, ())

    def _lifetime(self, rng: random.Random) -> float:
        mean, alpha = self.values["lifetime"], self.values["alpha"]
        return mean * (alpha - 1) / alpha * rng.paretovariate(alpha)

    def _arrivals(self, rng: random.Random) -> Iterator[int]:
        """Moments at which connections begin, in nanoseconds."""
        rate, duration = self.values["rate"], self.values["duration"]
        if self.kind == "poisson":
            yield from _poisson(rng, rate, 0.0, duration)
            return
        on, off, sources = self.values["on"], self.values["off"], int(self.values["sources"])
        moments: list[int] = []
        for _ in range(sources):
            time = -rng.expovariate(1 / off) if rng.random() * (on + off) < on else rng.expovariate(1 / off)
            while time < duration:
                burst = rng.expovariate(1 / on)
                moments += _poisson(rng, rate / sources * (on + off) / on, max(time, 0.0), min(time + burst, duration))
                time += burst + rng.expovariate(1 / off)
        yield from sorted(moments)


def _poisson(rng: random.Random, rate: float, start: float, end: float) -> Iterator[int]:
    time = start + rng.expovariate(rate)
    while time < end:
        yield round(time * NANOSECONDS)
        time += rng.expovariate(rate)


def conversation(target: Target, client: int, lifetime: float, room: int) -> Iterator[tuple[int, bytes]]:
    """The packets of one connection, seen in front of the virtual address: nanoseconds after its first one, up to `room`, and bytes."""
    steps = CONVERSATIONS[target.protocol]
    pause = KEEP[target.protocol]
    lifetime = max(lifetime, len(steps) * RTT)
    begun = ended = 0
    for moment, from_client, what in steps:
        times = [begun * RTT]
        if moment == "begin":
            begun += 1
        elif moment == "end":
            times = [lifetime + ended * RTT]
            ended += 1
        else:
            times = [number * pause for number in range(1, math.ceil(min(lifetime, room / NANOSECONDS + pause) / pause))]
        due = [time for seconds in times if (time := round(seconds * NANOSECONDS)) <= room]
        if due:
            data = _packet(target, client, from_client, what)
            for time in due:
                yield time, data


def _packet(target: Target, client: int, from_client: bool, what: int) -> bytes:
    source, destination = (client, target.endpoint) if from_client else (target.endpoint, client)
    if target.protocol == IPPROTO_TCP:
        return Packet.tcp_between(target.af, source, destination, what).raw
    ends = (source >> 16, source & 0xFFFF), (destination >> 16, destination & 0xFFFF)
    if target.protocol == IPPROTO_UDP:
        return Packet.udp(*ends, b"x").raw
    return Packet.sctp(*ends, [(what, 0, bytes(16))]).raw


class FromCapture:
    """The packets of a capture file; its length is found by reading it once. Raises CaptureError or OSError."""

    def __init__(self, path: str) -> None:
        self.text = path
        self.problems: tuple[str, ...] = ()
        first = last = 0
        for packet in self:
            first = first or packet.time
            last = max(last, packet.time)
        self.duration = (last - first) / NANOSECONDS

    def __iter__(self) -> Iterator[CapturedPacket]:
        with Capture(self.text) as capture:
            yield from capture
            self.problems = tuple(map(str, capture.problems))


def workload(text: str, targets: list[Target]) -> Workload:
    """Generated arrivals, or the name of a capture. Raises WorkloadError, CaptureError, OSError."""
    if text.partition(":")[0] in PARAMETERS:
        return Generated.parse(text, targets)
    if not Path(text).exists():
        kinds = ", ".join(f"{kind}:rate={values['rate'][0]:g},…" for kind, values in PARAMETERS.items())
        raise WorkloadError(f"{text}: no such capture, and no generated workload either ({kinds})")
    return FromCapture(text)
