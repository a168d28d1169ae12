"""Lives of single connections, for the report: a capture is read once to choose them, and once more to follow them.

1. `Chooser` is a replay that notes who would be worth following: the first connections of each service, and those that lost a packet.
2. `Follower` plays the same packets again. Those of the chosen connections are explained; of these connections it keeps states, timer and references.

What is kept is bounded, however long the capture is: `FIRST` and `UNLUCKY` connections, `EXPLAINED` packets of each, `POINTS` of each line.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from attrs import Factory, define, evolve, frozen

from ipvs_model.conn import Conn
from ipvs_model.events import (
    ConnCreated,
    ConnHashed,
    ConnKey,
    ConnRemoved,
    Event,
    RefMoved,
    ServiceLookup,
    StateChanged,
    TimerArmed,
    TimerPostponed,
    TimerStopped,
)
from ipvs_model.flags import proto_name
from ipvs_model.packet import Packet
from ipvs_model.protocol import TemplateState
from ipvs_model.timers import Clock
from ipvs_model.tools.explain import WAIT, Explainer, Walk
from ipvs_model.tools.pcap import Capture, CapturedPacket
from ipvs_model.tools.replay import ANSWER, NANOSECONDS, Replay, quoted
from ipvs_model.tools.result import NOT_LOST, Result
from ipvs_model.tools.timeline import CountedTimeline
from ipvs_model.transmit.action import REASONS

FIRST: Final = 120  #: connections followed because they are the first ones of their service
UNLUCKY: Final = 40  #: connections followed because they lost a packet
LIVES: Final = 2 * (FIRST + UNLUCKY)  #: entries followed; a client may come again, and templates have a life of their own
EXPLAINED: Final = 30  #: packets of a connection that are explained
POINTS: Final = 300  #: of a line; when there are more, every second one is dropped
STEPS: Final = 2 * EXPLAINED  #: explained packets and timers of a connection; a template has those of several clients
STATES: Final = 200  #: changes of state that are kept of a connection
KIND: Final = attrgetter("protocol", "state")

#: a client's endpoint: family, protocol, ``addr << 16 | port``
Talker: TypeAlias = tuple[int, int, int]
Progressed: TypeAlias = Callable[[float, int], object]


class Chooser(Replay):
    """A replay that notes which connections are worth following."""

    def __init__(self, rules: str, **options: Any) -> None:
        super().__init__(rules, **options)
        self._first: defaultdict[int, dict[Talker, None]] = defaultdict(dict)  # by service
        self._unlucky: dict[Talker, None] = {}
        self._counted: defaultdict[int, int] = defaultdict(int)  # connections, by server

    def _receive(self, what: str, packet: Packet, captured: CapturedPacket) -> list[Packet]:
        left = super()._receive(what, packet, captured)
        served = self.ipvs.ns.served
        if served is not None and served.stats.conns != self._counted[id(served)]:
            self._counted[id(served)] = served.stats.conns
            noted = self._first[id(served.svc)]
            if len(noted) < FIRST:
                noted[packet.af, packet.proto, packet.dst if what == ANSWER else packet.src] = None
        return left

    def _lose(self, cp: Conn | None) -> None:
        super()._lose(cp)
        if cp is not None and len(self._unlucky) < UNLUCKY:
            self._unlucky[cp.af, cp.protocol, cp.client] = None

    @property
    def chosen(self) -> frozenset[Talker]:
        """Whom to follow: as many of each service, and all that were noted for a loss."""
        share = max(FIRST // max(len(self._first), 1), 1)
        first = [talker for noted in self._first.values() for talker in list(noted)[:share]]
        return frozenset((*first[:FIRST], *self._unlucky))

    @property
    def connections(self) -> int:
        """How many connections there were."""
        return self.ipvs.ns.tot_stats.conns


class Point(NamedTuple):
    """Something of a line at one moment."""

    at: float  #: seconds since the capture began
    value: float
    peak: float  #: the highest at this moment


@define
class Line:
    """Points in the order of time, thinned when there are too many; of one moment only the last value and the highest are kept."""

    _kept: list[Point] = Factory(list)
    _latest: Point | None = None
    _stride: int = 1
    _count: int = 0

    def __iter__(self) -> Iterator[Point]:
        yield from self._kept
        if self._latest is not None:
            yield self._latest

    @property
    def value(self) -> float:
        """The last one."""
        return self._latest.value if self._latest is not None else 0

    def add(self, at: float, value: float) -> None:
        """What it is from this moment on."""
        latest = self._latest
        if latest is not None and latest.at == at:
            self._latest = Point(at, value, max(latest.peak, value))
            return
        if latest is not None:
            self._keep(latest)
        self._latest = Point(at, value, value)

    def _keep(self, point: Point) -> None:
        if self._count % self._stride == 0:
            self._kept.append(point)
            if len(self._kept) > POINTS:
                self._kept = self._kept[::2]
                self._stride *= 2
        self._count += 1


class Step(NamedTuple):
    """An explained packet, or what a timer did."""

    walk: Walk
    record: int = 0  #: of the capture; 0: no packet, time passed
    lost: bool = False


@define(eq=False)
class Life:
    """What became of one entry. All times are seconds since the capture began."""

    key: ConnKey
    began: float
    server: str
    service: str  #: "": a helper made the entry
    is_template: bool = False
    ended: float | None = None
    states: list[tuple[float, str]] = Factory(list)
    deadlines: Line = Factory(Line)  #: when the timer would fire, in seconds since the capture began
    references: Line = Factory(Line)
    steps: list[Step] = Factory(list)  #: what happened, explained, as far as it was kept
    others: Line = Factory(Line)  #: packets that were not explained; the value is 1 when they were lost
    packets: int = 0
    lost: int = 0

    def hear(self, event: Event, at: float, hz: int) -> None:
        """Take in what an event says of the entry."""
        match event:
            case StateChanged(after=state):
                self.enter(at, state)
            case TimerArmed(now=now, expires=expires):
                self.deadlines.add(at, at + (expires - now) / hz)
            case TimerStopped() | TimerPostponed():
                self.deadlines.add(at, at)
            case RefMoved(refcnt=refcnt):
                self.references.add(at, refcnt)
            case ConnCreated():
                self.references.add(at, 1)
            case ConnHashed(hashed=hashed):
                self.references.add(at, self.references.value + (1 if hashed else -1))
            case ConnRemoved():
                self.references.add(at, 0)
                self.ended = at

    def enter(self, at: float, state: str) -> None:
        """It is in this state from now on."""
        if self.states and self.states[-1][0] == at:
            self.states.pop()
        if (not self.states or self.states[-1][1] != state) and len(self.states) < STATES:
            self.states.append((at, state))

    def packet(self, record: int, at: float, lost: bool, walk: Walk | None) -> None:
        """Count a packet, and keep how it is explained if there is room."""
        self.packets += 1
        self.lost += lost
        if walk is not None and len(self.steps) < STEPS:
            self.steps.append(Step(walk, record, lost))
        else:
            self.others.add(at, lost)

    def wait(self, event: Event, at: float, clock: Clock) -> None:
        """Keep what happened while time passed; what happens in the same jiffy is one step."""
        latest = self.steps[-1].walk if self.steps else None
        if latest is not None and latest.kind == WAIT and latest.jiffies == clock.now:
            self.steps[-1] = Step(evolve(latest, events=(*latest.events, event)))
        elif len(self.steps) < STEPS:
            walk = Walk(
                number=0, seconds=at, jiffies=clock.now, hz=clock.hz, what="", kind=WAIT, given="", before=(), events=(event,), verdict="", reason="", delivered="",
                left=(), changes=(),
            )  # fmt: skip
            self.steps.append(Step(walk))


@frozen
class Moment:
    """Counts at one moment."""

    states: dict[str, int]  #: entries in each state, as "TCP ESTABLISHED", and templates
    lost: dict[str, int]  #: packets lost so far, by reason


@frozen
class Lives:
    """What a second reading found."""

    lives: tuple[Life, ...]
    connections: int  #: in the whole capture
    examples: dict[int, Walk]  #: by record: packets that are explained because they were the first of their fate
    moments: tuple[Moment, ...]  #: at the samples of the replay's timeline


class Follower(Explainer):
    """A replay that follows the connections of `chosen`, and explains the records of `examples`. Options as for Replay."""

    def __init__(self, rules: str, chosen: Collection[Talker], examples: Collection[int], **options: Any) -> None:
        super().__init__(rules, **options)
        self._moments = CountedTimeline(self.ipvs.clock, [dest for _, dest in self.servers], self._moment)
        self.timeline = self._moments
        self.lives: list[Life] = []
        self.examples: dict[int, Walk] = {}
        self._chosen, self._wanted = chosen, examples
        self._open: dict[ConnKey, Life] = {}
        self._explained: Counter[Talker] = Counter()
        self._talker: Talker = (0, 0, 0)
        self._was_lost = False
        self._passed = -1  #: jiffies since the first packet, as far as was listened

    def read(self, capture: Capture, records: int, connections: int, tell: Progressed) -> Lives:
        """Play the first `records` records of a capture, in which there were so many connections."""
        for captured in capture:
            if captured.record > records:
                break
            self.play_packet(captured)
            if not captured.record & 1023:
                tell(capture.fraction, captured.record)
        return Lives(tuple(self.lives), connections, self.examples, (*self._moments.counts, self._moment()))

    def _moment(self) -> Moment:
        """Counts as they are; O(entries)."""
        states: Counter[str] = Counter()
        for (protocol, state), count in Counter(map(KIND, self.ipvs.ns.conns)).items():
            states["template" if isinstance(state, TemplateState) else f"{proto_name(protocol)} {state.name}"] += count
        lost: Counter[str] = Counter()
        for (_, _, reason, went), (count, _) in self._fates.items():
            if went != "on" and reason not in NOT_LOST:
                lost[REASONS[reason]] += count
        return Moment(dict(states), dict(lost))

    # --- one packet ---------------------------------------------------------------------------------------------------
    def play_packet(self, captured: CapturedPacket) -> None:
        """Explain a packet if it is wanted; play it if it is not."""
        packet = Packet.parse(captured.data)
        talker = self._talker = self._who(packet)
        follow = talker in self._chosen
        if captured.record not in self._wanted and not follow:
            self.feed(captured)
            return
        explain = captured.record in self._wanted or self._explained[talker] < EXPLAINED
        self._was_lost = False
        walk, events = self._explain(captured) if explain else (None, self._listen(captured))
        if walk is not None and captured.record in self._wanted:
            self.examples[captured.record] = walk
        if follow:
            self._explained[talker] += explain
            self._take_in(captured, walk, events)

    def _explain(self, captured: CapturedPacket) -> tuple[Walk, Iterable[Event]]:
        walk = self.packet(captured)
        made = {event.conn for event in walk.events if isinstance(event, ConnCreated)}
        # an entry that was not compared before the step only looks new
        known = [change for change in walk.changes if change.key in made or any(before is not None for _, before, _ in change.members)]
        return evolve(walk, number=captured.record, before=(), changes=tuple(known)), walk.events

    def _listen(self, captured: CapturedPacket) -> Iterable[Event]:
        events: list[Event] = []
        self._let_time_pass(captured.time)
        with self._listening(events.append):
            self.feed(captured)
        return events

    def _take_in(self, captured: CapturedPacket, walk: Walk | None, events: Iterable[Event]) -> None:
        at, hz = self._seconds(), self.ipvs.clock.hz
        touched: dict[ConnKey, Life] = {}
        service = ""
        for event in events:
            key = _subject(event)
            if isinstance(event, ServiceLookup) and event.found is not None:
                service = str(event.found)
            elif isinstance(event, ConnCreated) and len(self.lives) < LIVES:
                life = self._open[event.conn] = Life(event.conn, at, str(event.dest or ""), service)
                self.lives.append(life)
            if key in self._open:
                life = touched[key] = self._open[key]
                life.hear(event, at, hz)
        for key, life in touched.items():
            life.packet(captured.record, at, self._was_lost, walk)
            self._look_at(key, life, at)

    def _look_at(self, key: ConnKey, life: Life, at: float) -> None:
        """Add what events do not say, and let go of an entry that is gone."""
        cp = self._find(key)
        if cp is not None:
            life.is_template = cp.is_template
            life.enter(at, cp.state_name)
        if life.ended is not None:
            del self._open[key]

    def _find(self, key: ConnKey) -> Conn | None:
        return next((cp for cp in self._chain(key.af, key.protocol, key.client) if cp.key() == key), None)

    def _chain(self, af: int, protocol: int, client: int) -> Iterator[Conn]:
        table = self._table.tables.get(af << 16 | protocol)
        cp = table.get(client) if table is not None else None
        while cp is not None:
            yield cp
            cp = cp.hnext

    def _who(self, packet: Packet) -> Talker:
        """The client that a packet comes from, or goes to; of an ICMP error, the one of the packet that it quotes."""
        from_client = (packet.af, packet.dst >> 16) in self.routing.addresses
        inner = quoted(packet)
        if inner is None or inner.sport is None or inner.dport is None:
            return packet.af, packet.proto, packet.src if from_client else packet.dst
        return inner.af, inner.protocol, inner.daddr << 16 | inner.dport if from_client else inner.saddr << 16 | inner.sport

    # --- while time passes --------------------------------------------------------------------------------------------
    def _let_time_pass(self, time: int) -> None:
        passed = (time - (self.first_time or time)) * self.ipvs.clock.hz // NANOSECONDS
        if not self._open or passed == self._passed:  # nothing happens before the next jiffy
            super()._let_time_pass(time)
            return
        self._passed = passed
        with self._listening(self._meanwhile_heard):
            super()._let_time_pass(time)

    def _meanwhile_heard(self, event: Event) -> None:
        key = _subject(event)
        life = self._open.get(key) if key is not None else None
        if life is None or key is None:
            return
        clock = self.ipvs.clock
        at = (clock.now - self.timeline.start) / clock.hz
        life.hear(event, at, clock.hz)
        life.wait(event, at, clock)
        if life.ended is not None:
            del self._open[key]

    # --- what the replay does on the way --------------------------------------------------------------------------------
    def _lose(self, cp: Conn | None) -> None:
        super()._lose(cp)
        self._was_lost = True

    def _compared(self) -> Iterable[Conn]:
        """The client's entries and those that control them: comparing all would take longer the more there are."""
        found: dict[int, Conn] = {}
        for cp in self._chain(*self._talker):
            controller: Conn | None = cp
            while controller is not None:
                found[id(controller)] = controller
                controller = controller.control
        return found.values()


def _subject(event: Event) -> ConnKey | None:
    """The entry that an event is about."""
    key = getattr(event, "conn", None)
    return key if isinstance(key, ConnKey) else None


def follow(path: str | Path, chooser: Chooser, result: Result, tell: Progressed, **options: Any) -> Lives:
    """Read a capture again, as far as it was read before, with the options that the chooser had; the first packet of each fate is an example.

    `tell` is called now and then with the part of the file that has been read, 0 to 1, and the number of records.
    """
    examples = {row.first_record for row in result.outcomes}
    with Capture(path) as capture:
        return Follower(chooser.rules, chooser.chosen, examples, **options).read(capture, result.records, chooser.connections, tell)
