"""A scheduler on trial: one service, up to six servers, clients that come and go, an operator who edits; everything told in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from attrs import frozen
from hypothesis import strategies as st

from ipvs_model import invariants
from ipvs_model.conn import Conn
from ipvs_model.dest import Dest
from ipvs_model.flags import AF_INET, IPPROTO_TCP
from ipvs_model.ipvs import IPVS
from ipvs_model.packet import IpHdr, Packet
from ipvs_model.schedulers import Scheduler
from ipvs_model.service import Service

VIRTUAL: Final = "192.0.2.1:80"
SERVICE: Final = "192.0.2.1"
MOST_SERVERS: Final = 6
FIRST_PORT: Final = 10000


# --- what may happen --------------------------------------------------------------------------------------------------
@frozen
class Connects:
    """A client opens a connection from a new port and keeps it."""

    client: int

    def __str__(self) -> str:
        return f"client {self.client} connects"


@frozen
class Leaves:
    """A connection ends at once: the oldest + ``number``."""

    number: int

    def __str__(self) -> str:
        return "a connection ends"


@frozen
class Weighs:
    """A server is given a weight, 0 drains it; its thresholds stay."""

    server: int
    weight: int

    def __str__(self) -> str:
        return f"server {self.server} gets weight {self.weight}"


@frozen
class Deleted:
    """A server is deleted, if it is there."""

    server: int

    def __str__(self) -> str:
        return f"server {self.server} is deleted"


@frozen
class Added:
    """A server is added, or comes back, with a weight and an upper threshold (0 = none)."""

    server: int
    weight: int = 1
    upper: int = 0

    def __str__(self) -> str:
        return f"server {self.server} is added with weight {self.weight}" + (f", at most {self.upper} connections" if self.upper else "")


Event: TypeAlias = "Connects | Leaves | Weighs | Deleted | Added"


def weights(least: int = 0) -> st.SearchStrategy[int]:
    """Weights: small ones, so that shares can be counted."""
    return st.integers(least, 6)


def events(*, least: int = 0, thresholds: bool = True, clients: int = 5) -> st.SearchStrategy[list[Event]]:
    """Histories of a pool: servers first, then anything in any order."""
    server = st.integers(0, MOST_SERVERS - 1)
    added = st.builds(Added, server, weights(least), st.sampled_from((0, 0, 1, 2, 1)) if thresholds else st.just(0))
    connects = st.builds(Connects, st.integers(0, clients - 1))
    any_event = st.one_of(
        connects, connects, connects, st.builds(Leaves, st.integers(0, 9)), st.builds(Weighs, server, weights(least)), st.builds(Deleted, server), added
    )
    beginning = st.lists(added, min_size=1, max_size=4, unique_by=lambda event: event.server)
    return st.builds(lambda first, rest: [*first, *rest], beginning, st.lists(any_event, min_size=3, max_size=24))


# --- what is seen -----------------------------------------------------------------------------------------------------
@frozen
class Offer:
    """A server as the scheduler saw it when it was asked."""

    dest: Dest
    weight: int
    overloaded: bool
    active: int
    total: int

    @property
    def usable(self) -> bool:
        """May it get something new?"""
        return self.weight > 0 and not self.overloaded


@frozen
class Pick:
    """One choice: who asked, what was on offer (newest server first), what was chosen (None: refused)."""

    client: int
    offers: tuple[Offer, ...]
    chosen: Dest | None
    conn: Conn | None


class Trial:
    """One run. ``picks`` and ``story`` grow with every event."""

    def __init__(self, scheduler: Scheduler | type[Scheduler] | str, flags: str = "") -> None:
        if isinstance(scheduler, str):
            self.ipvs, self.name = IPVS(), scheduler
        else:
            self.ipvs, self.name = IPVS(plugins=[scheduler]), scheduler.name
        self.ipvs.sysctl_write("run_estimation", 0)
        self.ipvs.ipvsadm(f"-A -t {VIRTUAL} -s {self.name}" + (f" -b {flags}" if flags else ""))
        self.svc: Service = self.ipvs.services[0]
        self.picks: list[Pick] = []
        self.story: list[str] = []
        self.servers: dict[int, str] = {number: f"10.1.0.{11 + number}:80" for number in range(MOST_SERVERS)}
        self._port = FIRST_PORT

    def number(self, dest: Dest | None) -> int | None:
        """The number of a server in the story."""
        return None if dest is None else (dest.addr & 0xFF) - 11

    def server(self, number: int) -> Dest | None:
        """A server that is listed."""
        return next((dest for dest in self.svc.destinations if self.number(dest) == number), None)

    def offers(self) -> tuple[Offer, ...]:
        """What a scheduler may choose from now."""
        return tuple(Offer(dest, dest.weight, dest.overloaded, dest.activeconns, dest.totalconns) for dest in self.svc.destinations)

    def do(self, event: Event) -> Pick | None:
        """Let something happen; a choice is returned."""
        dest = None if isinstance(event, (Connects, Leaves)) else self.server(event.server)
        if isinstance(event, Connects):
            return self.connect(event.client)
        if isinstance(event, Leaves):
            conns = self.ipvs.ns.conns.by_age()
            if conns:
                self.story.append(str(event))
                self.end(conns[event.number % len(conns)])
        elif isinstance(event, Added):
            if dest is None:
                self.story.append(str(event))
                self.ipvs.add_dest(self.svc, self.servers[event.server], weight=event.weight, u_threshold=event.upper)
        elif dest is not None:
            self.story.append(str(event))
            if isinstance(event, Weighs):
                self.ipvs.edit_dest(self.svc, dest, weight=event.weight)
            else:
                self.ipvs.delete_dest(self.svc, dest)
        return None

    def run(self, history: Sequence[Event]) -> None:
        """Let things happen, one after the other, and look at every count in between."""
        for event in history:
            self.do(event)
            self.check()

    def check(self) -> None:
        """Counts and references are what their holders say."""
        invariants.check(self.ipvs.ns)

    def connect(self, client: int) -> Pick:
        """A new connection of a client."""
        self._port += 1
        source = f"203.0.113.{client}:{self._port}"
        packet = Packet.tcp(source, VIRTUAL, "S", device="eth0")
        offers = self.offers()
        self.ipvs.process(packet)
        self.ipvs.ns.outbox.clear()
        made = self.ipvs.conns(client=source)
        pick = Pick(client, offers, made[0].dest if made else None, made[0] if made else None)
        self.picks.append(pick)
        self.story.append(f"client {client} connects: " + (f"server {self.number(pick.chosen)}" if made else "refused"))
        return pick

    def header(self, client: int) -> IpHdr:
        """The header that a scheduler would be shown for the next connection of a client."""
        virtual = self.svc
        return IpHdr(AF_INET, 0, 20, IPPROTO_TCP, 0, 0, 0xCB007100 + client, virtual.addr, 0, self._port + 1, virtual.port)

    def end(self, cp: Conn) -> None:
        """A connection ends and is forgotten."""
        cp.expire_now()
        self.ipvs.clock.advance(2)

    def end_all(self) -> None:
        """All connections end."""
        conns = self.ipvs.conns()
        if conns:
            self.story.append("all connections end")
        for cp in conns:
            cp.expire_now()
        self.ipvs.clock.advance(2)

    def told(self, last: int = 30) -> str:
        """The story, one line an event."""
        lines = self.story[-last:]
        cut = [f"… {len(self.story) - last} earlier"] if len(self.story) > last else []
        return "\n".join(f"    {line}" for line in (*cut, *lines))
