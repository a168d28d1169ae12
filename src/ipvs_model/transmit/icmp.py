"""ICMP errors on their way to the real server.

source: ip_vs_xmit.c, ip_vs_icmp_xmit, ip_vs_icmp_xmit_v6
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipvs_model.flags import IP_VS_CONN_F_FWD_MASK, IP_VS_DIR_INPUT, Hook, Verdict
from ipvs_model.packet import IpHdr, Packet
from ipvs_model.packet.rewrite import nat_icmp
from ipvs_model.transmit.action import Accepted, Action, Prepared, Stolen
from ipvs_model.transmit.route import NAT_MODES, NON_LOCAL, out_route
from ipvs_model.transmit.xmit import local_refused

if TYPE_CHECKING:
    from ipvs_model.conn import Conn


def icmp_xmit(cp: Conn, pkt: Packet, iph: IpHdr, hook: Hook) -> Action:
    """Send an error about a connection's packet to its real server; ``iph`` is the view of the quoted header."""
    if cp.flags & IP_VS_CONN_F_FWD_MASK:
        xmit = cp.xmit
        action: Action = Accepted("no transmitter") if xmit is None else xmit.send(cp, pkt, iph, hook)
        cp.in_pkts += 1
        return action
    ns = cp.ipvs
    route = out_route(ns, cp, pkt, iph, hook, NON_LOCAL if hook is Hook.FORWARD else NAT_MODES)
    if isinstance(route, str):
        return Stolen(route)
    if route.local and (refused := local_refused(cp, pkt, hook)):
        return Stolen(refused)
    packet = nat_icmp(pkt, iph, IP_VS_DIR_INPUT, cp.real, dec_ttl=not route.local)
    if packet is None:
        return Stolen("rewrite refused")
    return Prepared(Verdict.ACCEPT, "local", packet) if route.local else Prepared(Verdict.STOLEN, "icmp forwarded", packet, route)
