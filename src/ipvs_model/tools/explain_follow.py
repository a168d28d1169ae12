"""One connection from the packet that makes it to the timer that removes it: the steps of an explanation that are about it, and what time brings after them."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from attrs import evolve

from ipvs_model.addresses import format_endpoint
from ipvs_model.events import ConnCreated, ConnKey, ConnLookup, ConnRemoved, ControlMoved, DestKey, Event, HookEntered, StateChanged, TimerFired
from ipvs_model.flags import IP_VS_CONN_F_TEMPLATE
from ipvs_model.packet import Packet
from ipvs_model.tools.explain import COMMAND, WAIT, Change, Explainer, ExplainError, Walk
from ipvs_model.tools.pcap import CapturedPacket

Ends: TypeAlias = tuple[int, int, int, int]  #: family, protocol, client and virtual endpoint
Client: TypeAlias = tuple[int, int, int]  #: family, address, port; 0 is any


class Follower:
    """Follows the first connection that begins, or the first of a client.

    A connection is known by its client and its virtual endpoint: the entry that replaces another is followed on.
    """

    def __init__(self, explainer: Explainer, client: Client | None = None) -> None:
        self.explainer = explainer
        self.client = client
        self.ends: Ends | None = None
        self._servers: set[DestKey | None] = set()
        self._controls: set[ConnKey] = set()
        self.states: list[str] = []  #: that the connection has had
        self.late = 0  #: jiffies from its expiry to the last time that its timer fired
        self._before: tuple[Event, ...] = ()
        self._number = 0

    def steps(self, texts: Iterable[str]) -> Iterator[Walk]:
        """Of steps as `Explainer.steps` takes them. Raises ExplainError when no connection begins."""
        return self._follow(self.explainer.steps(texts))

    def capture(self, packets: Iterable[CapturedPacket]) -> Iterator[Walk]:
        """Of a capture. Raises ExplainError when no connection begins."""
        return self._follow(filter(None, map(self._explained, packets)))

    def _explained(self, captured: CapturedPacket) -> Walk | None:
        if self._may_be_mine(Packet.parse(captured.data)):
            return self.explainer.packet(captured)
        happened = self._of_mine(self.explainer.play(captured))
        self._before += happened
        over = any(isinstance(event, ConnRemoved) for event in happened)
        return self.explainer.command("", captured.time) if over else None

    def _may_be_mine(self, packet: Packet) -> bool:
        if self.ends is not None:
            af, protocol, client, _ = self.ends
            return (packet.af, packet.proto) == (af, protocol) and client in (packet.src, packet.dst)
        return self.client is None or any(self._is_client(packet.af, end) for end in (packet.src, packet.dst))

    def _is_client(self, af: int, end: int) -> bool:
        return self.client is None or (self.client[:2] == (af, end >> 16) and self.client[2] in (0, end & 0xFFFF))

    def _follow(self, walks: Iterable[Walk]) -> Iterator[Walk]:
        for walk in walks:
            if self.ends is None:
                self._begin(walk.events)
            mine = self._mine(walk)
            if mine is not None:
                yield mine
            if mine is not None and self.ends is not None and self._gone():
                return
        if self.ends is None:
            whose = f" of {format_endpoint(self.client[0], self.client[1] << 16 | self.client[2])}" if self.client is not None else ""
            raise ExplainError(f"no connection{whose} begins, so there is none to follow")
        while not self._gone():
            mine = self._mine(self.explainer.wait_for(self.concerns))
            if mine is None:  # no timer is left
                return
            yield mine

    def _begin(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, ConnCreated) and not event.flags & IP_VS_CONN_F_TEMPLATE and self._is_client(event.conn.af, event.conn.client):
                self.ends = _ends(event.conn)
                return

    def _note(self, event: Event) -> None:
        """What an event about the connection says of it."""
        if isinstance(event, ConnCreated):
            self._servers.add(event.dest)
        elif isinstance(event, ControlMoved):
            self._controls.add(event.control)
        elif isinstance(event, StateChanged) and self.states[-1:] != [event.after]:
            self.states.append(event.after)
        elif isinstance(event, TimerFired):
            self.late = event.now - event.expires

    def concerns(self, event: Event) -> bool:
        """Whether an event is about the connection."""
        keys = [getattr(event, "conn", None)]
        if isinstance(event, ConnLookup):
            keys.append(event.found)
        elif isinstance(event, ControlMoved):
            keys.append(event.control)
        return any(key is not None and _ends(key) == self.ends for key in keys)

    def _mine(self, walk: Walk) -> Walk | None:
        """A step as far as it is about the connection; what time brought between two such steps is kept for the next."""
        self._before += self._of_mine(walk.before)
        events = [event for event in walk.events if self.concerns(event)]
        if not self._before and walk.kind != COMMAND and not events:
            return None
        for event in (*self._before, *events):
            self._note(event)
        self._number += 1
        before, self._before = self._before, ()
        mine = evolve(walk, number=self._number, before=before, changes=tuple(filter(self._is_mine, walk.changes)))
        if events or walk.kind == COMMAND:
            return mine
        return evolve(mine, what="", kind=WAIT, given="", events=(), verdict="", reason="", delivered="", left=(), hops=())

    def _of_mine(self, events: Iterable[Event]) -> tuple[Event, ...]:
        """What happened to the connection while time passed: all that its timer did, and what others did to it."""
        mine, firing = [], False
        for event in events:
            concerned = self.concerns(event)
            if isinstance(event, TimerFired | HookEntered):
                firing = concerned
            if firing or concerned:
                mine.append(event)
            if concerned and isinstance(event, ConnRemoved):
                firing = False
        return tuple(mine)

    def _is_mine(self, change: Change) -> bool:
        key = change.key
        if isinstance(key, ConnKey):
            return _ends(key) == self.ends or key in self._controls
        return key is None or key in self._servers

    def _gone(self) -> bool:
        return not any(_ends(cp.key()) == self.ends for cp in self.explainer.ipvs.ns.conns)


def _ends(key: ConnKey) -> Ends:
    return key.af, key.protocol, key.client, key.virtual
