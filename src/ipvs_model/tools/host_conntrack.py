"""As much of netfilter's connection tracking as IPVS can notice: does a packet carry an entry, is that entry confirmed, and does confirming one fail?

Active for a family only while something needs it (an FTP service with a NAT destination). Entries are made at PRE_ROUTING or LOCAL_OUT, and confirmed when their
packet leaves or is delivered with its entry still attached; a TCP packet whose new entry cannot be put beside those that are there is dropped.

source: net/netfilter/nf_conntrack_core.c; ip_vs_nfct.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.flags import IP_VS_CONN_F_FWD_MASK, IP_VS_CONN_F_MASQ, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, PKT_CT_CONFIRMED, PKT_HAS_CT
from ipvs_model.packet.rewrite import transport_csum_ok
from ipvs_model.timers import Clock
from ipvs_model.tools.host_conntrack_tcp import TcpFlow, Verdict

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.packet import Packet

PORTS: Final = (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP)
#: seconds that an entry of another protocol outlives its last packet: before and after an answer
TIMEOUTS: Final = {IPPROTO_UDP: (30, 120), IPPROTO_SCTP: (60, 60)}

IGNORED_FLAGS: Final = 0xC8  #: PSH, ECE, CWR
#: what else may stand together: SYN, SYN URG, SYN ACK, RST, RST ACK, FIN ACK, FIN ACK URG, ACK, ACK URG (source: tcp_valid_flags)
TCP_FLAGS: Final = frozenset((0x02, 0x22, 0x12, 0x04, 0x14, 0x11, 0x31, 0x10, 0x30))

#: family, protocol, source endpoint, destination endpoint
Tuple = tuple[int, int, int, int]


class Flow:
    """One entry (struct nf_conn): the tuples of both directions. Direction 0 is that of the first packet."""

    __slots__ = ("answered", "confirmed", "expires", "tcp", "tuples")

    def __init__(self, original: Tuple) -> None:
        af, protocol, source, destination = original
        self.tuples = [original, (af, protocol, destination, source)]
        self.confirmed = False
        self.expires = 0
        self.answered = False
        self.tcp = TcpFlow() if protocol == IPPROTO_TCP else None

    @property
    def timeout(self) -> int:
        """Seconds that it outlives its last packet."""
        return TIMEOUTS[self.tuples[0][1]][self.answered] if self.tcp is None else self.tcp.timeout()

    def __repr__(self) -> str:
        return f"<Flow {self.tuples[0]}{' ' + self.tcp.state if self.tcp else ''}{' confirmed' if self.confirmed else ''}>"


def is_sound(packet: Packet) -> bool:
    """The header is whole, and its lengths and flags can be (source: nf_conntrack_proto_tcp.c, tcp_error; nf_conntrack_proto_udp.c, udp_error)."""
    segment = packet.l4_bytes
    if packet.proto == IPPROTO_TCP:
        return len(segment) >= 20 and 20 <= segment[12] >> 4 << 2 <= len(segment) and segment[13] & ~IGNORED_FLAGS in TCP_FLAGS
    if packet.proto == IPPROTO_UDP:
        return 8 <= int.from_bytes(segment[4:6], "big") <= len(segment)
    return len(segment) >= 12


class Conntrack:
    """The entries of a host. Expired ones are dropped when they are looked at."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.flows: dict[Tuple, Flow] = {}

    def __len__(self) -> int:
        return len({id(flow) for flow in self.flows.values() if flow.expires > self.clock.now})

    def attach(self, packet: Packet, *, made_here: bool = False) -> Flow | None:
        """Give a packet its entry, a new one if need be, and set its PKT_HAS_CT and PKT_CT_CONFIRMED; None for a packet that is invalid or not followed.

        The checksum of what was ``made_here``, or sent on, is not looked at. Source: nf_conntrack_core.c, nf_conntrack_in
        """
        packet.bits &= ~(PKT_HAS_CT | PKT_CT_CONFIRMED)
        if packet.proto not in PORTS or not packet.has_ports or not is_sound(packet) or not (made_here or transport_csum_ok(packet)):
            return None
        key = packet.af, packet.proto, packet.src, packet.dst
        flow = self._find(key) or Flow(key)
        direction = int(key != flow.tuples[0])
        flow.answered |= direction == 1
        if flow.tcp is not None:
            judged = flow.tcp.follow(packet, direction)
            if judged is Verdict.INVALID:
                return None
            if judged in (Verdict.ANEW, Verdict.OVER):
                self._remove(flow)
            if judged is Verdict.ANEW:
                return self.attach(packet, made_here=True)
        flow.expires = self.clock.now + flow.timeout * self.clock.hz
        packet.bits |= PKT_HAS_CT | (PKT_CT_CONFIRMED if flow.confirmed else 0)
        return flow

    def confirm(self, flow: Flow, cp: Conn | None = None, *, reply: bool = False) -> bool:
        """The packet that made an entry has got through: keep the entry. ``cp``: the IPVS entry that handled it, ``reply``: a packet of its server.

        With NAT the tuple of the other direction becomes that of the packets as they will come. False: another entry has one of the tuples,
        and the packet is dropped.
        source: ip_vs_nfct.c, ip_vs_update_conntrack; nf_conntrack_core.c, __nf_conntrack_confirm
        """
        if flow.confirmed:
            return True
        if cp is not None and cp.flags & IP_VS_CONN_F_FWD_MASK == IP_VS_CONN_F_MASQ:
            af, protocol, source, destination = flow.tuples[1]
            flow.tuples[1] = (af, protocol, source, cp.virt) if reply else (af, protocol, cp.real, destination)
        if any(self._find(key) is not None for key in flow.tuples):
            return flow.tcp is None
        flow.confirmed = True
        self.flows.update((key, flow) for key in flow.tuples)
        return True

    def drop(self, cp: Conn) -> None:
        """An IPVS entry is gone: so is the entry of its client's direction (source: ip_vs_nfct.c, ip_vs_conn_drop_conntrack)."""
        flow = self._find((cp.af, cp.protocol, cp.client, cp.virt))
        if flow is not None:
            self._remove(flow)

    def _find(self, key: Tuple) -> Flow | None:
        flow = self.flows.get(key)
        if flow is not None and flow.expires <= self.clock.now:
            self._remove(flow)
            return None
        return flow

    def _remove(self, flow: Flow) -> None:
        for key in flow.tuples:
            if self.flows.get(key) is flow:
                del self.flows[key]
