"""As much of netfilter's connection tracking as IPVS can notice: does a packet carry an entry, and is that entry confirmed?

Active for a family only while something needs it (an FTP service with a NAT destination). Entries are made at PRE_ROUTING or LOCAL_OUT and confirmed when their
packet leaves or is delivered with its entry still attached. TCP is followed far enough to know when a SYN begins a new connection over an old entry: after both
sides have closed, or after a reset with the sequence number that the other side expects.

source: net/netfilter/nf_conntrack_core.c, nf_conntrack_proto_tcp.c; ip_vs_nfct.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.flags import IP_VS_CONN_F_FWD_MASK, IP_VS_CONN_F_MASQ, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, PKT_CT_CONFIRMED, PKT_HAS_CT
from ipvs_model.packet.rewrite import transport_csum_ok
from ipvs_model.timers import Clock

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.packet import Packet

FIN: Final = 1
SYN: Final = 2
RST: Final = 4
ACK: Final = 16

#: seconds that an entry outlives its last packet (source: nf_conntrack_proto_*.c, default timeouts)
TIMEOUTS: Final = {"new": 120, "established": 432000, "closing": 120, "closed": 120, "reset": 10, "datagram": 30, "stream": 120, "sctp": 60}

PORTS: Final = (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP)

#: family, protocol, source endpoint, destination endpoint
Tuple = tuple[int, int, int, int]


class Flow:
    """One entry (struct nf_conn): the tuples of both directions, and what was seen of TCP. Direction 0 is that of the first packet."""

    __slots__ = ("acked", "confirmed", "expires", "fins", "state", "tuples")

    def __init__(self, original: Tuple) -> None:
        af, protocol, source, destination = original
        self.tuples = [original, (af, protocol, destination, source)]
        self.confirmed = False
        self.expires = 0
        self.fins = [False, False]
        self.acked: list[int | None] = [None, None]
        self.state = "new"

    @property
    def closed(self) -> bool:
        """The connection is over: a SYN begins another one."""
        return self.state in ("closed", "reset")

    def __repr__(self) -> str:
        return f"<Flow {self.tuples[0]} {self.state}{' confirmed' if self.confirmed else ''}>"


class Conntrack:
    """The entries of a host. Expired ones are dropped when they are looked at."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.flows: dict[Tuple, Flow] = {}

    def __len__(self) -> int:
        return len({id(flow) for flow in self.flows.values() if flow.expires > self.clock.now})

    def attach(self, packet: Packet) -> Flow | None:
        """Give a packet its entry, a new one if need be, and set its PKT_HAS_CT and PKT_CT_CONFIRMED; None for a packet that is invalid or not followed.

        source: nf_conntrack_core.c, nf_conntrack_in
        """
        packet.bits &= ~(PKT_HAS_CT | PKT_CT_CONFIRMED)
        if packet.proto not in PORTS or not packet.has_ports or not transport_csum_ok(packet):
            return None
        key = packet.af, packet.proto, packet.src, packet.dst
        flow = self._find(key)
        if packet.proto == IPPROTO_TCP:
            flow = self._tcp(packet, key, flow)
            if flow is None:
                return None
        else:
            if flow is None:
                flow = Flow(key)
            elif key == flow.tuples[1]:
                flow.state = "stream"
            if flow.state == "new":
                flow.state = "datagram"
            if packet.proto == IPPROTO_SCTP:
                flow.state = "sctp"
        flow.expires = self.clock.now + TIMEOUTS[flow.state] * self.clock.hz
        packet.bits |= PKT_HAS_CT | (PKT_CT_CONFIRMED if flow.confirmed else 0)
        return flow

    def confirm(self, flow: Flow, cp: Conn | None, *, reply: bool) -> None:
        """The packet that made an entry has got through: keep the entry. ``cp``: the IPVS entry that handled it, ``reply``: a packet of its server.

        With NAT the tuple of the other direction becomes that of the packets as they will come.
        source: ip_vs_nfct.c, ip_vs_update_conntrack; nf_conntrack_core.c, __nf_conntrack_confirm
        """
        if flow.confirmed:
            return
        if cp is not None and cp.flags & IP_VS_CONN_F_FWD_MASK == IP_VS_CONN_F_MASQ:
            af, protocol, source, destination = flow.tuples[1]
            flow.tuples[1] = (af, protocol, source, cp.virt) if reply else (af, protocol, cp.real, destination)
        if any(self._find(key) is not None for key in flow.tuples):
            return
        flow.confirmed = True
        self.flows.update((key, flow) for key in flow.tuples)

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
            self.flows.pop(key, None)

    def _tcp(self, packet: Packet, key: Tuple, flow: Flow | None) -> Flow | None:
        """Follow a TCP packet; None: invalid (source: nf_conntrack_proto_tcp.c, nf_conntrack_tcp_packet)."""
        flags = packet.flags
        if flags < 0:
            return None
        begins = flags & (SYN | ACK | RST | FIN) == SYN
        if flow is not None and begins and flow.closed and key == flow.tuples[0]:
            self._remove(flow)
            flow = None
        if flow is None:
            return self._tcp_new(packet, key, begins)
        direction = 0 if key == flow.tuples[0] else 1
        if flags & RST:
            expected = flow.acked[1 - direction]
            if expected is not None and packet.seq != expected:
                return None
            flow.state = "reset"
            return flow
        if flags & ACK:
            flow.acked[direction] = packet.ack
            if flow.state == "closing" and all(flow.fins) and not flags & FIN:
                flow.state = "closed"
            elif flow.state == "new" and (direction == 0 or not flags & SYN):
                flow.state = "established"
        if flags & FIN:
            flow.fins[direction] = True
            flow.state = "closing" if not flow.closed else flow.state
        return flow

    def _tcp_new(self, packet: Packet, key: Tuple, begins: bool) -> Flow | None:
        """The first packet that is seen: a SYN, or one from the middle of a connection (nf_conntrack_tcp_loose)."""
        if not begins and (packet.flags & (SYN | RST) or not packet.flags & ACK):
            return None
        flow = Flow(key)
        if not begins:
            flow.state = "established"
            flow.acked[0] = packet.ack
        return flow
