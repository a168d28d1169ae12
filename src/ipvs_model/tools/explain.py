"""Packets step by step: every decision with the kernel function that takes it, references and timers before and after.

It is a replay that looks on: what a capture's packets are, and what answers become, is decided there.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from attrs import frozen

from ipvs_model.addresses import format_addr
from ipvs_model.conn import Conn
from ipvs_model.dest import Dest
from ipvs_model.errors import IPVSError
from ipvs_model.events import Decided, Event
from ipvs_model.flags import Verdict
from ipvs_model.ipvs import IPVS
from ipvs_model.packet import Packet
from ipvs_model.tools.packet_text import EXAMPLE, describe, parse_packet
from ipvs_model.tools.pcap import CapturedPacket
from ipvs_model.tools.replay import CLIENT, NANOSECONDS, Replay
from ipvs_model.transmit.action import REASONS

PASSING: Final = "packet that passes through"
COMMAND: Final = "command"
WAIT: Final = "wait"
NONE: Final = "none"
FRAGMENT: Final = "fragment"
#: members that are always shown of what a step touched; the others only when they change
ALWAYS: Final = ("refcnt", "n_control", "timer")


class ExplainError(ValueError):
    """A step that cannot be; the text is fit to be shown."""


@frozen
class Change:
    """An object that a step touched: (name, before, after) for each of its members that is worth a look; None: it was not there, or is gone."""

    what: str
    members: tuple[tuple[str, str | None, str | None], ...]


@frozen
class Walk:
    """One step, explained."""

    number: int
    seconds: float  #: since the first step
    jiffies: int
    what: str  #: the packet as it came, or the command
    kind: str  #: "client packet", "answer", "packet that passes through", "command", "wait", or why it was not fed
    given: str  #: the packet as IPVS got it, where that is another one: an answer comes from the real server
    before: tuple[Event, ...]  #: what happened while time passed since the step before
    events: tuple[Event, ...]
    verdict: str  #: "STOLEN", "ACCEPT", "DROP"; "" for a command or a packet that was not fed
    reason: str  #: in words
    left: tuple[str, ...]  #: packets that left the director; for a command, its output
    changes: tuple[Change, ...]
    hops: tuple["Hop", ...] = ()


@frozen
class Hop:
    """A packet between two hosts, for a sequence diagram; `source` and `target` are addresses, "" is the director."""

    source: str
    target: str
    text: str
    lost: bool = False


@frozen(eq=False)
class Seen:
    """An object at one moment; holding it keeps its identity its own."""

    object: Conn | Dest
    name: str
    members: dict[str, str]


Snapshot: TypeAlias = dict[int, Seen]


class Explainer(Replay):
    """A replay that explains what it does. Options as for Replay; `scheduler` of the rules may be replaced."""

    def __init__(self, rules: str, **options: Any) -> None:
        super().__init__(rules, **options)
        self.number = 0
        self._kind = self._why = ""
        self._fed: Packet | None = None

    # --- steps --------------------------------------------------------------------------------------------------------
    def steps(self, texts: Iterable[str]) -> Iterator[Walk]:
        """Explain packets and commands as `parse_step` takes them. Raises ExplainError, PacketTextError."""
        now = 0.0
        self._let_time_pass(0)
        for text in texts:
            wait, what = parse_step(text)
            now += wait
            time = round(now * NANOSECONDS)
            if isinstance(what, Packet):
                yield self.packet(CapturedPacket(self.number + 1, 0, time, what.raw, 0, ()), what)
            else:
                yield self.command(what, time)

    def packet(self, captured: CapturedPacket, written: Packet | None = None) -> Walk:
        """Explain a packet of a capture, or one that somebody wrote: that one may have a mark, and may come from a real server."""
        packet = written or Packet.parse(captured.data)
        before, snapshot, events = self._begin(captured.time)
        self._kind, self._why, self._fed = "", "", None
        with _watching(self.ipvs, events):
            known = packet.daddr, packet.saddr
            if written is not None and (packet.mark or not any((packet.af, addr) in self.routing.addresses for addr in known)):
                packet.device = "eth0"
                left = self._receive(CLIENT if packet.mark else PASSING, packet, captured)
            else:
                left = self.feed(captured)
        decided = [event for event in events if isinstance(event, Decided)]
        fed = self._fed
        hops = self._hops(fed, left, decided[-1]) if fed is not None and decided else ()
        return Walk(
            number=self.number,
            seconds=self._seconds(),
            jiffies=self.ipvs.clock.now,
            what=describe(packet),
            kind=self._kind or self._why,
            given=describe(fed) if fed is not None and (fed.src, fed.dst) != (packet.src, packet.dst) else "",
            before=before,
            events=tuple(events),
            verdict=decided[-1].verdict.name if decided else "",
            reason=REASONS[decided[-1].reason] if decided else "",
            left=tuple(map(describe, left)),
            changes=self._changes(snapshot, self._snapshot()),
            hops=hops,
        )

    def command(self, text: str, time: int) -> Walk:
        """Explain an ipvsadm or sysctl command; "" only lets time pass. Raises ExplainError when it is refused."""
        before, snapshot, events = self._begin(time)
        with _watching(self.ipvs, events):
            output = self._run(text)
        changes = self._changes(snapshot, self._snapshot())
        kind = COMMAND if text else WAIT
        return Walk(self.number, self._seconds(), self.ipvs.clock.now, text, kind, "", before, tuple(events), "", "", output, changes)

    def _run(self, text: str) -> tuple[str, ...]:
        if text.startswith("ipvsadm"):
            done = self.ipvs.ipvsadm(text.removeprefix("ipvsadm"))
            if done.status:
                words = (done.err or done.out).strip().partition("\n")[0]
                raise ExplainError(f"{text}: {words or f'exit status {done.status}'}")
            return tuple(done.out.splitlines())
        if text:
            name, _, value = text.removeprefix("sysctl").strip().partition("=")
            try:
                self.ipvs.sysctl_write(name.strip(), value.strip())
            except IPVSError as refused:
                raise ExplainError(f"{text}: {refused.strerror or refused}") from refused
        return ()

    def _begin(self, time: int) -> tuple[tuple[Event, ...], Snapshot, list[Event]]:
        self.number += 1
        passed: list[Event] = []
        with _watching(self.ipvs, passed):
            self._let_time_pass(time)
        return tuple(passed), self._snapshot(), []

    def _seconds(self) -> float:
        return (self.last_time - (self.first_time or 0)) / NANOSECONDS

    # --- what the replay does on the way --------------------------------------------------------------------------------
    def _receive(self, what: str, packet: Packet, captured: CapturedPacket) -> list[Packet]:
        self._kind, self._fed = what, packet
        return super()._receive(what, packet, captured)

    def _leave_out(self, why: str, captured: CapturedPacket) -> list[Packet]:
        self._why = why
        return super()._leave_out(why, captured)

    def _entry(self, af: int, protocol: int, client: int, virt: int) -> Conn | None:
        """The replay's own look at the table is none of IPVS's."""
        emit, self.ipvs.ns.emit = self.ipvs.ns.emit, None
        try:
            return super()._entry(af, protocol, client, virt)
        finally:
            self.ipvs.ns.emit = emit

    # --- before and after -----------------------------------------------------------------------------------------------
    def _snapshot(self) -> Snapshot:
        """Every entry and every server as it is."""
        found = [Seen(cp, ("template " if cp.is_template else "entry ") + str(cp.key()), _entry_members(cp)) for cp in self.ipvs.ns.conns]
        dests = {id(dest): dest for dest in (*(dest for _, dest in self.servers), *(dest for svc in self.ipvs.services for dest in svc.destinations))}
        found += [Seen(dest, f"server {dest.key()}", _server_members(dest)) for dest in dests.values()]
        return {id(seen.object): seen for seen in found}

    @staticmethod
    def _changes(before: Snapshot, after: Snapshot) -> tuple[Change, ...]:
        changes = []
        for key in dict.fromkeys((*before, *after)):
            old, new = before.get(key), after.get(key)
            name = new.name if new is not None else before[key].name
            was, now = (old.members if old is not None else {}), (new.members if new is not None else {})
            if was != now:
                shown = [member for member in was | now if member in ALWAYS or was.get(member) != now.get(member)]
                rows = tuple((member, was.get(member), now.get(member)) for member in shown)
                changes.append(Change(name, tuple(row for row in rows if set(row[1:]) != {None, NONE})))
        return tuple(changes)

    # --- for diagrams ---------------------------------------------------------------------------------------------------
    def _hops(self, fed: Packet, left: list[Packet], decided: Decided) -> tuple[Hop, ...]:
        """The packet to the director, and what the director sent, by host."""
        hops = [Hop(format_addr(fed.af, fed.saddr), "", _short(fed), lost=not left and decided.verdict is not Verdict.ACCEPT and decided.reason != FRAGMENT)]
        served = self.ipvs.ns.served
        for sent in left:
            if self._kind == CLIENT and sent.daddr != fed.saddr and served is not None:
                hops.append(Hop("", format_addr(served.af, served.addr), _short(sent)))
            else:
                hops.append(Hop("", format_addr(sent.af, sent.daddr), _short(sent)))
        return tuple(hops)


def _short(packet: Packet) -> str:
    """A packet without its hosts."""
    words = describe(packet).split()
    return " ".join([words[0], *words[4:]])


@contextmanager
def _watching(ipvs: IPVS, events: list[Event]) -> Iterator[None]:
    """Collect what happens."""
    stop = ipvs.subscribe(events.append)
    try:
        yield
    finally:
        stop()


def _entry_members(cp: Conn) -> dict[str, str]:
    clock = cp.ipvs.clock
    left = cp.expires - clock.now
    return {
        "state": cp.state_name,
        "refcnt": str(cp.refcnt),
        "n_control": str(cp.n_control),
        "timer": f"{left / clock.hz:.3f} s" if cp.bucket is not None else "stopped",
        "timeout": f"{cp.timeout / clock.hz:g} s",
        "in_pkts": str(cp.in_pkts),
        "control": str(cp.control.key()) if cp.control is not None else NONE,
        "server": str(cp.dest.key()) if cp.dest is not None else NONE,
    }


def _server_members(dest: Dest) -> dict[str, str]:
    return {
        "refcnt": str(dest.refcnt),
        "weight": str(dest.weight),
        "active": str(dest.activeconns),
        "inactive": str(dest.inactconns),
        "templates": str(dest.persistconns),
        "overloaded": str(dest.overloaded),
        "available": str(dest.available),
    }


def parse_step(text: str) -> tuple[float, Packet | str]:
    """Seconds to wait before a step, and the step: a packet, or an ipvsadm or sysctl command, or "" for waiting alone.

    Raises ExplainError, PacketTextError.

    >>> parse_step("+60 tcp 203.0.113.7:40000 > 192.0.2.1:80 A")
    (60.0, Packet.tcp('203.0.113.7:40000', '192.0.2.1:80', 'A'))
    >>> parse_step("ipvsadm -d -t 192.0.2.1:80 -r 10.1.0.11:8080")
    (0.0, 'ipvsadm -d -t 192.0.2.1:80 -r 10.1.0.11:8080')
    """
    wait, rest = 0.0, text.strip()
    if rest.startswith("+"):
        number, _, rest = rest[1:].partition(" ")
        try:
            wait = float(number)
        except ValueError:
            raise ExplainError(f"{text!r}: +{number} is no time in seconds") from None
        if not 0 <= wait <= 1e9:
            raise ExplainError(f"{text!r}: seconds must be 0 to 1e9")
        rest = rest.strip()
    if not rest and wait == 0:
        raise ExplainError(f"{text!r} is no step: write a packet, as in {EXAMPLE}, or +SECONDS")
    if not rest or rest.split()[0] in ("ipvsadm", "sysctl"):
        return wait, rest
    return wait, parse_packet(rest)
