"""ICMP and ICMPv6 errors in all three hooks: about replies, about requests, about tunnel packets.

source: ip_vs_core.c, ip_vs_in_icmp, ip_vs_in_icmp_v6, ip_vs_out_icmp, ip_vs_out_icmp_v6, handle_response_icmp, ip_vs_forward_icmp
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.accounting import in_stats, out_stats
from ipvs_model.datapath.scheduling import try_to_schedule
from ipvs_model.flags import (
    AF_INET,
    IP_VS_CONN_F_FWD_MASK,
    IP_VS_CONN_F_TUNNEL_TYPE_GRE,
    IP_VS_CONN_F_TUNNEL_TYPE_GUE,
    IP_VS_CONN_F_TUNNEL_TYPE_IPIP,
    IP_VS_DIR_OUTPUT,
    IP_VS_HDR_ICMP,
    IP_VS_HDR_INVERSE,
    IP_VS_STATE_BACKUP,
    IPPROTO_GRE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_IPIP,
    IPPROTO_UDP,
    Hook,
    Verdict,
)
from ipvs_model.packet import IpHdr, Packet, fill_iph, fill_iph_at
from ipvs_model.packet.ethernet import ETH_P_IP
from ipvs_model.packet.rewrite import icmp_csum_ok, nat_icmp
from ipvs_model.transmit.action import Accepted, Action, Dropped, Prepared, Stolen
from ipvs_model.transmit.icmp import icmp_xmit
from ipvs_model.transmit.route import own_route_local, reroute
from ipvs_model.transmit.xmit import REPLY

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.netns import Netns
    from ipvs_model.protocol import ProtoData

ICMP_ERRORS: Final = (3, 4, 11)  #: unreachable, source quench, time exceeded
ICMP_HEADER: Final = 8
DEST_UNREACH: Final = 3
FRAG_NEEDED: Final = 4
GUE_HEADER: Final = 4
IPV4_MIN_MTU: Final = 68

BACKUP_ONLY: Final = Accepted("backup only")
NOT_ICMP: Final = Accepted("no connection")
UNRELATED: Final = Accepted("icmp unrelated")
SHORT_HEADER: Final = Dropped("short header")
CHECKSUM: Final = Dropped("checksum")
NO_ROUTE: Final = Dropped("no route")
TUNNEL_ERROR: Final = Stolen("tunnel error")


def ip_vs_forward_icmp(ns: Netns, hook: Hook, pkt: Packet) -> Action:
    """Errors for connections whose virtual address is not local (source: ip_vs_forward_icmp)."""
    if ns.sysctl.backup_only and ns.sync_state & IP_VS_STATE_BACKUP:
        return BACKUP_ONLY
    iph = fill_iph(pkt)
    if iph.protocol != (IPPROTO_ICMP if iph.af == AF_INET else IPPROTO_ICMPV6):
        return NOT_ICMP
    return in_icmp(ns, hook, pkt, iph) or UNRELATED


def in_icmp(ns: Netns, hook: Hook, pkt: Packet, iph: IpHdr) -> Action | None:
    """An error on its way to a real server; None: not an error, go on."""
    return _in_icmp4(ns, hook, pkt, iph) if iph.af == AF_INET else _in_icmp6(ns, hook, pkt, iph)


def out_icmp(ns: Netns, hook: Hook, pkt: Packet, iph: IpHdr) -> Action | None:
    """An error on its way to a client; None: not an error, go on."""
    kind = _error_kind(pkt, iph)
    if kind is None or isinstance(kind, Action):
        return kind
    view = _embedded(ns, pkt, iph.af, iph.len + ICMP_HEADER, IP_VS_HDR_INVERSE | IP_VS_HDR_ICMP)
    if view is None:
        return UNRELATED
    quoted, pd = view
    cp = pd.pp.conn_out_get(ns, pkt, quoted)
    if cp is None:
        return UNRELATED
    action = _response_icmp(ns, hook, pkt, quoted, cp)
    cp.plain_put()
    return action


def _error_kind(pkt: Packet, iph: IpHdr) -> int | Action | None:
    """The type of an error; an Action ends the packet, None: no error."""
    if pkt.length < iph.len + ICMP_HEADER:
        return SHORT_HEADER
    kind = pkt.raw[iph.len]
    if iph.af == AF_INET:
        return kind if kind in ICMP_ERRORS else None
    if kind & 0x80:
        return None
    return SHORT_HEADER if iph.flags else kind


def _embedded(ns: Netns, pkt: Packet, af: int, off: int, flags: int) -> tuple[IpHdr, ProtoData] | None:
    """The view of a quoted packet and its protocol, if IPVS can use them."""
    raw = pkt.raw
    quoted = fill_iph_at(raw, af, off, flags)
    if quoted is None:
        return None
    pd = ns.protocols.get(quoted.protocol)
    if pd is None:
        return None
    if af == AF_INET:
        if raw[off] >> 4 != 4 or raw[off] & 15 < 5:
            return None
        later = int.from_bytes(raw[off + 6 : off + 8]) & 0x1FFF
    else:
        later = quoted.fragoffs
    return None if later and not pd.pp.dont_defrag else (quoted, pd)


def _response_icmp(ns: Netns, hook: Hook, pkt: Packet, quoted: IpHdr, cp: Conn) -> Action:
    """Translate an error for the client (source: handle_response_icmp)."""
    if cp.flags & IP_VS_CONN_F_FWD_MASK:
        out_stats(cp, pkt.length)
        return REPLY
    if not icmp_csum_ok(pkt):
        return CHECKSUM
    packet = nat_icmp(pkt, quoted, IP_VS_DIR_OUTPUT, cp.virt)
    if packet is None:
        return SHORT_HEADER
    if not reroute(ns, hook, pkt, cp.vaddr):
        return NO_ROUTE
    out_stats(cp, packet.length)
    return Prepared(Verdict.ACCEPT, "icmp translated", packet)


def _in_icmp6(ns: Netns, hook: Hook, pkt: Packet, iph: IpHdr) -> Action | None:
    kind = _error_kind(pkt, iph)
    if kind is None or isinstance(kind, Action):
        return kind
    view = _embedded(ns, pkt, iph.af, iph.len + ICMP_HEADER, IP_VS_HDR_INVERSE | IP_VS_HDR_ICMP)
    return UNRELATED if view is None else _deliver(ns, hook, pkt, *view)


def _in_icmp4(ns: Netns, hook: Hook, pkt: Packet, iph: IpHdr) -> Action | None:
    kind = _error_kind(pkt, iph)
    if kind is None or isinstance(kind, Action):
        return kind
    raw = pkt.raw
    off = iph.len + ICMP_HEADER
    if len(raw) < off + 20 or raw[off] >> 4 != 4 or raw[off] & 15 < 5:
        return UNRELATED
    inner = _tunnel_inner(ns, hook, pkt, off)
    if isinstance(inner, Action):
        return inner
    flags = IP_VS_HDR_ICMP if inner != off else IP_VS_HDR_INVERSE | IP_VS_HDR_ICMP
    view = _embedded(ns, pkt, iph.af, inner, flags)
    if view is None:
        return UNRELATED
    if inner == off:
        return _deliver(ns, hook, pkt, *view)
    quoted, pd = view
    cp = pd.pp.conn_in_get(ns, pkt, quoted)
    if cp is None:
        return UNRELATED
    action = _tunnel_error(ns, hook, pkt, iph, off, quoted, cp) if icmp_csum_ok(pkt) or pkt.device is None else CHECKSUM
    cp.plain_put()
    return action


def _deliver(ns: Netns, hook: Hook, pkt: Packet, quoted: IpHdr, pd: ProtoData) -> Action:
    """Find or (schedule_icmp) make the connection that an error is about, and send the error to its real server."""
    cp = pd.pp.conn_in_get(ns, pkt, quoted)
    new = cp is None
    if cp is None:
        if not ns.sysctl.schedule_icmp:
            return UNRELATED
        made = try_to_schedule(ns, pkt, quoted, pd, hook)
        if isinstance(made, Action):
            return made
        cp = made
    action: Action
    if not cp.flags & IP_VS_CONN_F_FWD_MASK and pkt.device is not None and not icmp_csum_ok(pkt):
        action = CHECKSUM
    else:
        in_stats(cp, pkt.length)
        action = icmp_xmit(cp, pkt, quoted, hook)
    if new:
        cp.put()
    else:
        cp.plain_put()
    return action


def _tunnel_inner(ns: Netns, hook: Hook, pkt: Packet, off: int) -> int | Action:
    """Offset of the packet inside one of our tunnels that the error is about; ``off`` itself: not about a tunnel."""
    raw = pkt.raw
    protocol = raw[off + 9]
    if protocol not in (IPPROTO_IPIP, IPPROTO_UDP, IPPROTO_GRE):
        return off
    local = own_route_local(ns, pkt, hook)
    if protocol != IPPROTO_IPIP and not local:
        return off
    if int.from_bytes(raw[off + 6 : off + 8]) & 0x1FFF or not local:
        return UNRELATED
    start = off + (raw[off] & 15) * 4
    server = int.from_bytes(raw[off + 16 : off + 20])
    if protocol == IPPROTO_IPIP:
        dest = ns.rs_table.find_tunnel(AF_INET, server, 0)
        return start if dest is not None and dest.tun_type == IP_VS_CONN_F_TUNNEL_TYPE_IPIP else UNRELATED
    length = _gue_length(ns, raw, start, server) if protocol == IPPROTO_UDP else _gre_length(ns, raw, start, server)
    return start + length if length else off


def _gue_length(ns: Netns, raw: bytes, start: int, server: int) -> int:
    """Bytes of a GUE header of ours, 0: it is none (source: ipvs_udp_decap)."""
    if len(raw) < start + 8 + GUE_HEADER:
        return 0
    dest = ns.rs_table.find_tunnel(AF_INET, server, int.from_bytes(raw[start + 2 : start + 4]))
    if dest is None or dest.tun_type != IP_VS_CONN_F_TUNNEL_TYPE_GUE:
        return 0
    first, protocol = raw[start + 8], raw[start + 9]
    if first & 0xE0 or protocol != IPPROTO_IPIP:
        return 0
    return 8 + GUE_HEADER + (first & 0x1F) * 4


def _gre_length(ns: Netns, raw: bytes, start: int, server: int) -> int:
    """Bytes of a GRE header of ours, 0: it is none (source: ipvs_gre_decap)."""
    if len(raw) < start + 4:
        return 0
    dest = ns.rs_table.find_tunnel(AF_INET, server, 0)
    if dest is None or dest.tun_type != IP_VS_CONN_F_TUNNEL_TYPE_GRE:
        return 0
    flags, protocol = int.from_bytes(raw[start : start + 2]), int.from_bytes(raw[start + 2 : start + 4])
    if flags & 0x7FFF or protocol != ETH_P_IP:
        return 0
    return 8 if flags & 0x8000 else 4


def _tunnel_error(ns: Netns, hook: Hook, pkt: Packet, iph: IpHdr, off: int, quoted: IpHdr, cp: Conn) -> Action:
    """A router could not pass a tunnel packet on: tell the client about the packet inside (source: ip_vs_in_icmp)."""
    raw = pkt.raw
    kind, code = raw[iph.len], raw[iph.len + 1]
    info = int.from_bytes(raw[iph.len + 4 : iph.len + 8])
    inner = Packet.parse(raw[quoted.off :], mark=pkt.mark, device=pkt.device)
    if (kind, code) == (DEST_UNREACH, FRAG_NEEDED):
        mtu = info & 0xFFFF
        dest = cp.dest
        cached = dest.route if dest is not None else None
        ns.routing.update_pmtu(AF_INET, int.from_bytes(raw[off + 16 : off + 20]), mtu)
        ns.quick_changed()
        if not inner.df:
            return TUNNEL_ERROR
        if cached is not None:
            mtu = ns.routing.cached_mtu(cached)
        overhead = quoted.off - off
        if mtu > IPV4_MIN_MTU + overhead:
            mtu -= overhead
        info = mtu
    ns.send_error(inner, hook, kind, code, info)
    out_stats(cp, pkt.length - quoted.off)
    return TUNNEL_ERROR
