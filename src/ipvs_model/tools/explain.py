"""Packets step by step: every decision with the kernel function that takes it, references and timers before and after.

It is a replay that looks on: what a capture's packets are, and what answers become, is decided there.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from attrs import frozen

from ipvs_model.addresses import format_addr, parse_addr
from ipvs_model.apps import Ftp
from ipvs_model.conn import Conn
from ipvs_model.dest import Dest
from ipvs_model.errors import IPVSError
from ipvs_model.events import ConnKey, DestKey, Event, Watcher
from ipvs_model.flags import AF_INET, IP_VS_CONN_F_HASHED, IPPROTO_GRE, IPPROTO_TCP, IPPROTO_UDP, Hook, Verdict, conn_flag_names
from ipvs_model.packet import Packet
from ipvs_model.packet.icmp_error import is_error
from ipvs_model.packet.local import local_answer
from ipvs_model.packet.rewrite import dec_ttl
from ipvs_model.stats import COUNTERS
from ipvs_model.tools.explain_debug import DebugKernel
from ipvs_model.tools.packet_text import EXAMPLE, describe, parse_packet
from ipvs_model.tools.pcap import CapturedPacket
from ipvs_model.tools.replay import CLIENT, NANOSECONDS, Replay
from ipvs_model.transmit.action import REASONS, Action

PASSING: Final = "packet that passes through"
OWN: Final = "packet of the director itself"
COMMAND: Final = "command"
WAIT: Final = "wait"
NONE: Final = "none"
FRAGMENT: Final = "fragment"
MODULES: Final = {"ip_vs_ftp": Ftp}  #: what `modprobe` loads
#: first word of a step that is a command
COMMANDS: Final = ("ipvsadm", "sysctl", "modprobe")
#: members that are always shown of what a step touched; the others only when they change
ALWAYS: Final = ("refcnt", "n_control", "timer")


class ExplainError(ValueError):
    """A step that cannot be; the text is fit to be shown."""


@frozen
class Change:
    """An object that a step touched: (name, before, after) for each of its members that is worth a look; None: it was not there, or is gone."""

    what: str
    members: tuple[tuple[str, str | None, str | None], ...]
    key: ConnKey | DestKey | None  #: None: the counters of the whole namespace


@frozen
class Walk:
    """One step, explained."""

    number: int
    seconds: float  #: since the first step
    jiffies: int
    hz: int
    what: str  #: the packet as it came, or the command
    kind: str  #: "client packet", "answer", "packet that passes through", "packet of the director itself", "command", "wait", or why it was not fed
    given: str  #: the packet as IPVS got it, where that is another one: an answer comes from the real server
    before: tuple[Event, ...]  #: what happened while time passed since the step before
    events: tuple[Event, ...]
    verdict: str  #: "STOLEN", "ACCEPT", "DROP"; "" for a command or a packet that was not fed
    reason: str  #: in words
    delivered: str  #: the packet that the host's own stack gets
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


@frozen
class HostAnswered(Event):
    """The host's own stack, on which nothing listens, answers what it got."""

    packet: str

    def describe(self) -> str:
        return f"nothing listens, the host answers {self.packet}"


@frozen(eq=False)
class Seen:
    """An object at one moment; holding it keeps its identity its own."""

    what: object
    name: str
    key: ConnKey | DestKey | None
    members: dict[str, str]


Snapshot: TypeAlias = dict[int, Seen]


class Explainer(Replay):
    """A replay that explains what it does. Options as for Replay, and:

    `addresses`: the director's own, beside the virtual ones; a written packet from one of them is sent by the director itself.
    `local_stack`: the director answers written packets that it accepts, as a host on which nothing listens.
    `kernel_debug`: the lines that a debug kernel prints are told between the decisions.
    Raises ValueError for an address that is none.
    """

    def __init__(self, rules: str, *, addresses: Iterable[str] = (), local_stack: bool = False, kernel_debug: bool = False, **options: Any) -> None:
        super().__init__(rules, **options)
        self.own = {parse_addr(address) for address in addresses}
        self.routing.addresses |= self.own
        self.local_stack = local_stack
        self.kernel_debug = kernel_debug
        self.number = 0
        self._kind = self._why = ""
        self._fed: Packet | None = None
        self._decided: Action | None = None
        self._accepted: Packet | None = None
        self._bits = 0  #: of the packet that is fed next
        self._in_hand: list[Packet] = []  #: packets that are at a hook, the innermost last
        self._run_local_out = self.ipvs.ns.run_local_out
        self.ipvs.ns.run_local_out = self._local_out

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
        self._kind, self._why, self._fed, self._decided, self._accepted = "", "", None, None, None
        with self._listening(events.append):
            left = self.feed(captured) if written is None else self._send(written, captured)
            fed, decided, delivered = self._fed, self._decided, self._accepted
            answers = self._host_answers() if written is not None and self.local_stack else []
        return Walk(
            number=self.number,
            seconds=self._seconds(),
            jiffies=self.ipvs.clock.now,
            hz=self.ipvs.clock.hz,
            what=describe(packet),
            kind=self._kind or self._why,
            given=describe(fed) if fed is not None and (fed.src, fed.dst) != (packet.src, packet.dst) else "",
            before=before,
            events=tuple(events),
            verdict=decided.verdict.name if decided is not None else "",
            reason=REASONS[decided.reason] if decided is not None else "",
            delivered=describe(delivered) if delivered is not None else "",
            left=(*(_leaving(sent, fed, decided) for sent in left), *map(describe, answers)),
            changes=self._changes(snapshot, self._snapshot()),
            hops=self._hops(fed, left, answers, decided) if fed is not None and decided is not None else (),
        )

    def _send(self, packet: Packet, captured: CapturedPacket) -> list[Packet]:
        """A packet that somebody wrote, by the hook that it would meet."""
        ours = [(packet.af, end >> 16) in self.routing.addresses for end in (packet.src, packet.dst)]
        if (packet.af, packet.saddr) in self.own or all(ours):
            self._kind, self._fed = OWN, packet
            return self._sent_by_host(packet)
        if packet.mark or not any(ours):
            packet.device = "eth0"
            return self._receive(CLIENT if packet.mark else PASSING, packet, captured)
        self._bits = packet.bits
        return self.feed(captured)

    def _sent_by_host(self, packet: Packet) -> list[Packet]:
        """What leaves the host of a packet that it makes."""
        action, left = self._process(packet, Hook.LOCAL_OUT)
        outbox = self.ipvs.ns.outbox
        errors = [sent.packet for sent in outbox if (sent.packet.af, sent.packet.daddr) not in self.routing.addresses]  # others stay on the loopback device
        outbox.clear()
        return ([left] if left is not None and action.verdict is not Verdict.DROP else []) + errors

    def _host_answers(self) -> list[Packet]:
        """What the local stack, on which nothing listens, sends because of the packet that it got."""
        answer = local_answer(self._accepted) if self._accepted is not None else None
        emit = self.ipvs.ns.emit
        if answer is None or emit is None:
            return []
        emit(HostAnswered(_answering(answer), describe(answer) + _numbers(answer)))
        return self._sent_by_host(answer)

    def play(self, captured: CapturedPacket) -> list[Event]:
        """Play a packet of a capture without explaining it; what happened."""
        heard: list[Event] = []
        with self._listening(heard.append):
            self.feed(captured)
        return heard

    def wait_for(self, wanted: Callable[[Event], bool]) -> Walk:
        """Explain the time until an event that is wanted, or until no timer is left."""
        clock, start = self.ipvs.clock, self.timeline.start
        self.number += 1
        snapshot = self._snapshot()
        heard: list[Event] = []
        with self._listening(heard.append):
            while not any(map(wanted, heard)) and (deadline := clock.next_deadline()) is not None:
                self._let_time_pass((self.first_time or 0) - (start - deadline) * NANOSECONDS // clock.hz)
        return self._told("", WAIT, tuple(heard), (), (), snapshot)

    def command(self, text: str, time: int) -> Walk:
        """Explain an ipvsadm, sysctl or modprobe command; "" only lets time pass. Raises ExplainError when it is refused."""
        untouched = self._snapshot()
        before, snapshot, events = self._begin(time)
        with self._listening(events.append):
            output = self._run(text)
        if not text:
            return self._told("", WAIT, before, (), (), untouched)
        return self._told(text, COMMAND, before, tuple(events), output, snapshot)

    def _told(self, what: str, kind: str, before: tuple[Event, ...], events: tuple[Event, ...], output: tuple[str, ...], snapshot: Snapshot) -> Walk:
        """A step without a packet."""
        clock = self.ipvs.clock
        changes = self._changes(snapshot, self._snapshot())
        if kind == WAIT:  # that timers run is no news
            changes = tuple(change for change in changes if any(before != after for name, before, after in change.members if name != "timer"))
        return Walk(self.number, self._seconds(), clock.now, clock.hz, what, kind, "", before, events, "", "", "", output, changes)

    def _run(self, text: str) -> tuple[str, ...]:
        if text.startswith("ipvsadm"):
            done = self.ipvs.ipvsadm(text.removeprefix("ipvsadm"))
            if done.status:
                words = (done.err or done.out).strip().partition("\n")[0]
                raise ExplainError(f"{text}: {words or f'exit status {done.status}'}")
            return tuple(done.out.splitlines())
        if text.startswith("modprobe"):
            self._load(text)
        elif text:
            name, _, value = text.removeprefix("sysctl").strip().partition("=")
            try:
                self.ipvs.sysctl_write(name.strip(), value.strip())
            except IPVSError as refused:
                raise ExplainError(f"{text}: {refused.strerror or refused}") from refused
        return ()

    def _load(self, text: str) -> None:
        """`modprobe ip_vs_ftp`, with ports=… where they are not the usual one."""
        name, _, options = text.removeprefix("modprobe").strip().partition(" ")
        ports = options.strip().removeprefix("ports=")
        try:
            module = MODULES[name]
            self.ipvs.apps.register(module([int(port) for port in ports.split(",")]) if ports else module())
        except (KeyError, ValueError, IPVSError) as wrong:
            raise ExplainError(f"{text}: write modprobe ip_vs_ftp, or modprobe ip_vs_ftp ports=21,2121, once") from wrong

    def _begin(self, time: int) -> tuple[tuple[Event, ...], Snapshot, list[Event]]:
        self.number += 1
        passed: list[Event] = []
        with self._listening(passed.append):
            self._let_time_pass(time)
        return tuple(passed), self._snapshot(), []

    def _seconds(self) -> float:
        return (self.last_time - (self.first_time or 0)) / NANOSECONDS

    @contextmanager
    def _listening(self, heard: Watcher) -> Iterator[None]:
        """Let somebody hear what happens."""
        stop = self.ipvs.subscribe(DebugKernel(self.ipvs.ns, self._in_hand, heard) if self.kernel_debug else heard)
        try:
            yield
        finally:
            stop()

    # --- what the replay does on the way --------------------------------------------------------------------------------
    def _complete(self, captured: CapturedPacket) -> Packet:
        packet = super()._complete(captured)
        packet.bits |= self._bits
        self._bits = 0
        return packet

    def _process(self, packet: Packet, hook: Hook) -> tuple[Action, Packet | None]:
        self._in_hand.append(packet)
        action, left = super()._process(packet, hook)
        self._in_hand.pop()
        if hook is Hook.FORWARD and action.verdict is Verdict.STOLEN and left is not None:
            left = dec_ttl(left)  # the host has done that already when it forwards
        self._decided = action
        self._accepted = left if hook is Hook.LOCAL_IN and action.verdict is Verdict.ACCEPT else None
        return action, left

    def _local_out(self, packet: Packet) -> Packet | None:
        """An ICMP error of IPVS passes LOCAL_OUT."""
        self._in_hand.append(packet)
        left = self._run_local_out(packet)
        self._in_hand.pop()
        return left

    def _receive(self, what: str, packet: Packet, captured: CapturedPacket) -> list[Packet]:
        self._kind, self._fed = what, packet
        return super()._receive(what, packet, captured)

    def _leave_out(self, why: str, captured: CapturedPacket) -> list[Packet]:
        self._why = why
        return super()._leave_out(why, captured)

    def _entry(self, af: int, protocol: int, client: int, virt: int) -> Conn | None:
        """The replay's own look at the table is none of IPVS's."""
        ns = self.ipvs.ns
        emit = ns.emit
        ns.watch(None)
        try:
            return super()._entry(af, protocol, client, virt)
        finally:
            ns.watch(emit)

    # --- before and after -----------------------------------------------------------------------------------------------
    def _compared(self) -> Iterable[Conn]:
        """The entries that a step may change."""
        return self.ipvs.ns.conns

    def _snapshot(self) -> Snapshot:
        """Entries and servers as they are."""
        found = [Seen(cp, f"{'template' if cp.is_template else 'entry'} {cp.key()}", cp.key(), _entry_members(cp)) for cp in self._compared()]
        linked = (dest for svc in self.ipvs.services for dest in svc.destinations)
        dests = {id(dest): dest for dest in (*(dest for _, dest in self.servers), *linked, *self.ipvs.ns.trash.dests)}
        found += [Seen(dest, f"server {dest.key()}", dest.key(), _server_members(dest)) for dest in dests.values()]
        total = self.ipvs.ns.tot_stats
        found.append(Seen(total, "total", None, {name: str(value) for name, value in zip(COUNTERS, total.live(), strict=True)}))
        return {id(seen.what): seen for seen in found}

    @staticmethod
    def _changes(before: Snapshot, after: Snapshot) -> tuple[Change, ...]:
        changes = []
        for key in dict.fromkeys((*after, *before)):
            old, new = before.get(key), after.get(key)
            seen = new if new is not None else before[key]
            was, now = (old.members if old is not None else {}), (new.members if new is not None else {})
            if was != now:
                shown = [member for member in was | now if member in ALWAYS or was.get(member) != now.get(member)]
                rows = tuple((member, was.get(member), now.get(member)) for member in shown)
                changes.append(Change(seen.name, tuple(row for row in rows if set(row[1:]) != {None, NONE}), seen.key))
        return tuple(changes)

    # --- for diagrams ---------------------------------------------------------------------------------------------------
    def _hops(self, fed: Packet, left: list[Packet], answers: list[Packet], decided: Action) -> tuple[Hop, ...]:
        """The packet to the director, and what the director sent, by host."""
        lost = not left and decided.verdict is not Verdict.ACCEPT and decided.reason != FRAGMENT
        hops = [] if self._kind == OWN else [Hop(format_addr(fed.af, fed.saddr), "", _short(fed), lost)]
        served = self.ipvs.ns.served
        for sent in left:
            if decided.verdict is Verdict.STOLEN and sent.daddr != fed.saddr and served is not None:
                hops.append(Hop("", format_addr(served.af, served.addr), _short(sent)))
            else:
                hops.append(Hop("", format_addr(sent.af, sent.daddr), _short(sent)))
        return (*hops, *(Hop("", format_addr(sent.af, sent.daddr), _short(sent)) for sent in answers))


def _leaving(sent: Packet, fed: Packet | None, decided: Action | None) -> str:
    """A packet that leaves: by way of whom if not straight to its destination, and what else IPVS has changed: payload, sequence numbers, what stands around it."""
    words = [describe(sent)]
    if decided is not None and decided.verdict is Verdict.STOLEN and decided.next_hop not in (0, sent.daddr):
        words.append(f"via {format_addr(sent.af, decided.next_hop)}")
    if fed is not None and sent.proto == fed.proto in (IPPROTO_TCP, IPPROTO_UDP):
        words += [f"payload {sent.payload!r}"] if sent.payload != fed.payload else []
        words += [_numbers(sent).strip()] if _numbers(sent) != _numbers(fed) else []
    if fed is not None and sent.proto in (IPPROTO_UDP, IPPROTO_GRE) and sent.length > fed.length:
        inner = Packet.parse(sent.raw[-fed.length :])
        words += [f"around {describe(inner)}"] if (inner.proto, inner.src, inner.dst) == (fed.proto, fed.src, fed.dst) else []
    return " ".join(words)


def _numbers(packet: Packet) -> str:
    """Sequence and acknowledgment number of a TCP segment, and its TOS if it has one."""
    if packet.proto != IPPROTO_TCP:
        return ""
    return f" seq={packet.seq} ack={packet.ack}" + (f" tos={packet.tos}" if packet.tos else "")


def _answering(answer: Packet) -> str:
    """The kernel function that makes an answer of the local stack."""
    if answer.proto == IPPROTO_TCP:
        return "tcp_v4_send_reset" if answer.af == AF_INET else "tcp_v6_send_reset"
    if is_error(answer):
        return "icmp_send" if answer.af == AF_INET else "icmp6_send"
    return "icmp_echo" if answer.af == AF_INET else "icmpv6_echo_reply"


def _short(packet: Packet) -> str:
    """A packet without its hosts."""
    words = describe(packet).split()
    return " ".join([words[0], *words[4:]])


def _entry_members(cp: Conn) -> dict[str, str]:
    clock = cp.ipvs.clock
    left = cp.expires - clock.now
    return {
        "state": cp.state_name,
        "flags": conn_flag_names(cp.flags & ~IP_VS_CONN_F_HASHED),
        "refcnt": str(cp.refcnt),
        "n_control": str(cp.n_control),
        "timer": f"{left / clock.hz:.3f} s" if cp.bucket is not None else "stopped",
        "timeout": f"{cp.timeout / clock.hz:g} s",
        "in_pkts": str(cp.in_pkts),
        "control": str(cp.control.key()) if cp.control is not None else NONE,
        "server": str(cp.dest.key()) if cp.dest is not None else NONE,
        "helper": cp.app.app.name if cp.app is not None else NONE,
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
    """Seconds to wait before a step, and the step: a packet, or an ipvsadm, sysctl or modprobe command, or "" for waiting alone.

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
    if not rest or rest.split()[0] in COMMANDS:
        return wait, rest
    return wait, parse_packet(rest)
