"""ip_vs_out_hook: packets on their way to a client.

source: ip_vs_core.c, ip_vs_out_hook, handle_response, __ip_vs_rs_conn_out
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.accounting import out_stats
from ipvs_model.datapath.icmp import out_icmp
from ipvs_model.flags import (
    AF_INET,
    IP_VS_CONN_F_FWD_MASK,
    IP_VS_DIR_OUTPUT,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    PKT_NO_ROUTE,
    PKT_NODEFRAG,
    PKT_PROPERTY,
    Hook,
    Verdict,
)
from ipvs_model.packet import IpHdr, Packet, fill_iph
from ipvs_model.packet.rewrite import snat
from ipvs_model.transmit.action import Accepted, Action, Dropped, Prepared, Stolen
from ipvs_model.transmit.route import reroute
from ipvs_model.transmit.xmit import REPLY, run_app

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.netns import Netns
    from ipvs_model.protocol import ProtoData

PROPERTY: Final = Accepted("property")
NODEFRAG: Final = Accepted("nodefrag")
PROTOCOL: Final = Accepted("protocol")
NO_CONNECTION: Final = Accepted("no connection")
RS_UNREACHABLE: Final = Dropped("rs unreachable")
NAT_ICMP_PROTOCOLS: Final = (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP)
TCP_RST: Final = 4
SCTP_ABORT: Final = 6


def ip_vs_out_hook(ns: Netns, hook: Hook, pkt: Packet) -> Action:
    """Find the connection of a reply and translate it."""
    if pkt.bits & PKT_PROPERTY:
        return PROPERTY
    if pkt.bits & PKT_NO_ROUTE or (hook is Hook.LOCAL_OUT and pkt.af == AF_INET and pkt.bits & PKT_NODEFRAG):
        return NODEFRAG
    iph = fill_iph(pkt)
    if iph.protocol == (IPPROTO_ICMP if iph.af == AF_INET else IPPROTO_ICMPV6):
        action = out_icmp(ns, hook, pkt, iph)
        if action is not None:
            return action
    pd = ns.protocols.get(iph.protocol)
    if pd is None:
        return PROTOCOL
    cp = pd.pp.conn_out_get(ns, pkt, iph)
    if cp is None and ns.conn_out_counter and iph.protocol == IPPROTO_UDP:
        cp = rs_conn_out(ns, hook, pkt, iph)
    if cp is not None:
        return handle_response(ns, hook, pkt, iph, pd, cp)
    if ns.sysctl.nat_icmp_send and iph.protocol in NAT_ICMP_PROTOCOLS and iph.sport is not None:
        known = ns.rs_table.find_real_service(iph.af, iph.protocol, iph.saddr, iph.sport)
        if known is not None and not _is_reset(pkt, iph):
            ns.send_error(pkt, hook, *((3, 3) if iph.af == AF_INET else (1, 4)), 0)
            return RS_UNREACHABLE
    return NO_CONNECTION


def _is_reset(pkt: Packet, iph: IpHdr) -> bool:
    """A TCP RST, or an SCTP packet that begins with ABORT (source: is_tcp_reset, is_sctp_abort)."""
    if iph.protocol == IPPROTO_TCP:
        return pkt.flags >= 0 and bool(pkt.flags & TCP_RST)
    return iph.protocol == IPPROTO_SCTP and pkt.raw[iph.len + 12 : iph.len + 13] == bytes([SCTP_ABORT]) and pkt.length >= iph.len + 16


def rs_conn_out(ns: Netns, hook: Hook, pkt: Packet, iph: IpHdr) -> Conn | None:
    """A connection begun by a real server, if its service's engine allows it (source: __ip_vs_rs_conn_out)."""
    if hook is Hook.LOCAL_IN or iph.sport is None or iph.dport is None:
        return None
    dest = ns.rs_table.find_real_service(iph.af, iph.protocol, iph.saddr, iph.sport)
    if dest is None or dest.svc is None or dest.svc.pe is None or dest.svc.pe.conn_out is None:
        return None
    cp: Conn | None = dest.svc.pe.conn_out(dest.svc, dest, pkt, iph, iph.sport, iph.dport)
    return cp


def handle_response(ns: Netns, hook: Hook, pkt: Packet, iph: IpHdr, pd: ProtoData, cp: Conn) -> Action:
    """Rewrite, count, run the state machine, restart the timer; a reply that cannot be rewritten ends before it is counted."""
    action: Action
    length = pkt.length
    if cp.flags & IP_VS_CONN_F_FWD_MASK:
        action = REPLY
    elif cp.ext is not None and cp.ext.app is not None and not iph.fragoffs:
        changed = run_app(cp, pkt, outgoing=True)
        packet = None if isinstance(changed, str) else snat(changed[0], cp.virt, changed=changed[1])
        if packet is None:
            cp.put()
            return Stolen(changed if isinstance(changed, str) else "rewrite refused")
        action = Prepared(Verdict.ACCEPT, "translated", packet)
        length = packet.length
    else:
        if not pkt.plain and pd.pp.has_nat_handlers and snat(pkt, cp.virt) is None:
            cp.put()
            return Stolen("rewrite refused")
        action = cp.xmit.out
    if not cp.flags & IP_VS_CONN_F_FWD_MASK and not reroute(ns, hook, pkt, cp.vaddr):
        cp.put()
        return Stolen("no route")
    ns.served = cp.dest
    out_stats(cp, length)
    pd.pp.state_transition(cp, IP_VS_DIR_OUTPUT, pkt, pd)
    cp.put()
    return action
