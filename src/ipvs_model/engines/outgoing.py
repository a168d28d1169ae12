"""Connections begun by real servers, for engines that allow them.

source: ip_vs_core.c, ip_vs_new_conn_out
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipvs_model.accounting import conn_stats
from ipvs_model.conn import Conn, ConnParam, check_template, new_conn
from ipvs_model.flags import AF_INET, IP_VS_CONN_F_ONE_PACKET, IP_VS_CONN_F_TEMPLATE, IP_VS_SVC_F_ONEPACKET, IP_VS_SVC_F_PERSISTENT, IPPROTO_UDP

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import IpHdr, Packet
    from ipvs_model.service import Service


def new_conn_out(svc: Service, dest: Dest, pkt: Packet, iph: IpHdr, sport: int, dport: int) -> Conn | None:
    """A held connection for a packet dest:sport → client:dport of a real server, as if the client had asked it; None if there can be none.

    A persistent service gets a template to this very destination too, unless the client has one. Not for fwmark and port-zero services.
    """
    if svc.fwmark or not svc.port or not sport:
        return None
    ns = svc.ipvs
    real = iph.saddr << 16 | sport
    ct: Conn | None = None
    if svc.flags & IP_VS_SVC_F_PERSISTENT:
        param: ConnParam | None = ConnParam(svc.af, iph.protocol, client_network(svc, iph.daddr) << 16, svc.endpoint)
        if svc.pe is not None and svc.pe.fill_param is not None:
            param = svc.pe.fill_param(param, pkt)
        if param is None:
            return None
        ct = ns.conns.ct_in_get(param)
        if ct is None or not check_template(ct, dest):
            ct = new_conn(ns, param, iph.af, real, IP_VS_CONN_F_TEMPLATE, dest, 0)
            ct.timeout = svc.timeout
    one_packet = IP_VS_CONN_F_ONE_PACKET if svc.flags & IP_VS_SVC_F_ONEPACKET and iph.protocol == IPPROTO_UDP else 0
    cp = new_conn(ns, ConnParam(iph.af, iph.protocol, iph.daddr << 16 | dport, svc.endpoint), iph.af, real, one_packet, dest, 0)
    if ct is not None:
        cp.control_add(ct)
        ct.put()
    conn_stats(cp)
    return cp


def client_network(svc: Service, addr: int) -> int:
    """The network that a client belongs to for persistence: the address under the service's netmask (IPv6: prefix length)."""
    if svc.af == AF_INET:
        return addr & svc.netmask
    return addr >> 128 - svc.netmask << 128 - svc.netmask
