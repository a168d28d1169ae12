"""UDP: one state, and a timeout of 300 s.

source: ip_vs_proto_udp.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.events import StateChanged
from ipvs_model.flags import IP_VS_DIR_OUTPUT, IPPROTO_UDP
from ipvs_model.netns import Netns
from ipvs_model.packet.rewrite import csum_check
from ipvs_model.protocol import DIRECTION_NAMES, LOOK, Protocol, ProtoData, StateRow, assure_template

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.packet import IpHdr, Packet

STATES: Final = (StateRow(0, "IP_VS_UDP_S_NORMAL", "UDP", 300, False),)


class Udp(Protocol):
    """UDP (source: ip_vs_proto_udp.c, ip_vs_protocol_udp)."""

    name = "UDP"
    protocol = IPPROTO_UDP
    states = STATES
    min_header = 8

    def net_init(self, ns: Netns) -> ProtoData:
        """One state, which a datagram never leaves (source: __udp_init)."""
        pd = super().net_init(ns)
        state = pd.states[0]
        state.replies = pd.opens = (state,)
        state.quick = LOOK, state.replies, state.replies
        return pd

    def start_gate(self, ns: Netns, pkt: Packet, iph: IpHdr) -> bool | None:
        """Every datagram may start a connection (source: udp_conn_schedule)."""
        return True if pkt.length - iph.len >= 8 else None

    def state_transition(self, cp: Conn, direction: int, pkt: Packet, pd: ProtoData) -> None:
        """Only the timeout is renewed; a reply assures the template (source: udp_state_transition)."""
        state = pd.states[0]
        cp.timeout = state.timeout
        if direction == IP_VS_DIR_OUTPUT:
            assure_template(cp)
        emit = cp.ipvs.emit
        if emit is not None:
            emit(StateChanged("udp_state_transition", cp.key(), DIRECTION_NAMES[direction], "datagram", cp.state.name, cp.state.name, state.timeout))

    def csum_check(self, pkt: Packet) -> bool:
        """A zero checksum passes; otherwise it must be right (source: udp_csum_check)."""
        return csum_check(pkt)


UDP: Final = Udp()
