"""Laws: what every step of every IPVS keeps, each in a sentence and a few lines that know nothing of how the model is built.

A law sees a `Step` (what could be seen before and after) and raises `LawBroken` with its sentence and the objects that break it. Laws may remember
things, so each run of a machine has its own. To add one, subclass `Law` and put it into `IPVSMachine.LAWS`.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from ipvs_model.addresses import format_endpoint, parse_endpoint
from ipvs_model.conn import Conn
from ipvs_model.dest import Dest
from ipvs_model.events import Scheduled
from ipvs_model.flags import AF_INET, IP_VS_CONN_F_NOOUTPUT, IP_VS_SVC_F_PERSISTENT, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, Hook
from ipvs_model.service import Service
from ipvs_model.testing.snapshots import SeenConn, Step

STAY_S: Final = 60  #: what cannot go when its time comes stays so long
INVALID_PORT: Final = 0xFFFF  #: of a template that was given up
SYN: Final = 2
CHUNK_INIT: Final = 1
OPTION_PROTOCOL: Final = {"-t": IPPROTO_TCP, "-u": IPPROTO_UDP, "--sctp-service": IPPROTO_SCTP}

#: seconds that an entry lives on after a packet, by protocol and state as listings print it; `ipvsadm --set` changes three of them
PERIODS: Final[dict[int, dict[str, int]]] = {
    IPPROTO_TCP: {
        "NONE": 2, "ESTABLISHED": 900, "SYN_SENT": 120, "SYN_RECV": 60, "FIN_WAIT": 120, "TIME_WAIT": 120, "CLOSE": 10, "CLOSE_WAIT": 60, "LAST_ACK": 30,
        "LISTEN": 120, "SYNACK": 120,
    },
    IPPROTO_UDP: {"UDP": 300},
    IPPROTO_SCTP: {
        "NONE": 2, "INIT1": 4, "INIT": 61, "C-SENT": 61, "C-REPLIED": 61, "C-WAIT": 61, "COOKIE": 61, "C-ECHOED": 61, "ESTABLISHED": 900, "S-SENT": 61,
        "S-RECEIVED": 61, "S-ACK-SENT": 61, "REJECTED": 4, "CLOSED": 61,
    },
}  # fmt: skip
#: states that count as ActiveConn
ACTIVE: Final[dict[int, frozenset[str]]] = {
    IPPROTO_TCP: frozenset(("ESTABLISHED", "SYN_SENT", "SYN_RECV", "SYNACK")),
    IPPROTO_SCTP: frozenset(("ESTABLISHED",)),
}
#: what becomes of a packet that ends or goes on before it has met a connection
UNMET: Final = frozenset((
    "no connection", "no service", "not a starter", "ftp data", "local reply", "other port", "short header", "drop_packet", "no destination",
    "no destination icmp", "engine refused", "dest unavailable", "old conntrack", "checksum", "rs unreachable", "icmp unrelated", "not icmp error", "no hooks",
))  # fmt: skip
#: packets that IPVS lets pass without looking: no service of the family is left, or they were handled before
UNSEEN: Final = frozenset(("no hooks", "property"))
#: schedulers that may keep a server that is above its threshold: they remember it
REMEMBERS: Final = frozenset(("lblc",))


class LawBroken(AssertionError):
    """A step broke a law; the text says which and how."""


class Law:
    """A law. The first paragraph of its docstring is its sentence."""

    @property
    def sentence(self) -> str:
        """The law in words."""
        return " ".join((self.__doc__ or "").split("\n\n")[0].split())

    def check(self, step: Step) -> None:
        """Raise LawBroken if the step breaks it."""
        raise NotImplementedError

    def require(self, holds: bool, step: Step, what: str) -> None:
        """Raise LawBroken with ``what`` unless it holds."""
        if not holds:
            raise LawBroken(f"{what}\n  law: {self.sentence}\n  step: {step.text}")


def name(seen: SeenConn) -> str:
    """An entry in words."""
    ends = " -> ".join(format_endpoint(seen.af, end) for end in (seen.client, seen.virt, seen.real))
    return f"{'template' if seen.template else 'connection'} {ends} {seen.state}"


def opens(step: Step) -> bool:
    """Whether the packet opens a connection: SYN, or an INIT chunk first."""
    packet = step.packet
    assert packet is not None
    if packet.proto == IPPROTO_TCP:
        return packet.flags > 0 and bool(packet.flags & SYN)
    return packet.proto == IPPROTO_SCTP and packet.raw[packet.l4 + 12 : packet.l4 + 13] == bytes([CHUNK_INIT])


def whole(step: Step) -> bool:
    """Whether the packet has a whole transport header of a protocol with connections."""
    packet = step.packet
    assert packet is not None
    return packet.plain or (packet.proto == IPPROTO_SCTP and packet.has_ports and packet.l4_len >= 16)


def reason(step: Step) -> str:
    """The code of what became of the packet."""
    assert step.outcome is not None
    return step.outcome.reason.code


def towards_servers(step: Step) -> bool:
    """Whether the packet reached a hook in which connections are looked up for packets of clients; without its mark it may not."""
    assert step.outcome is not None
    return step.outcome.reason.hook is not Hook.FORWARD and reason(step) not in UNSEEN


def met(step: Step) -> Conn | None:
    """The entry that a packet has met, found by looking through them all: the client's, else the server's."""
    packet, after = step.packet, step.after
    assert packet is not None
    if reason(step) in ("forwarded", "local"):
        return after.entry(packet.proto, packet.src, packet.dst)
    if reason(step) in ("translated", "reply"):
        return after.replied(packet.proto, packet.src, packet.dst)
    return None


def service_of(dest: Dest | None) -> Service | None:
    """The service that a real server belongs to, also after its deletion."""
    return dest.svc if dest is not None else None


# --- entries and their timers -----------------------------------------------------------------------------------------
class TemplatesOutliveTheirConnections(Law):
    """No template dies before the connections that it controls."""

    def check(self, step: Step) -> None:
        for seen in step.after.conns.values():
            gone = seen.control is not None and seen.control not in step.after.conns
            self.require(not gone, step, f"{name(seen)} has lost its template")


class DroppedPacketsRearmNothing(Law):
    """A packet that ends before it has met a connection gives no entry more time, and nor does an ICMP error, whatever becomes of it."""

    def check(self, step: Step) -> None:
        if step.packet is None:
            return
        icmp = step.packet.proto in (IPPROTO_ICMP, IPPROTO_ICMPV6)
        if reason(step) not in UNMET and not icmp:
            return
        for cp, seen in step.moved().items():
            later = seen.expires > max(step.before.conns[cp].expires, step.after.now)
            self.require(not later, step, f"{name(seen)} got more time by a packet of which became: {reason(step)}")


class PacketsMoveOnlyTheirOwnEntry(Law):
    """A packet moves the timer of its own connection and of that one's template, of no other, and no other protocol's."""

    def check(self, step: Step) -> None:
        packet = step.packet
        if packet is None:
            return
        for seen in step.moved().values():
            if seen.expires <= step.after.now:
                continue  # pulled to now: it is being replaced
            ends = {packet.src, packet.dst}
            own = seen.protocol == packet.proto and seen.client in ends and (seen.virt in ends or seen.real in ends)
            svc = service_of(seen.dest)
            template = seen.template and svc is not None and network(svc, packet.src >> 16) == seen.client >> 16
            self.require(own or template, step, f"{name(seen)} was re-armed by a packet that is not its own")


class PacketsRearmByTheirState(Law):
    """A packet gives its connection the whole period of the state that it is in then: the usual one, or what `ipvsadm --set` says since."""

    def __init__(self) -> None:
        self.set = {(IPPROTO_TCP, "ESTABLISHED"): 900, (IPPROTO_TCP, "FIN_WAIT"): 120, (IPPROTO_UDP, "UDP"): 300}

    def check(self, step: Step) -> None:
        if step.kind == "command" and step.text.startswith("--set") and not step.status:
            for key, given in zip(self.set, map(int, step.text.split()[1:4]), strict=True):
                self.set[key] = given or self.set[key]
        if step.packet is None or not whole(step):
            return
        cp = met(step)
        if cp is None:
            return
        seen = step.after.conns[cp]
        seconds = self.set.get((seen.protocol, seen.state)) or PERIODS[seen.protocol].get(seen.state)
        self.require(seconds is not None, step, f"{name(seen)} is in a state that its protocol has not")
        left = seen.expires - step.after.now
        self.require(left == (seconds or 0) * step.ipvs.clock.hz, step, f"{name(seen)} has {left} jiffies left, wants {seconds} s")


class WhatCannotGoStaysAMinute(Law):
    """What cannot go when its time comes stays 60 s, and a template that stayed is re-armed with 60 s from then on, not with its own period."""

    def __init__(self) -> None:
        self.periods: dict[Conn, int] = {}

    def check(self, step: Step) -> None:
        hz = step.ipvs.clock.hz
        for cp, seen in step.new().items():
            if seen.template:
                svc = service_of(seen.dest)
                self.periods[cp] = seen.timeout
                self.require(svc is None or seen.timeout == svc.timeout, step, f"{name(seen)} begins with {seen.timeout} jiffies")
        for cp, seen in step.moved().items():
            if step.kind == "wait":
                self.require(seen.timeout == STAY_S * hz, step, f"{name(seen)} stays for {seen.timeout} jiffies")
                self.periods[cp] = STAY_S * hz
            elif step.kind == "packet" and seen.template and seen.expires > step.after.now:
                left = seen.expires - step.after.now
                self.require(left == self.periods.get(cp, left), step, f"{name(seen)} is re-armed with {left} jiffies, wants {self.periods.get(cp)}")


# --- connections and servers ------------------------------------------------------------------------------------------
class ConnectionsKeepTheirServer(Law):
    """A packet of a connection goes to the connection's server as long as that is there, whatever its weight and whatever the scheduler says now."""

    def check(self, step: Step) -> None:
        packet, before = step.packet, step.before
        if packet is None or not whole(step) or opens(step) or not towards_servers(step):
            return
        cp = before.entry(packet.proto, packet.src, packet.dst)
        if cp is None or before.replied(packet.proto, packet.src, packet.dst) is not None:
            return
        seen = before.conns[cp]
        if seen.dest is None or not before.dests[seen.dest].available:
            return
        stayed = step.after.conns.get(cp)
        counted = stayed is not None and stayed.in_pkts == seen.in_pkts + 1 and stayed.dest is seen.dest
        self.require(counted, step, f"{name(seen)} did not get its packet: {reason(step)}")
        if reason(step) == "forwarded" and seen.masq:
            assert step.outcome is not None
            self.require(step.outcome.emitted[0].dst == seen.real, step, f"{name(seen)}: its packet went to another server: {step.outcome.emitted[0]!r}")


class ReuseFollowsItsMode(Law):
    """A SYN on an entry that is there is scheduled anew only if the entry is in TIME_WAIT or CLOSE and conn_reuse_mode allows it (2: FIN_WAIT
    without replies too; not under a template), or if its server has weight 0 and expire_nodest_conn is set.
    """

    def check(self, step: Step) -> None:
        packet, before, sysctl = step.packet, step.before, step.ipvs.ns.sysctl
        if packet is None or packet.proto != IPPROTO_TCP or not packet.plain or not opens(step) or not towards_servers(step):
            return
        cp = before.entry(packet.proto, packet.src, packet.dst)
        if cp is None or before.replied(packet.proto, packet.src, packet.dst) is not None or reason(step) == "old conntrack":
            return
        seen = before.conns[cp]
        if seen.dest is None or not before.dests[seen.dest].available:
            return
        mode = sysctl.conn_reuse_mode
        ended = seen.state in ("TIME_WAIT", "CLOSE") or (bool(mode & 2) and seen.state == "FIN_WAIT" and bool(seen.flags & IP_VS_CONN_F_NOOUTPUT))
        drained = bool(sysctl.expire_nodest_conn) and before.dests[seen.dest].weight == 0
        anew = drained or (mode != 0 and seen.control is None and ended)
        stayed = step.after.conns.get(cp)
        kept = stayed is not None and stayed.in_pkts == seen.in_pkts + 1
        wants = "scheduled anew" if anew else "kept"
        self.require(kept != anew, step, f"{name(seen)} met a SYN with conn_reuse_mode {mode} and should be {wants}")


class RepliesAreTranslated(Law):
    """A server's packet of a connection leaves with the virtual address, as long as the entry lives; a packet of no connection keeps its own."""

    def check(self, step: Step) -> None:
        packet, before = step.packet, step.before
        if packet is None or not whole(step) or reason(step) in UNSEEN:
            return
        outcome = step.outcome
        assert outcome is not None
        cp = before.replied(packet.proto, packet.src, packet.dst)
        if cp is not None and before.conns[cp].masq:
            seen = before.conns[cp]
            right = len(outcome.emitted) == 1 and (outcome.emitted[0].src, outcome.emitted[0].dst) == (seen.virt, seen.client)
            self.require(right or reason(step) in ("no route", "rewrite refused"), step, f"{name(seen)}: the reply left as {outcome.emitted!r}")
        elif cp is None:
            self.require(reason(step) not in ("translated", "reply"), step, f"a packet of no connection was {reason(step)}")


class OnlyItsStateMakesItActive(Law):
    """A connection counts as active in TCP's ESTABLISHED, SYN_SENT, SYN_RECV and SYNACK, in SCTP's ESTABLISHED, and never over UDP."""

    def check(self, step: Step) -> None:
        for seen in step.after.conns.values():
            if seen.dest is None or seen.template:
                continue
            wanted = seen.state in ACTIVE.get(seen.protocol, ())
            self.require(seen.active == wanted, step, f"{name(seen)} counts as {'active' if seen.active else 'inactive'}")


class NothingNewForTheDrained(Law):
    """A scheduler sends nothing new to a server that is not of this service, has weight 0, or is above its threshold."""

    def check(self, step: Step) -> None:
        if step.outcome is None:
            return
        for event in step.outcome.reason.events:
            if not isinstance(event, Scheduled) or event.dest is None:
                continue
            svc = next(svc for svc in step.before.services if svc.key() == event.service)
            own = [dest for dest in step.before.services[svc].dests if dest.key() == event.dest]
            self.require(bool(own), step, f"{event.scheduler} chose {event.dest}, which is no server of {event.service}")
            seen = step.before.dests[own[0]]
            self.require(seen.weight > 0, step, f"{event.scheduler} chose {event.dest}, which has weight {seen.weight}")
            if event.scheduler not in REMEMBERS:
                self.require(not seen.overloaded, step, f"{event.scheduler} chose {event.dest}, which is above its threshold ({seen.total} connections)")


class ThresholdsHaveAMemory(Law):
    """A server is overloaded from its upper threshold on until it has fallen below the lower one, which is 3/4 of the upper one if it is 0."""

    def check(self, step: Step) -> None:
        for dest, seen in step.after.dests.items():
            lower = seen.lower or seen.upper - seen.upper // 4
            if not seen.upper:
                self.require(not seen.overloaded, step, f"{dest!r} is overloaded without a threshold")
            elif seen.total >= seen.upper:
                self.require(seen.overloaded, step, f"{dest!r} is not overloaded with {seen.total} of {seen.upper} connections")
            elif seen.total < lower:
                self.require(not seen.overloaded, step, f"{dest!r} is overloaded with {seen.total} connections, below {lower}")
            else:
                self._between(step, dest)

    def _between(self, step: Step, dest: Dest) -> None:
        before, seen = step.before.dests.get(dest), step.after.dests[dest]
        if before is None or (before.upper, before.lower) != (seen.upper, seen.lower) or before.total > before.upper:
            return
        if step.kind == "packet" and before.total == seen.total:
            return  # a one-packet connection may have come and gone
        self.require(seen.overloaded == before.overloaded, step, f"{dest!r} changed between its thresholds, with {before.total} -> {seen.total} connections")


class ClientsOfOneNetworkShareTheirServer(Law):
    """All connections of one client network to one persistent service go to one server, on any port of it, while the template is good."""

    def __init__(self) -> None:
        self.born: dict[Conn, int] = {}
        self.edited: dict[Service, int] = {}
        self.steps = 0

    def check(self, step: Step) -> None:
        self.steps += 1
        for svc, seen in step.after.services.items():
            old = step.before.services.get(svc)
            if old is None or (old.netmask, old.flags, old.timeout) != (seen.netmask, seen.flags, seen.timeout):
                self.edited[svc] = self.steps
        for cp, new in step.new().items():
            self.born[cp] = self.steps
            if step.kind == "packet" and not new.template and new.control is not None:
                self._compare(step, new)

    def _compare(self, step: Step, new: SeenConn) -> None:
        svc = service_of(new.dest)
        if svc is None or svc not in step.after.services or not svc.flags & IP_VS_SVC_F_PERSISTENT:
            return
        for cp, other in step.before.conns.items():
            if other.template or other.control is None or service_of(other.dest) is not svc or other.dest is None:
                continue
            template, dest = other.control, step.before.dests[other.dest]
            given_up = step.before.conns[template].virt & INVALID_PORT == INVALID_PORT
            usable = dest.available and not (step.ipvs.ns.sysctl.expire_quiescent_template and dest.weight == 0)
            if given_up or not usable or self.born.get(cp, 0) <= self.edited.get(svc, 0) or self.born.get(template, 0) <= self.edited.get(svc, 0):
                continue
            if network(svc, other.client >> 16) == network(svc, new.client >> 16) and (svc.fwmark or other.virt == new.virt or not svc.port):
                self.require(new.dest is other.dest, step, f"{name(new)} went elsewhere than {name(other)}")


def network(svc: Service, addr: int) -> int:
    """The client network of an address for a service, as an address."""
    if svc.af == AF_INET:
        return addr & svc.netmask
    return int(ipaddress.IPv6Network((addr, svc.netmask), strict=False).network_address)


# --- control ----------------------------------------------------------------------------------------------------------
class FailedCommandsChangeNothing(Law):
    """A control call that fails leaves everything as it was."""

    def check(self, step: Step) -> None:
        if step.kind != "command" or not step.status:
            return
        for part in ("conns", "dests", "services", "stats"):
            same = getattr(step.before, part) == getattr(step.after, part)
            self.require(same, step, f"the command failed with status {step.status}, but {part} changed")


class CommandsDoWhatTheySay(Law):
    """After `-a` the service has a server with that address and port, with the weight that was asked for; after `-d` none."""

    def check(self, step: Step) -> None:
        words = step.text.split()
        if step.kind != "command" or step.status or words[0] not in ("-a", "-e", "-d"):
            return
        svc = _named(step, words)
        af, addr, port = parse_endpoint(words[words.index("-r") + 1])
        if words[0] != "-d" and "-m" not in words and not svc.fwmark:
            port = svc.port  # only translation can change the port
        found = [dest for dest in step.after.services[svc].dests if (dest.af, dest.addr, dest.port) == (af, addr, port)]
        if words[0] == "-d":
            self.require(not found, step, f"{words[4]} is still a server of {svc!r}")
            return
        self.require(len(found) == 1, step, f"{len(found)} servers are called {format_endpoint(af, addr << 16 | port)}")
        if "-w" in words:
            self.require(found[0].weight == int(words[words.index("-w") + 1]), step, f"{found[0]!r} has another weight")


def _named(step: Step, words: list[str]) -> Service:
    """The service that a command names."""
    if words[1] == "-f":
        return next(svc for svc in step.after.services if str(svc.fwmark) == words[2] and (svc.af != AF_INET) == ("-6" in words))
    af, addr, port = parse_endpoint(words[2])
    wanted = (af, OPTION_PROTOCOL[words[1]], addr, port)
    return next(svc for svc in step.after.services if not svc.fwmark and (svc.af, svc.protocol, svc.addr, svc.port) == wanted)


class StatisticsNeverRunBackwards(Law):
    """No live counter of a server, a service or the total ever falls."""

    def check(self, step: Step) -> None:
        before, after = step.before, step.after
        pairs = [("the total", before.stats, after.stats)]
        pairs += [(repr(dest), before.dests[dest].stats, seen.stats) for dest, seen in after.dests.items() if dest in before.dests]
        pairs += [(repr(svc), before.services[svc].stats, seen.stats) for svc, seen in after.services.items() if svc in before.services]
        for who, old, new in pairs:
            self.require(all(a <= b for a, b in zip(old, new, strict=True)), step, f"{who} counted {old}, then {new}")


LAWS: Final[tuple[type[Law], ...]] = (
    TemplatesOutliveTheirConnections,
    DroppedPacketsRearmNothing,
    PacketsMoveOnlyTheirOwnEntry,
    PacketsRearmByTheirState,
    WhatCannotGoStaysAMinute,
    ConnectionsKeepTheirServer,
    ReuseFollowsItsMode,
    RepliesAreTranslated,
    OnlyItsStateMakesItActive,
    NothingNewForTheDrained,
    ThresholdsHaveAMemory,
    ClientsOfOneNetworkShareTheirServer,
    FailedCommandsChangeNothing,
    CommandsDoWhatTheySay,
    StatisticsNeverRunBackwards,
)
