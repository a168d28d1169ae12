"""What would IPVS have done with this traffic? A capture taken in front of a virtual address is played through a rule set.

1. Packets to a virtual address (or with a mark) enter the model at the time of the capture: the virtual clock follows the timestamps.
2. Packets from a virtual address are answers. Each is given back as coming from the real server that the model chose for its connection, because that is
   what a director sees. With direct routing and tunnels answers do not pass the director: they are fed only when asked for.
3. Everything else in the capture is counted and left alone.

What the capturing machine had left to its network card (partial checksums, open lengths) is completed first, as the card would have done.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from attrs import evolve, frozen

from ipvs_model.addresses import format_addr, format_endpoint, parse_endpoint
from ipvs_model.conn import Conn
from ipvs_model.conn_table import ConnTable
from ipvs_model.defrag import IPFRAG_TIME_S, Defragmenter
from ipvs_model.dest import Dest
from ipvs_model.flags import (
    FWD_NAMES,
    IP_VS_CONN_F_LOCALNODE,
    IP_VS_CONN_F_MASQ,
    IP_VS_DIR_OUTPUT,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    PKT_PARTIAL,
    Hook,
    Verdict,
    proto_name,
)
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.packet import Packet
from ipvs_model.packet.fragment import fragment
from ipvs_model.packet.rewrite import dec_ttl, nat_icmp, snat
from ipvs_model.packet.view import IpHdr, fill_iph_at
from ipvs_model.routing import DefaultRouting, Route
from ipvs_model.service import Service
from ipvs_model.tools.link import complete_checksum, is_partial_checksum
from ipvs_model.tools.pcap import Capture, CapturedPacket
from ipvs_model.tools.result import NOT_LOST, LeftOut, OutcomeRow, Result, ServerRow
from ipvs_model.tools.timeline import Timeline
from ipvs_model.transmit import routes_changed
from ipvs_model.transmit.action import REASONS, Action

PROTOCOLS: Final = {"tcp": IPPROTO_TCP, "udp": IPPROTO_UDP, "sctp": IPPROTO_SCTP}
ANSWERS: Final = ("nat", "all", "none")  #: which answers are fed
ANY_SIZE: Final = 0x10000
NANOSECONDS: Final = 1_000_000_000
TALKERS: Final = 10_000  #: other destinations that are told apart

CLIENT: Final = "client packet"
ANSWER: Final = "answer"
NO_CONNECTION: Final = "answer of a connection that the model does not have"
STRAIGHT_BACK: Final = "answer that does not pass the director (direct routing, tunnel)"
OWN_ANSWER: Final = "answer of a server on the director itself"
PIECE: Final = "piece of a fragmented packet (the whole is fed with its last piece)"
UNWANTED: Final = "answer (switched off)"
ELSEWHERE: Final = "neither to nor from a virtual address"

#: quoted packet inside an ICMP error: protocol → types that quote one
ICMP_ERRORS: Final = {IPPROTO_ICMP: frozenset((3, 4, 11, 12)), IPPROTO_ICMPV6: frozenset((1, 2, 3, 4))}


class RulesError(ValueError):
    """A line of the rules was refused; the text names it."""


@frozen
class Mark:
    """Packets that the director's firewall would mark: to an address and protocol, port 0 for any."""

    value: int
    protocol: int
    af: int
    addr: int
    port: int

    @classmethod
    def parse(cls, text: str) -> "Mark":
        """A mark as people write it. Raises ValueError.

        >>> Mark.parse("7=tcp:192.0.2.1:80")
        Mark(value=7, protocol=6, af=2, addr=3221225985, port=80)
        """
        try:
            value, rest = text.split("=", 1)
            protocol, where = rest.split(":", 1)
            return cls(int(value, 0), PROTOCOLS[protocol.lower()], *parse_endpoint(where))
        except (ValueError, KeyError):
            raise ValueError(f"{text!r} is no mark; write MARK=PROTOCOL:ADDRESS[:PORT], as in 7=tcp:192.0.2.1:80") from None

    def matches(self, packet: Packet) -> bool:
        """Whether the firewall would mark this packet."""
        return packet.proto == self.protocol and packet.af == self.af and packet.dst >> 16 == self.addr and self.port in (0, packet.dst & 0xFFFF)


class DirectorRouting:
    """The director's network: virtual addresses are its own, everything else is one hop away.

    `mtu` is that of every route. A packet that is larger is an aggregate that a network card made (GRO) or is going to cut (GSO); its pieces fit, so
    `lift_mtu` is set while it passes. Otherwise routes never change, and whoever sets `lift_mtu` drops what was cached meanwhile.
    """

    static: Final = True

    def __init__(self, mtu: int) -> None:
        self._host = DefaultRouting()
        self.mtu = mtu
        self.addresses: set[tuple[int, int]] = set()
        self.lift_mtu = False

    def _local(self, af: int, addr: int) -> bool:
        return (af, addr) in self.addresses or self._host.is_local(af, addr)

    def input_hook(self, packet: Packet) -> Hook | None:
        """LOCAL_IN for virtual addresses, else FORWARD."""
        return Hook.LOCAL_IN if self._local(packet.af, packet.dst >> 16) else Hook.FORWARD

    def output_route(self, af: int, dst: int, *, src: int | None = None, mark: int = 0, tos: int = 0) -> Route | None:
        """Own addresses are local, all others on-link."""
        if self._local(af, dst):
            return Route(local=True, device="lo", next_hop=dst, saddr=dst, mtu=ANY_SIZE)
        route = self._host.output_route(af, dst)
        return route and evolve(route, mtu=self._mtu_now())

    def _mtu_now(self) -> int:
        return ANY_SIZE if self.lift_mtu else self.mtu

    def addr_type(self, af: int, addr: int) -> str:
        """As the default host, with the virtual addresses local."""
        return "local" if self._local(af, addr) else self._host.addr_type(af, addr)

    def icmp_source(self, packet: Packet, hook: Hook) -> int | None:
        """The virtual address that was asked, else the host's own."""
        dst = packet.dst >> 16
        return dst if self._local(packet.af, dst) else self._host.icmp_source(packet, hook)

    def stale(self, route: Route, dst: int) -> bool:
        """Whether a cached route was made for the other kind of packet."""
        return not route.local and route.mtu != self._mtu_now()

    def cached_mtu(self, route: Route) -> int:
        """The route's own."""
        return route.mtu

    def update_pmtu(self, af: int, dst: int, mtu: int) -> None:
        """Learned MTUs are not kept."""


class Replay:
    """One run of a capture through a rule set.

    `rules`: text as `ipvsadm -S` writes it; lines that begin with # are comments. `sysctls`: (name, value) pairs, with or without net.ipv4.vs. in front;
    `scheduler` replaces that of every service; `answers` is "nat", "all" (also those of direct routing and tunnels) or "none"; `mtu` in bytes.
    Raises RulesError, and IPVSError for a refused sysctl.
    """

    def __init__(
        self,
        rules: str,
        *,
        sysctls: Iterable[tuple[str, str]] = (),
        scheduler: str | None = None,
        marks: Iterable[Mark] = (),
        answers: str = "nat",
        mtu: int = 1500,
        environment: Environment | None = None,
    ) -> None:
        self.routing = DirectorRouting(mtu)
        self.ipvs = IPVS(evolve(environment or Environment(), routing=self.routing))
        for name, value in sysctls:
            self.ipvs.sysctl_write(name, value)
        self.rules = rules
        load_rules(self.ipvs, rules, scheduler)
        self._table: ConnTable = self.ipvs.ns.conns
        self.marks = tuple(marks)
        self.answers = answers
        self.services: list[Service] = sorted(self.ipvs.services, key=lambda svc: (svc.fwmark, svc.protocol, svc.af, svc.addr, svc.port))
        self.servers = [(svc, dest) for svc in self.services for dest in sorted(svc.destinations, key=lambda dest: (dest.af, dest.addr, dest.port))]
        self.routing.addresses |= {(svc.af, svc.addr) for svc in self.services if not svc.fwmark} | {(mark.af, mark.addr) for mark in self.marks}
        self.timeline = Timeline(self.ipvs.clock, [dest for _, dest in self.servers])
        self.first_time: int | None = None
        self.last_time = 0
        self.next_tick = 0  #: time of the capture at which the next jiffy begins
        self._more_emitted = 0  #: packets that left, beside one for each whose fate is "on"
        self._pieces = Defragmenter(self.ipvs.clock, IPFRAG_TIME_S)
        self._fates: dict[tuple[str, str, str, str], list[int]] = {}
        self._left_out: dict[str, list[int]] = {}
        self._lost: Counter[int] = Counter()
        self._talkers: Counter[tuple[int, int, int]] = Counter()
        self._notes: Counter[str] = Counter()

    # --- one packet ---------------------------------------------------------------------------------------------------
    def feed(self, captured: CapturedPacket) -> list[Packet]:
        """Play one packet of the capture; what leaves the director."""
        self._let_time_pass(captured.time)
        packet = self._complete(captured)
        to_us = (packet.af, packet.dst >> 16) in self.routing.addresses
        if to_us or (packet.af, packet.src >> 16) in self.routing.addresses:
            if packet.frag:  # the host puts datagrams together before it delivers them; of an answer, only the first piece has ports
                whole = self._pieces.add(packet)
                if whole is None:
                    return self._leave_out(PIECE, captured)
                packet = whole
            if not to_us:
                return self._answer(packet, captured)
            packet.mark = next((mark.value for mark in self.marks if mark.matches(packet)), 0)
            return self._receive(CLIENT, packet, captured)
        if len(self._talkers) < TALKERS or (packet.af, packet.proto, packet.dst) in self._talkers:
            self._talkers[packet.af, packet.proto, packet.dst] += 1
        return self._leave_out(ELSEWHERE, captured)

    def _let_time_pass(self, time: int) -> None:
        if self.first_time is None:
            self.first_time = self.last_time = time
        elif time < self.last_time:
            self._notes["backwards"] += 1
        else:
            self.last_time = time
            hz = self.ipvs.clock.hz
            passed = (time - self.first_time) * hz // NANOSECONDS
            self.timeline.advance_to(self.timeline.start + passed)
            self.next_tick = self.first_time + -(-(passed + 1) * NANOSECONDS // hz)

    def _complete(self, captured: CapturedPacket) -> Packet:
        """The packet as it would have arrived: whole checksums, whole lengths."""
        for repair in captured.repairs:
            self._notes[repair] += 1
        self._notes["cut"] += captured.missing > 0
        packet = Packet.parse(captured.data, device="eth0")
        if packet.plain and is_partial_checksum(captured.data, packet.proto, packet.l4, captured.missing):
            self._notes["partial"] += 1
            if captured.missing:  # bytes that were not captured cannot be summed up
                packet.bits |= PKT_PARTIAL
            else:
                packet = Packet.parse(complete_checksum(captured.data, packet.proto, packet.l4), device="eth0")
        return packet

    def _receive(self, what: str, packet: Packet, captured: CapturedPacket) -> list[Packet]:
        cp = self._entry(packet.af, packet.proto, packet.src, packet.dst) if what == CLIENT else None
        self.routing.lift_mtu = packet.length > self.routing.mtu and not packet.frag and not packet.frag_max_size
        action, left = self._process(packet, Hook.LOCAL_IN if what == CLIENT else Hook.FORWARD)
        if self.routing.lift_mtu:
            self._notes["aggregate"] += 1
            self.routing.lift_mtu = False
            for _, dest in self.servers:
                routes_changed(dest)
        return self.account(what, packet, action, left, cp, captured.record)

    def account(self, what: str, packet: Packet, action: Action, left: Packet | None, cp: Conn | None, record: int) -> list[Packet]:
        """Count what became of a packet; what leaves the director. `left`: what the hook let through, `cp`: the packet's connection, if there was one."""
        if action.verdict is Verdict.DROP or left is None:
            went, out = "nowhere", []
        elif action.verdict is Verdict.STOLEN:
            went, out = "on", [left]
        elif what == CLIENT or left.ttl <= 1:
            went, out = "director", []
        else:  # the host forwards what FORWARD accepts
            went, out = "on", [dec_ttl(left)]
        self.fate(what, action, went, record)[0] += 1
        if went != "on" and action.reason not in NOT_LOST:
            self._lose(cp or self._entry(packet.af, packet.proto, packet.src, packet.dst))
        out += [sent.packet for sent in self.ipvs.ns.outbox]
        self.ipvs.ns.outbox.clear()
        # what was put together on its way through is cut again to leave
        out = [piece for whole in out for piece in (fragment(whole, self.routing.mtu) if whole.frag_max_size else [whole])]
        self._more_emitted += len(out) - (went == "on")
        return out

    def fate(self, what: str, action: Action, went: str, record: int) -> list[int]:
        """The counter of packets that met this fate, and the record of the first of them."""
        return self._fates.setdefault((what, action.verdict.name, action.reason, went), [0, record])

    @property
    def client_packets(self) -> int:
        """Packets of clients that were fed."""
        return self._met(what=CLIENT)

    @property
    def answers_fed(self) -> int:
        """Answers that were fed."""
        return self._met(what=ANSWER)

    @property
    def emitted(self) -> int:
        """Packets that left the director."""
        return self._met(went="on") + self._more_emitted

    def _met(self, what: str | None = None, went: str | None = None) -> int:
        """How many packets met a fate of that kind."""
        return sum(count for (kind, _, _, way), (count, _) in self._fates.items() if what in (None, kind) and went in (None, way))

    def _lose(self, cp: Conn | None) -> None:
        """A packet did not get through; its connection, if it has one."""
        if cp is not None and cp.dest is not None:
            self._lost[id(cp.dest)] += 1

    def _process(self, packet: Packet, hook: Hook) -> tuple[Action, Packet | None]:
        """What the hook decides, and the packet as it leaves or goes on."""
        action = self.ipvs.process(packet, hook)
        return action, action.apply(packet)

    def _answer(self, packet: Packet, captured: CapturedPacket) -> list[Packet]:
        """Give an answer back as coming from the server that the model chose for the connection."""
        if self.answers == "none":
            return self._leave_out(UNWANTED, captured)
        inner = quoted(packet)
        if inner is None:
            cp = self._entry(packet.af, packet.proto, packet.dst, packet.src)
        elif inner.sport is None or inner.dport is None:
            cp = None
        else:
            cp = self._entry(inner.af, inner.protocol, inner.saddr << 16 | inner.sport, inner.daddr << 16 | inner.dport)
        if cp is None:
            return self._leave_out(NO_CONNECTION, captured)
        if cp.method == IP_VS_CONN_F_LOCALNODE:
            return self._leave_out(OWN_ANSWER, captured)
        from_server: Packet | None = packet
        if cp.method == IP_VS_CONN_F_MASQ:
            from_server = snat(packet, cp.real, dec_ttl=False) if inner is None else nat_icmp(packet, inner, IP_VS_DIR_OUTPUT, cp.real)
        elif self.answers != "all":
            return self._leave_out(STRAIGHT_BACK, captured)
        if from_server is None:
            return self._leave_out(NO_CONNECTION, captured)
        return self._receive(ANSWER, from_server, captured)

    def _entry(self, af: int, protocol: int, client: int, virt: int) -> Conn | None:
        """The model's connection, looked at without touching it."""
        cp = self._table.in_get(af, protocol, client, virt)
        if cp is not None:
            cp.plain_put()
        return cp

    def _leave_out(self, why: str, captured: CapturedPacket) -> list[Packet]:
        self._left_out.setdefault(why, [0, captured.record])[0] += 1
        return []

    # --- the end ------------------------------------------------------------------------------------------------------
    def result(self, capture: Capture) -> Result:
        """What was found, when the capture has been played."""
        passed_over = {what: seen.count for what, seen in sorted(capture.passed_over.items())}
        fates = sorted(self._fates.items(), key=lambda item: -item[1][0])
        return Result(
            capture=str(capture.path),
            format=capture.format,
            link_types=tuple(sorted(capture.link_types)),
            records=capture.records,
            duration=(self.last_time - (self.first_time or self.last_time)) / NANOSECONDS,
            problems=tuple(map(str, capture.problems)),
            passed_over=passed_over,
            rules=self.rules,
            listing=str(self.ipvs),
            client_packets=self.client_packets,
            answers=self.answers_fed,
            emitted=self.emitted,
            outcomes=tuple(OutcomeRow(count, what, verdict, reason, REASONS[reason], went, first) for (what, verdict, reason, went), (count, first) in fates),
            left_out=tuple(LeftOut(count, why, first) for why, (count, first) in sorted(self._left_out.items(), key=lambda item: -item[1][0])),
            servers=tuple(self._row(svc, dest) for svc, dest in self.servers),
            notes=tuple(self._remarks()),
            step=self.timeline.step / self.ipvs.clock.hz,
            timeline=(*self.timeline.samples, self.timeline.now()),
        )

    def _row(self, svc: Service, dest: Dest) -> ServerRow:
        stats = dest.stats
        all_conns = sum(other.stats.conns for other in svc.destinations)
        return ServerRow(
            service=str(svc.key()),
            server=format_endpoint(dest.af, dest.addr << 16 | dest.port),
            method=FWD_NAMES[dest.conn_flags & 7],
            weight=dest.weight,
            connections=stats.conns,
            share=stats.conns / all_conns if all_conns else 0.0,
            inpkts=stats.inpkts,
            outpkts=stats.outpkts,
            inbytes=stats.inbytes,
            outbytes=stats.outbytes,
            lost=self._lost[id(dest)],
            active=dest.activeconns,
            inactive=dest.totalconns - dest.activeconns,
        )

    def _remarks(self) -> Iterable[str]:
        for kind, text in REMARKS.items():
            if self._notes[kind]:
                yield text.format(self._notes[kind], mtu=self.routing.mtu)
        unmarked = {int(svc.fwmark) for svc in self.services if svc.fwmark} - {mark.value for mark in self.marks}
        for value in sorted(unmarked):
            yield f"No packet has firewall mark {value}, so its service gets none: say which packets have it (--mark {value}=tcp:ADDRESS:PORT)."
        if any(reason == "not a starter" for _, _, reason, _ in self._fates):
            yield "Connections that had begun before the capture are unknown to IPVS; sysctl sloppy_tcp=1 would let it take them on."
        if not self.client_packets:
            busiest = ", ".join(f"{proto_name(protocol)} {format_endpoint(af, to)} ({n})" for (af, protocol, to), n in self._talkers.most_common(5))
            wanted = ", ".join(format_addr(af, addr) for af, addr in sorted(self.routing.addresses)) or "none"
            yield f"No packet went to a virtual address of the rules ({wanted}). Most packets went to: {busiest or 'nowhere'}."


REMARKS: Final = {
    "partial": "{} packets had checksums left to a network card (offloading); they were completed.",
    "header checksum": "{} packets had a wrong or open IP header checksum; it was filled in.",
    "length": "{} packets had their IP length left to a network card; it was taken from the frame.",
    "cut": "{} packets were cut by the snap length; zeros stand in for what was not captured.",
    "aggregate": "{} packets are larger than the MTU of {mtu} bytes: taken for aggregates of a network card (GSO, GRO), each counts as one packet"
    " and passes the MTU check (--mtu says otherwise).",
    "backwards": "{} packets are older than one before them; they were fed at the time of the latest, because the clock cannot go back.",
}


def quoted(packet: Packet) -> IpHdr | None:
    """The packet that an ICMP error quotes."""
    kinds = ICMP_ERRORS.get(packet.proto)
    if kinds is None or packet.l4_len < 8 or packet.raw[packet.l4] not in kinds:
        return None
    return fill_iph_at(packet.raw, packet.af, packet.l4 + 8, 0)


def load_rules(ipvs: IPVS, rules: str, scheduler: str | None = None) -> None:
    """Restore rules line by line, so that a refused one can be named; `scheduler` replaces that of every service. Raises RulesError."""
    for number, line in enumerate(rules.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        done = ipvs.ipvsadm("-R", line + "\n")
        if done.status:
            raise RulesError(f"line {number}: {line.strip()}\n{done.err.strip() or done.out.strip()}")
    if scheduler is not None:
        for svc in ipvs.services:
            ipvs.edit_service(svc, scheduler=scheduler)
