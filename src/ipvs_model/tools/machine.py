"""A host around an IPVS: packets come in on its devices and go out again, through the hooks, as on a director.

What the host does itself: validates headers, sets marks, puts fragments together, decides between local delivery and forwarding, lowers TTLs, answers with errors,
resets and echo replies like a stack on which nothing listens, and cuts what is too long. Every packet that it makes passes LOCAL_OUT through the model.

Left out: sockets (other than the sync daemons'), source routing (such packets are dropped, the default), the time in timestamp options, redirects, neighbour
resolution, rate limits.

source: net/ipv4/ip_input.c, ip_forward.c, ip_output.c and their IPv6 sisters, in the order in which a packet meets them
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from ipvs_model.apps import Ftp
from ipvs_model.defrag import IP6FRAG_TIME_S, IPFRAG_TIME_S, Defragmenter
from ipvs_model.flags import AF_INET, AF_INET6, IP_VS_CONN_F_NFCT, IPPROTO_TCP, PKT_NOT_TO_HOST, PKT_ROUTE_LOCAL, Hook, Verdict
from ipvs_model.ipvs import IPVS
from ipvs_model.jiffies import initial_jiffies
from ipvs_model.netns import Environment
from ipvs_model.packet import Packet
from ipvs_model.packet.extensions import Refused, refused_on_arrival, refused_on_delivery
from ipvs_model.packet.fragment import fragment
from ipvs_model.packet.icmp_error import (
    ICMP_DEST_UNREACH,
    ICMP_EXC_FRAGTIME,
    ICMP_FRAG_NEEDED,
    ICMP_HOST_UNREACH,
    ICMP_PARAMETERPROB,
    ICMP_PORT_UNREACH,
    ICMP_TIME_EXCEEDED,
    ICMPV6_DEST_UNREACH,
    ICMPV6_PARAMPROB,
    ICMPV6_PKT_TOOBIG,
    ICMPV6_TIME_EXCEED,
    icmp_error,
    is_error,
)
from ipvs_model.packet.local import local_answer, udp_datagram
from ipvs_model.packet.options import arrive, go_on
from ipvs_model.packet.parse import header_error
from ipvs_model.packet.reassembly import PAYLOAD_LENGTH, is_part
from ipvs_model.packet.rewrite import dec_ttl
from ipvs_model.routing import Route
from ipvs_model.sync.sender import SyncDatagram
from ipvs_model.tools.host_conntrack import Conntrack, Flow
from ipvs_model.tools.host_marks import MarkRules
from ipvs_model.tools.host_output import Emission, Origin
from ipvs_model.tools.host_routing import LOOPBACK, HostRouting
from ipvs_model.transmit.action import Action

ICMPV6_NO_ROUTE: Final = 0
IPV4_HEADER: Final = 20  #: bytes of one without options
#: protocols that the stack takes without a word: IGMP, PIM, UDP-Lite
SILENT: Final = {AF_INET: frozenset((2, 103, 136)), AF_INET6: frozenset((103, 136))}
#: IPv4 protocols for which there are handlers but no tunnels, and how many bytes of them it takes to be told so: IPIP, IPv6, MPLS (source: tunnel4.c)
TUNNELS: Final = {4: 20, 41: 40, 137: 4}
ALL_HOSTS: Final = 0xE0000001
SYNC_SOURCE_PORT: Final = 32768  #: of sync thread 0; the kernel's is whatever is free

#: devices and routes of the machine on which the kernel traces were recorded
TRACE_DEVICES: Final[Mapping[str, tuple[str, ...]]] = {"cli": ("10.9.0.1/24", "2001:db8:9::1/64"), "rs": ("10.1.0.1/24", "2001:db8:1::1/64")}
TRACE_ROUTES: Final[Mapping[str, str]] = {"10.2.0.0/16": "rs", "0.0.0.0/0": "cli", "::/0": "cli"}
TRACE_AGES: Final = (9, 10, 8, 11)  #: jiffies that the recorder spent between the namespace's birth and the start of a scenario, the usual number first
TRACE_LOCAL: Final = ("192.0.2.0/24", "2001:db8:2::/64")


class Host:
    """A director: its routing, its marks, its reassembly queues, and the IPVS inside.

    ``inject`` a packet, let time pass with ``run_until``; both collect what leaves, ``drain`` takes it. ``multiport``: whether its iptables has that match.
    """

    def __init__(self, ipvs: IPVS, routing: HostRouting, *, multiport: bool = True) -> None:
        self.ipvs = ipvs
        self.ns = ipvs.ns
        self.routing = routing
        self.marks = MarkRules(multiport=multiport)
        self.conntrack = Conntrack(ipvs.clock)
        self.emitted: list[Emission] = []
        clock = ipvs.clock
        self._local4 = Defragmenter(clock, IPFRAG_TIME_S, self._fragments_expired, tailroom=tun_tailroom)
        self._local6 = Defragmenter(clock, IP6FRAG_TIME_S, self._fragments_expired, self._malformed_fragment)
        self._tracked4 = Defragmenter(clock, IPFRAG_TIME_S, self._tracked_expired)
        self._tracked6 = Defragmenter(clock, IP6FRAG_TIME_S, self._fragments_expired, pass_on)
        routing.now = self._now
        self.ns.drop_conntrack = self.conntrack.drop
        self.ns.conntrack_active = said_by_packets
        ipvs.daemons.out = self._sync_datagram

    def _now(self) -> int:
        return self.ipvs.clock.now

    # --- the outside --------------------------------------------------------------------------------------------------
    def inject(self, device: str, raw: bytes) -> None:
        """A packet arrives on a device. Never raises; an unknown device does (KeyError)."""
        self.routing.devices[device]
        if header_error(raw) is not None:
            return
        packet = Packet.parse(raw, device=device)
        if packet.af == AF_INET or not self._refused(packet, refused_on_arrival(packet)):
            self._receive(packet)

    def run_until(self, jiffies: int) -> None:
        """Let time pass up to an absolute jiffy: timers fire, sync datagrams leave. Raises ValueError if that is in the past."""
        self.ipvs.clock.advance_to(jiffies)
        self._send_errors()

    def drain(self) -> list[Emission]:
        """What has left since the last call, in order."""
        emitted, self.emitted = self.emitted, []
        return emitted

    # --- fragments ----------------------------------------------------------------------------------------------------
    def _fragments_expired(self, first: Packet) -> None:
        """The rest of a datagram has not come in time."""
        self._error(first, Hook.LOCAL_IN, ICMP_TIME_EXCEEDED if first.af == AF_INET else ICMPV6_TIME_EXCEED, ICMP_EXC_FRAGTIME)

    def _tracked_expired(self, first: Packet) -> None:
        """The same of datagrams that connection tracking puts together: nobody is told of those that pass through (source: frag_expire_skip_icmp)."""
        if self.routing.input_hook(first) is Hook.LOCAL_IN:
            self._fragments_expired(first)

    def _malformed_fragment(self, packet: Packet, code: int, pointer: int) -> None:
        """An IPv6 fragment for this host breaks the rules."""
        self._error(packet, Hook.LOCAL_IN, ICMPV6_PARAMPROB, code, pointer)

    # --- in -----------------------------------------------------------------------------------------------------------
    def _receive(self, packet: Packet) -> None:
        """PRE_ROUTING and the routing decision."""
        found = self._prerouting(packet)
        if found is None:
            return
        packet, flow = found
        address = packet.dst >> 16
        kind = self.routing.addr_type(packet.af, address)
        if kind == "broadcast" or (kind == "multicast" and self._joined(packet.af, address, packet.device)):
            packet.bits |= PKT_NOT_TO_HOST
        elif kind == "multicast":
            return
        hook = self.routing.input_hook(packet)
        recorded = 0
        if hook is not None and packet.af == AF_INET and packet.l4 > IPV4_HEADER:
            accepted = self._options(packet, hook, kind)
            if accepted is None:
                return
            packet, recorded = accepted
        if hook is Hook.LOCAL_IN:
            self._local_in(packet, flow)
        elif hook is Hook.FORWARD:
            self._forward(packet, flow, recorded)

    def _options(self, packet: Packet, hook: Hook, kind: str) -> tuple[Packet, int] | None:
        """The packet with its IPv4 options read and filled in, and the offset of the address recorded; None: it is dropped (source: ip_input.c, ip_rcv_options)."""
        arrived = arrive(packet, self._spec_dst(packet, kind), partial(self.routing.is_local, AF_INET))
        if arrived.pointer and arrived.answer is not None:
            self._error(arrived.packet, hook, ICMP_PARAMETERPROB, 0, arrived.pointer << 24, arrived.answer)
        return None if arrived.pointer or arrived.source_routed else (arrived.packet, arrived.recorded)

    def _spec_dst(self, packet: Packet, kind: str) -> int:
        """The address of this host that a packet was meant for, or the one towards its sender (source: fib_frontend.c, fib_compute_spec_dst)."""
        if kind == "local":
            return packet.dst >> 16
        back = self.routing.output_route(AF_INET, packet.src >> 16)
        return back.saddr or 0 if back is not None else 0

    def _prerouting(self, packet: Packet) -> tuple[Packet, Flow | None] | None:
        """Reassembly where something there needs whole packets, connection tracking, marks; None: nothing goes on."""
        tracked = self.ipvs.control.conntrack_active(packet.af)
        whole: Packet | None = packet
        if packet.frag:
            if packet.af == AF_INET6 and self.ns.defrag6:
                whole = self._tracked6.add(packet)
            elif packet.af == AF_INET and tracked:
                whole = self._tracked4.add(packet)
        if whole is None:
            return None
        flow = self.conntrack.attach(whole) if tracked else None
        return (whole, flow) if self.marks.apply(whole) else None

    def _joined(self, af: int, group: int, device: str | None) -> bool:
        """Whether the host listens to a multicast group on a device."""
        backup = self.ipvs.daemons.backup
        return (af == AF_INET and group == ALL_HOSTS) or (backup is not None and backup.mcast_group == (af, group) and backup.mcast_ifn == device)

    def _local_in(self, packet: Packet, flow: Flow | None = None) -> None:
        """The hook and the local stack; IPv4 fragments are put together before, those of IPv6 between the two."""
        whole = self._local4.add(packet) if packet.af == AF_INET and packet.frag else packet
        out = self._through(Hook.LOCAL_IN, whole, flow) if whole is not None else None
        if out is not None and out.af != AF_INET and is_part(out):
            out = self._local6.add(out)
        if out is not None:
            self._deliver(out)

    def _deliver(self, packet: Packet) -> None:
        """The local stack: sync datagrams for the backup daemon, else what a host without listeners answers."""
        if packet.bits & PKT_NOT_TO_HOST:
            datagram = udp_datagram(packet)
            if datagram is not None:
                self.ipvs.daemons.receive(datagram.l4_bytes[8:], af=packet.af, group=packet.dst >> 16, port=packet.dport)
            return
        if packet.af != AF_INET and self._refused(packet, refused_on_delivery(packet)):
            return
        if packet.proto in SILENT[packet.af]:
            return
        if packet.af == AF_INET and packet.proto in TUNNELS:
            if packet.l4_len >= TUNNELS[packet.proto]:
                self._error(packet, Hook.LOCAL_IN, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH)
            return
        source = self.routing.icmp_source(packet, Hook.LOCAL_IN)
        reply = local_answer(packet, saddr=source)
        if reply is None or (source is None and is_error(reply)):
            return
        self._local_out(reply, Origin.RESET if reply.proto == IPPROTO_TCP else Origin.ICMP)

    def _refused(self, packet: Packet, refused: Refused | None) -> bool:
        """An IPv6 packet with a wrong extension header is dropped, and its sender told."""
        if refused is not None and refused.code >= 0:
            self._error(packet, Hook.LOCAL_IN, ICMPV6_PARAMPROB, *refused)
        return refused is not None

    # --- through ------------------------------------------------------------------------------------------------------
    def _forward(self, packet: Packet, flow: Flow | None, recorded: int) -> None:
        """Route, TTL, MTU, the hook, out; ``recorded``: offset of the address that was recorded as it arrived."""
        route = self.routing.output_route(packet.af, packet.dst >> 16, mark=packet.mark)
        if route is None:
            self._error(packet, Hook.FORWARD, *((ICMP_DEST_UNREACH, ICMP_HOST_UNREACH) if packet.af == AF_INET else (ICMPV6_DEST_UNREACH, ICMPV6_NO_ROUTE)))
            return
        if packet.ttl <= 1:
            self._error(packet, Hook.FORWARD, ICMP_TIME_EXCEEDED if packet.af == AF_INET else ICMPV6_TIME_EXCEED, 0)
            return
        if too_big(packet, route.mtu):
            self._error(packet, Hook.FORWARD, *((ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED) if packet.af == AF_INET else (ICMPV6_PKT_TOOBIG, 0)), route.mtu)
            return
        out = self._through(Hook.FORWARD, dec_ttl(packet), flow)
        if out is not None:
            if recorded:
                rerouted = out.src != packet.src and self.ns.sysctl.snat_reroute
                out = go_on(out, recorded, out.src >> 16 if rerouted else route.saddr or 0)
            self._emit(out, route, Origin.FORWARDED)

    # --- out ----------------------------------------------------------------------------------------------------------
    def _error(self, packet: Packet, hook: Hook, type: int, code: int, info: int = 0, options: bytes | None = None) -> None:
        """An ICMP or ICMPv6 error of this host about a packet."""
        source = self.routing.icmp_source(packet, hook)
        back = self.routing.output_route(packet.af, packet.src >> 16)
        if source is None or back is None:
            return
        error = icmp_error(packet, type, code, info, saddr=source, mtu=back.mtu, options=options)
        if error is not None:
            self._local_out(error, Origin.ICMP)

    def _local_out(self, packet: Packet, origin: Origin, device: str | None = None) -> None:
        """A packet that the host made: its route, LOCAL_OUT, out; ``device`` overrides the route's (a socket bound to it)."""
        route = self.routing.output_route(packet.af, packet.dst >> 16) if device is None else self._bound(packet, device)
        if route is None:
            return
        if route.local:
            packet.bits |= PKT_ROUTE_LOCAL
        flow = self.conntrack.attach(packet, made_here=True) if self.ipvs.control.conntrack_active(packet.af) else None
        out = self._through(Hook.LOCAL_OUT, packet, flow)
        if out is not None:
            self._leave(out, route, origin)

    def _bound(self, packet: Packet, device: str) -> Route:
        return Route(local=False, device=device, next_hop=packet.dst >> 16, saddr=packet.src >> 16, mtu=self.routing.devices[device].mtu)

    def _leave(self, packet: Packet, route: Route, origin: Origin) -> None:
        """By a device, or back in through the loopback device."""
        if not route.local:
            self._emit(packet, route, origin)
            return
        packet.device = LOOPBACK
        packet.bits &= ~PKT_ROUTE_LOCAL
        self._local_in(packet)

    def _transmit(self, packet: Packet, out: Packet, action: Action, *, tracked: bool) -> None:
        """What a transmitter sent: behind a new header if the source is another. It passes LOCAL_OUT, where a packet that had no conntrack entry may get one."""
        if not tracked and self.ipvs.control.conntrack_active(out.af):
            flow = self.conntrack.attach(out, made_here=True)
            if flow is not None and not self.conntrack.confirm(flow):
                return
        tunnel = (out.af, out.src >> 16) != (packet.af, packet.src >> 16)
        mtu = self.routing.devices[action.device].mtu
        for address in (out.dst >> 16, action.next_hop):
            route = self.routing.output_route(out.af, address)
            if route is not None and route.device == action.device:
                mtu = min(mtu, route.mtu)
                break
        self._emit(out, Route(local=False, device=action.device, next_hop=action.next_hop, mtu=mtu), Origin.TUNNEL if tunnel else Origin.IPVS)

    def _emit(self, packet: Packet, route: Route, origin: Origin) -> None:
        self.emitted += (Emission(route.device, piece.raw, origin) for piece in fragment(packet, route.mtu))

    def _sync_datagram(self, datagram: SyncDatagram) -> None:
        """What the master's thread hands to its socket (source: ip_vs_sync.c, ip_vs_send_sync_msg)."""
        source = self.routing.devices[datagram.device].primary(datagram.af)
        if source is None:
            return
        sender, receiver = (source, SYNC_SOURCE_PORT + datagram.thread), (datagram.group, datagram.port)
        packet = Packet.udp(sender, receiver, datagram.payload, ttl=datagram.ttl, df=False, id=0)
        self._local_out(packet, Origin.SYNC, datagram.device)

    # --- the model inside ---------------------------------------------------------------------------------------------
    def _through(self, hook: Hook, packet: Packet, flow: Flow | None) -> Packet | None:
        """A packet passes a hook: as it goes on, or None. Errors that the model sent on the way, which have passed LOCAL_OUT, leave first, then what it transmitted."""
        action = self.ipvs.process(packet, hook)
        self._send_errors()
        out = action.apply(packet)
        if out is None or not self._track(flow, packet):
            return None
        if action.verdict is not Verdict.STOLEN:
            return out
        self._transmit(packet, out, action, tracked=flow is not None)
        return None

    def _send_errors(self) -> None:
        """What the model has told senders leaves."""
        outbox = self.ns.outbox
        while outbox:
            error = outbox.pop(0).packet
            route = self.routing.output_route(error.af, error.dst >> 16)
            if route is not None:
                self._leave(error, route, Origin.ICMP)

    def _track(self, flow: Flow | None, packet: Packet) -> bool:
        """A packet that goes on: if conntrack made its entry for it, that is confirmed, unless IPVS has taken it off; False if it cannot be."""
        if flow is None or flow.confirmed:
            return True
        conns = self.ns.conns
        reply = False
        cp = conns.in_get(packet.af, packet.proto, packet.src, packet.dst)
        if cp is None:
            reply = True
            cp = conns.out_get(packet.af, packet.proto, packet.src, packet.dst)
        if cp is not None:
            cp.plain_put()
            if not cp.flags & IP_VS_CONN_F_NFCT:
                return True
        return self.conntrack.confirm(flow, cp, reply=reply)


def tun_tailroom(length: int) -> int:
    """Bytes free behind a packet of that length in the buffer of a tun device: 64 are in front, 320 behind, and allocations of certain sizes.

    source: drivers/net/tun.c, tun_alloc_skb; skbuff.c, kmalloc_reserve
    """
    needed = (64 + length + 63 & ~63) + 320
    size = 704 if needed <= 704 else 1 << (needed - 1).bit_length()
    return size - 320 - 64 - length


def said_by_packets(af: int) -> bool:
    """Packets that carry an entry have PKT_HAS_CT here; of none is it to be assumed."""
    return False


def pass_on(packet: Packet, code: int, pointer: int) -> Packet | None:
    """Connection tracking lets malformed fragments go on as they are, but for one that lies too far out (source: nf_conntrack_reasm.c, nf_ct_frag6_gather)."""
    return packet if code or pointer == PAYLOAD_LENGTH else None


def too_big(packet: Packet, mtu: int) -> bool:
    """Whether a packet may not be forwarded over a link of that MTU: one that may be cut fits always, a reassembled one if its largest fragment did.

    source: net/ipv4/ip_forward.c, ip_exceeds_mtu; net/ipv6/ip6_output.c, ip6_pkt_too_big
    """
    if packet.af == AF_INET:
        return packet.df and max(packet.length, packet.frag_max_size) > mtu
    return (packet.frag_max_size or packet.length) > mtu


def trace_memory() -> int:
    """Free pages of the machine on which the kernel traces were recorded, roughly."""
    return 109_000


def trace_machine(start_jiffies: int, *, hz: int = 250, estimation: bool = False, age: int = TRACE_AGES[0], fast_path: bool = True) -> Host:
    """The machine on which the kernel traces were recorded, at the moment a scenario starts.

    Clients live behind the device "cli", real servers behind "rs"; 192.0.2.0/24 and 2001:db8:2::/64 are local; the FTP helper is loaded.
    ``start_jiffies`` is the kernel's 32-bit count; the clock shows all 64 bits. ``estimation``: leave run_estimation on;
    ``age``: jiffies since the namespace was made, from which the estimator counts; ``fast_path``: whether packets may take the quick road.
    """
    routing = HostRouting(hz=hz)
    for name, addresses in TRACE_DEVICES.items():
        routing.add_device(name, addresses)
    for prefix, device in TRACE_ROUTES.items():
        routing.add_route(prefix, device=device)
    for prefix in TRACE_LOCAL:
        routing.add_local(prefix)
    interfaces = {name: device.mtu for name, device in routing.devices.items()}
    start = start_jiffies if start_jiffies >= initial_jiffies(hz) else start_jiffies + (1 << 32)
    ipvs = IPVS(Environment(hz=hz, start_jiffies=start - age, routing=routing, interfaces=interfaces, fast_path=fast_path, available_pages=trace_memory), plugins=[Ftp])
    ipvs.clock.advance_to(start)
    if not estimation:
        ipvs.sysctl_write("run_estimation", 0)
    return Host(ipvs, routing, multiport=False)
