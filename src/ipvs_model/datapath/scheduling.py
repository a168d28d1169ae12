"""A packet without connection: gates, service, scheduler, persistence, and what happens when nothing can be chosen.

source: ip_vs_core.c, ip_vs_try_to_schedule, ip_vs_schedule, ip_vs_sched_persist, ip_vs_leave; ip_vs.h, ip_vs_todrop
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.accounting import conn_stats, in_stats
from ipvs_model.conn import Conn, ConnParam, check_template, new_conn
from ipvs_model.engines.outgoing import client_network
from ipvs_model.events import Candidate, Scheduled
from ipvs_model.flags import (
    AF_INET,
    FTPDATA,
    FTPPORT,
    IP_VS_CONN_F_BYPASS,
    IP_VS_CONN_F_ONE_PACKET,
    IP_VS_CONN_F_TEMPLATE,
    IP_VS_DIR_INPUT,
    IP_VS_HDR_ICMP,
    IP_VS_HDR_INVERSE,
    IP_VS_SVC_F_ONEPACKET,
    IP_VS_SVC_F_PERSISTENT,
    IPPROTO_IP,
    IPPROTO_UDP,
    Hook,
)
from ipvs_model.packet import IpHdr, Packet
from ipvs_model.transmit.action import Accepted, Action, Dropped

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.netns import Netns
    from ipvs_model.protocol import ProtoData
    from ipvs_model.service import Service

SHORT_HEADER: Final = Dropped("short header")
NOT_A_STARTER: Final = Accepted("not a starter")
NO_SERVICE: Final = Accepted("no service")
TODROP: Final = Dropped("drop_packet")
FTP_DATA: Final = Accepted("ftp data")
LOCAL_REPLY: Final = Accepted("local reply")
NO_CONNECTION: Final = Accepted("no connection")
ENGINE_REFUSED: Final = Dropped("engine refused")
OTHER_PORT: Final = Accepted("other port")
NO_DEST_ICMP: Final = Dropped("no destination icmp")
NO_DEST: Final = Dropped("no destination")

PORT_UNREACHABLE: Final = {4: (3, 3), 6: (1, 4)}


def try_to_schedule(ns: Netns, pkt: Packet, iph: IpHdr, pd: ProtoData, hook: Hook) -> Conn | Action:
    """A new connection, or the verdict (source: ip_vs_try_to_schedule)."""
    if iph.fragoffs:
        return NO_CONNECTION
    if not pd.pp.has_nat_handlers:
        return NO_CONNECTION  # AH and ESP are never scheduled
    return conn_schedule(ns, pkt, iph, pd, hook)


def conn_schedule(ns: Netns, pkt: Packet, iph: IpHdr, pd: ProtoData, hook: Hook) -> Conn | Action:
    """What TCP, UDP and SCTP have in common (source: tcp_conn_schedule, udp_conn_schedule, sctp_conn_schedule)."""
    if not iph.hdr_flags & IP_VS_HDR_ICMP:
        starts = pd.pp.start_gate(ns, pkt, iph)
        if starts is None:
            return SHORT_HEADER
        if not starts:
            return NOT_A_STARTER
    if iph.sport is None or iph.dport is None:
        return SHORT_HEADER
    if iph.hdr_flags & IP_VS_HDR_INVERSE:
        svc = ns.services.find(iph.af, pkt.mark, iph.protocol, iph.saddr, iph.sport)
    else:
        svc = ns.services.find(iph.af, pkt.mark, iph.protocol, iph.daddr, iph.dport)
    if svc is None:
        return NO_SERVICE
    if todrop(ns):
        return TODROP
    return schedule(svc, pkt, iph, hook)


def todrop(ns: Netns) -> bool:
    """The drop_packet defence (source: ip_vs.h, ip_vs_todrop)."""
    if not ns.drop_rate:
        return False
    ns.drop_counter -= 1
    if ns.drop_counter > 0:
        return False
    ns.drop_counter = ns.drop_rate
    return True


def roles(iph: IpHdr) -> tuple[int, int]:
    """Client and virtual endpoint of a view."""
    source, destination = iph.saddr << 16 | (iph.sport or 0), iph.daddr << 16 | (iph.dport or 0)
    return (destination, source) if iph.hdr_flags & IP_VS_HDR_INVERSE else (source, destination)


def choose(svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
    """Ask the service's scheduler."""
    scheduler = svc.scheduler
    if scheduler is None:
        return None
    emit = svc.ipvs.emit
    if emit is not None:
        for dest in svc.destinations:
            emit(
                Candidate(
                    scheduler.name, dest.key(), dest.weight, dest.activeconns, dest.totalconns, dest.overloaded, dest.available, scheduler.score(svc, dest)
                )
            )
    chosen: Dest | None = scheduler.schedule(svc, pkt, iph)
    if emit is not None:
        emit(Scheduled("ip_vs_schedule", svc.key(), scheduler.name, chosen.key() if chosen is not None else None))
    return chosen


def one_packet(svc: Service, iph: IpHdr) -> int:
    """The ONE_PACKET flag for a new connection of a service."""
    return IP_VS_CONN_F_ONE_PACKET if svc.flags & IP_VS_SVC_F_ONEPACKET and iph.protocol == IPPROTO_UDP else 0


def schedule(svc: Service, pkt: Packet, iph: IpHdr, hook: Hook) -> Conn | Action:
    """A connection to the destination that the scheduler chooses (source: ip_vs_schedule)."""
    ns = svc.ipvs
    client, virt = roles(iph)
    if client & 0xFFFF == FTPDATA:
        return FTP_DATA
    if pkt.device in (None, "lo"):
        known = ns.conns.in_get(iph.af, iph.protocol, virt, client)
        if known is not None:
            known.plain_put()
            return LOCAL_REPLY
    if svc.flags & IP_VS_SVC_F_PERSISTENT:
        return sched_persist(svc, pkt, iph, hook)
    vport = virt & 0xFFFF
    if not svc.fwmark and vport != svc.port:
        if not svc.port:
            ns.log("err", "IPVS: Schedule: port zero only supported in persistent services, check your ipvs configuration")
        return leave(svc, pkt, iph, hook)
    dest = choose(svc, pkt, iph)
    return leave(svc, pkt, iph, hook) if dest is None else connect(svc, pkt, iph, dest)


def connect(svc: Service, pkt: Packet, iph: IpHdr, dest: Dest) -> Conn:
    """A connection to a destination that was chosen for it alone."""
    client, virt = roles(iph)
    real = dest.addr << 16 | (dest.port or virt & 0xFFFF)
    cp = new_conn(svc.ipvs, ConnParam(iph.af, iph.protocol, client, virt), dest.af, real, one_packet(svc, iph), dest, pkt.mark)
    conn_stats(cp)
    return cp


def sched_persist(svc: Service, pkt: Packet, iph: IpHdr, hook: Hook) -> Conn | Action:
    """A connection controlled by the client's template, which is made where it is missing (source: ip_vs_sched_persist)."""
    ns = svc.ipvs
    client, virt = roles(iph)
    network = client_network(svc, client >> 16)
    dst_port = virt & 0xFFFF
    same_port = dst_port == svc.port
    protocol, template_virt = iph.protocol, virt
    if not same_port or svc.port == FTPPORT:
        template_virt = virt >> 16 << 16
        if not same_port and svc.fwmark:
            protocol = IPPROTO_IP
            template_virt = _mark_address(svc) << 16
    param = ConnParam(svc.af, protocol, network << 16, template_virt)
    if svc.pe is not None and svc.pe.fill_param is not None:
        filled = svc.pe.fill_param(param, pkt)
        if filled is None:
            return ENGINE_REFUSED
        param = filled
    ct = ns.conns.ct_in_get(param)
    if ct is not None and check_template(ct):
        dest = ct.dest
        assert dest is not None
    else:
        chosen = choose(svc, pkt, iph)
        if chosen is None:
            return leave(svc, pkt, iph, hook)
        dest = chosen
        template_port = dest.port if same_port and svc.port != FTPPORT else 0
        ct = new_conn(ns, param, dest.af, dest.addr << 16 | template_port, IP_VS_CONN_F_TEMPLATE, dest, pkt.mark)
        ct.timeout = svc.timeout
    port = dest.port if same_port and dest.port else dst_port
    cp = new_conn(ns, ConnParam(iph.af, iph.protocol, client, virt), dest.af, dest.addr << 16 | port, one_packet(svc, iph), dest, pkt.mark)
    cp.control_add(ct)
    ct.put()
    conn_stats(cp)
    return cp


def _mark_address(svc: Service) -> int:
    """A fwmark as the first 32-bit word of an address."""
    return svc.fwmark if svc.af == AF_INET else svc.fwmark << 96


def leave(svc: Service, pkt: Packet, iph: IpHdr, hook: Hook) -> Action:
    """A service matched, but nothing can be chosen: bypass, accept, or refuse (source: ip_vs_leave)."""
    ns = svc.ipvs
    if (
        ns.sysctl.cache_bypass
        and svc.fwmark
        and not iph.hdr_flags
        and ns.routing.addr_type(iph.af, iph.daddr) in (("unicast",) if iph.af == AF_INET else ("unicast", "local", "linklocal"))
    ):
        return _bypass(svc, pkt, iph, hook)
    if svc.port == FTPPORT and roles(iph)[1] & 0xFFFF != FTPPORT:
        return OTHER_PORT
    if iph.hdr_flags & IP_VS_HDR_ICMP:
        return NO_DEST_ICMP
    ns.send_error(pkt, hook, *PORT_UNREACHABLE[4 if iph.af == AF_INET else 6], 0)
    return NO_DEST


def _bypass(svc: Service, pkt: Packet, iph: IpHdr, hook: Hook) -> Action:
    ns = svc.ipvs
    source, destination = roles(iph)
    flags = IP_VS_CONN_F_BYPASS | one_packet(svc, iph)
    cp = new_conn(ns, ConnParam(iph.af, iph.protocol, source, destination), svc.af, 0, flags, None, pkt.mark)
    in_stats(cp, pkt.length)
    pd = ns.protocols[iph.protocol]
    pd.pp.state_transition(cp, IP_VS_DIR_INPUT, pkt, pd)
    action: Action = cp.xmit.send(cp, pkt, iph, hook)
    cp.in_pkts += 1
    cp.put()
    return action
