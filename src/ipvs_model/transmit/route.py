"""The route step that every transmitter begins with: route, locality, TTL, MTU.

source: ip_vs_xmit.c, __ip_vs_get_out_rt, __ip_vs_get_out_rt_v6, crosses_local_route_boundary, decrement_ttl, ensure_mtu_is_adequate
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.flags import (
    AF_INET,
    PKT_ROUTE_LOCAL,
    Hook,
)
from ipvs_model.packet import IpHdr, Packet
from ipvs_model.packet.encap import tunnel_overhead
from ipvs_model.packet.rewrite import quoted_dec_ttl

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.netns import Netns
    from ipvs_model.routing import Route

# modes (IP_VS_RT_MODE_*)
LOCAL: Final = 1
NON_LOCAL: Final = 2
RDR: Final = 4
TUNNEL: Final = 32

NAT_MODES: Final = LOCAL | NON_LOCAL | RDR
DR_MODES: Final = LOCAL | NON_LOCAL
TUNNEL_MODES: Final = LOCAL | NON_LOCAL | TUNNEL

MIN_TUNNEL_MTU: Final = {4: 68, 6: 1280}
UNREACHABLE: Final = {4: (3, 1), 6: (1, 3)}
TIME_EXCEEDED: Final = {4: (11, 0), 6: (3, 0)}
TOO_BIG: Final = {4: (3, 4), 6: (2, 0)}


def version(af: int) -> int:
    """4 or 6."""
    return 4 if af == AF_INET else 6


def lookup(ns: Netns, cp: Conn, pkt: Packet) -> Route | None:
    """The route to the real server, cached in the destination; without one, to the entry's address."""
    dest = cp.dest
    if dest is None:
        bypass = cp.method == 4
        return ns.routing.output_route(pkt.af if bypass else cp.daf, pkt.dst >> 16 if bypass else cp.daddr)
    route: Route | None = dest.route
    if route is None or ns.routing.stale(route, dest.addr):
        route = dest.route = ns.routing.output_route(dest.af, dest.addr)
    return route


def own_route_local(ns: Netns, pkt: Packet, hook: Hook) -> bool:
    """Whether the packet's own route is local."""
    if hook is Hook.LOCAL_IN:
        return True
    if hook is Hook.FORWARD:
        return False
    if pkt.bits & PKT_ROUTE_LOCAL:
        return True
    route = ns.routing.output_route(pkt.af, pkt.dst >> 16)
    return route is not None and route.local


def _source_is_loopback(pkt: Packet) -> bool:
    source = pkt.src >> 16
    if pkt.af == AF_INET:
        return source >> 24 == 127
    return source == 1 and pkt.device in (None, "lo")


def crosses_boundary(ns: Netns, pkt: Packet, hook: Hook, modes: int, local: bool) -> bool:
    """Whether the new route leads from the local to the remote side, or back, where it must not (source: crosses_local_route_boundary)."""
    if local:
        return not modes & LOCAL or (not modes & RDR and not own_route_local(ns, pkt, hook))
    return not modes & NON_LOCAL or _source_is_loopback(pkt)


def out_route(ns: Netns, cp: Conn, pkt: Packet, iph: IpHdr, hook: Hook, modes: int) -> Route | str:
    """The route to use, or why there is none (a reason code); ICMP errors are sent on the way."""
    route = lookup(ns, cp, pkt)
    inner = version(pkt.af)
    if route is None or (modes & TUNNEL and not route.local and route.saddr is None):
        ns.send_error(pkt, hook, *UNREACHABLE[inner], 0)
        return "no route"
    if crosses_boundary(ns, pkt, hook, modes, route.local):
        return "boundary"
    if route.local:
        return route
    if pkt.ttl <= 1:
        ns.send_error(pkt, hook, *TIME_EXCEEDED[inner], 0)
        return "ttl"
    mtu = route.mtu
    if modes & TUNNEL:
        if cp.dest is None:
            return "no route"
        outer = version(cp.daf)
        mtu -= tunnel_overhead(pkt, cp.daf, cp.dest.tun_type, cp.dest.tun_flags)
        if mtu < MIN_TUNNEL_MTU[outer]:
            return "tunnel mtu"
    if not _fits(ns, pkt, iph, modes, mtu):
        if not iph.icmp and not iph.fragoffs:
            ns.send_error(quoted_dec_ttl(pkt), hook, *TOO_BIG[inner], mtu)
        return "mtu"
    return route


def _fits(ns: Netns, pkt: Packet, iph: IpHdr, modes: int, mtu: int) -> bool:
    """Source: ensure_mtu_is_adequate."""
    if pkt.af != AF_INET:
        return (pkt.frag_max_size or pkt.length) <= mtu
    if modes & TUNNEL and not ns.sysctl.pmtu_disc:
        return True
    return not pkt.df or pkt.length <= mtu or iph.icmp


def reroute(ns: Netns, hook: Hook, pkt: Packet, source: int) -> bool:
    """Route a translated reply anew; False if there is no way (source: ip_vs_route_me_harder)."""
    if not ns.sysctl.snat_reroute or hook is Hook.LOCAL_IN:
        return True
    return ns.routing.output_route(pkt.af, pkt.dst >> 16, src=source, mark=pkt.mark) is not None
