"""The transmitters: null, bypass, direct routing, NAT, tunnel.

One Transmitter serves all entries of a destination with the same method and endpoints, and keeps their shared actions.

source: ip_vs_xmit.c, ip_vs_bypass_xmit, ip_vs_nat_xmit, ip_vs_dr_xmit, ip_vs_tunnel_xmit, ip_vs_null_xmit (and _v6); ip_vs_conn.c, ip_vs_bind_xmit
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.conn import Conn, fill_cport
from ipvs_model.events import Transmitted
from ipvs_model.flags import (
    AF_INET,
    IP_VS_CONN_F_BYPASS,
    IP_VS_CONN_F_DROUTE,
    IP_VS_CONN_F_LOCALNODE,
    IP_VS_CONN_F_MASQ,
    IP_VS_CONN_F_NO_CPORT,
    IP_VS_CONN_F_SYNC,
    IP_VS_CONN_F_TUNNEL,
    PKT_HAS_CT,
    Hook,
    Verdict,
)
from ipvs_model.packet import IpHdr, Packet
from ipvs_model.packet.encap import tunnel_overhead
from ipvs_model.packet.rewrite import csum_check, dnat
from ipvs_model.stats import Stats
from ipvs_model.transmit.action import Action, Direct, Marked, Nat, Prepared, Stolen, Tunnelled
from ipvs_model.transmit.route import DR_MODES, NAT_MODES, NON_LOCAL, TUNNEL_MODES, out_route

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.netns import Netns
    from ipvs_model.routing import Route

LOCAL_ACCEPT = Marked("local")
NULL_ACCEPT = Marked("local")
REPLY = Marked("reply")


class Transmitter:
    """``packet_xmit`` of entries of one destination, method and pair of endpoints.

    ``action`` is what a packet gets that needs no special care; ``mtu`` the longest such packet, ``server`` the source of such replies; both are -1 when
    every packet needs a look.
    """

    __slots__ = (
        "action", "active_flags", "counted", "dest", "inactive_flags", "mtu", "ns", "out", "quick", "real", "route", "server", "stats", "users", "virt",
    )  # fmt: skip

    method = "null"
    modes = 0

    def __init__(self, ns: Netns, dest: Dest | None, real: int, virt: int) -> None:
        self.ns = ns
        self.dest = dest
        self.stats = dest.stats if dest is not None else Stats()  #: what its entries' packets are counted at
        self.real = real
        self.virt = virt
        #: one of as many as there are virtual endpoints of a fwmark or port-zero service: it goes when nobody uses it
        self.counted = dest is not None and virt != dest.vaddr << 16 | dest.vport
        self.users = 0  #: entries bound to it, if they are counted
        self.active_flags = self.inactive_flags = self.quick = 0  #: members of ordinary new entries; set with ``Dest.usual``
        self.action: Action | None = None
        self.route: Route | None = None  #: the route that ``action`` holds for
        self.limit(-1)
        self.out: Action = REPLY if self.method != "nat" else Nat.to_client(virt)

    def send(self, cp: Conn, pkt: Packet, iph: IpHdr, hook: Hook) -> Action:
        """Send or accept a packet of an entry; STOLEN also after a failure."""
        route = out_route(self.ns, cp, pkt, iph, hook, self.modes)
        if isinstance(route, str):
            return self.tell(cp, Stolen(route))
        return self.tell(cp, self.on_route(cp, pkt, iph, hook, route))

    def on_route(self, cp: Conn, pkt: Packet, iph: IpHdr, hook: Hook, route: Route) -> Action:
        """The action once the route is known."""
        if route is not self.route or self.action is None:
            self.route = route
            self.action = self.make(cp, route)
            # an ICMP error is sent even to a deleted server: its client's packets must still be looked at
            deleted = self.dest is not None and not self.dest.available
            self.limit(-1 if route.local or deleted else self.room(pkt, route))
        return self.action

    def room(self, pkt: Packet, route: Route) -> int:
        """Length of the longest packet that needs no special care on this route; ``pkt`` is the one that takes it first."""
        return route.mtu

    def limit(self, mtu: int) -> None:
        """Packets longer than that need special care; -1: so does every packet and every reply."""
        self.mtu = mtu
        self.server = -1 if mtu < 0 else self.real if self.method == "nat" else self.virt

    def make(self, cp: Conn, route: Route) -> Action:
        """The shared action for a route."""
        return LOCAL_ACCEPT

    def forget(self) -> None:
        """Routes or the destination changed."""
        self.route = self.action = None
        self.limit(-1)

    def tell(self, cp: Conn, action: Action) -> Action:
        """Let watchers know."""
        emit = self.ns.emit
        if emit is not None:
            emit(Transmitted(f"ip_vs_{self.method}_xmit", cp.key(), self.method, action.reason))
        return action


class NullXmit(Transmitter):
    """Local delivery (LOCALNODE)."""

    __slots__ = ()

    def send(self, cp: Conn, pkt: Packet, iph: IpHdr, hook: Hook) -> Action:
        """Accepted, marked."""
        return self.tell(cp, NULL_ACCEPT)


class BypassXmit(Transmitter):
    """To the packet's own destination."""

    __slots__ = ()
    method = "bypass"
    modes = NON_LOCAL

    def make(self, cp: Conn, route: Route) -> Action:
        """Sent with one hop less."""
        return Direct("bypass", route)


class DirectXmit(Transmitter):
    """Direct routing: the destination address stays the virtual one."""

    __slots__ = ()
    method = "dr"
    modes = DR_MODES

    def make(self, cp: Conn, route: Route) -> Action:
        """Sent with one hop less, or accepted when the server is this host."""
        return LOCAL_ACCEPT if route.local else Direct("forwarded", route)


class NatXmit(Transmitter):
    """NAT: destination address and port become the real server's."""

    __slots__ = ()
    method = "nat"
    modes = NAT_MODES

    def send(self, cp: Conn, pkt: Packet, iph: IpHdr, hook: Hook) -> Action:
        """Fill a missing client port, then route and rewrite."""
        if cp.flags & IP_VS_CONN_F_NO_CPORT and not iph.fragoffs:
            port = pkt.raw[iph.len : iph.len + 2]  # of whatever protocol: an ESP packet that finds such an entry gives it half of its SPI
            if len(port) < 2:
                return self.tell(cp, Stolen("short header"))
            fill_cport(cp, int.from_bytes(port))
        return super().send(cp, pkt, iph, hook)

    def make(self, cp: Conn, route: Route) -> Action:
        """Rewritten; sent, or accepted when the server is this host."""
        return Nat.to_server(self.real, route)

    def on_route(self, cp: Conn, pkt: Packet, iph: IpHdr, hook: Hook, route: Route) -> Action:
        """Local servers are looked at; a helper may refuse or change the payload; a short header cannot be rewritten."""
        if route.local and (refused := local_refused(cp, pkt, hook)):
            return Stolen(refused)
        if cp.ext is not None and cp.ext.app is not None and not iph.fragoffs:
            return self._helped(cp, pkt, route)
        if not pkt.plain and dnat(pkt, self.real) is None:
            return Stolen("rewrite refused")
        return super().on_route(cp, pkt, iph, hook, route)

    def _helped(self, cp: Conn, pkt: Packet, route: Route) -> Action:
        """A connection with an application: checksum, helper, rewrite (source: tcp_dnat_handler)."""
        changed = run_app(cp, pkt, outgoing=False)
        if isinstance(changed, str):
            return Stolen(changed)
        packet = dnat(changed[0], self.real, dec_ttl=not route.local, changed=changed[1])
        if packet is None:
            return Stolen("rewrite refused")
        return Prepared(Verdict.ACCEPT, "local", packet) if route.local else Prepared(Verdict.STOLEN, "forwarded", packet, route)


def local_refused(cp: Conn, pkt: Packet, hook: Hook) -> str:
    """Why NAT to a local server is refused, or "" (source: ip_vs_nat_xmit)."""
    if cp.flags & IP_VS_CONN_F_SYNC and pkt.bits & PKT_HAS_CT:
        return "synced local"
    if cp.af == AF_INET:
        if cp.daddr >> 24 == 127 and hook is not Hook.LOCAL_OUT:
            return "loopback server"
    elif cp.daddr == 1 and pkt.device not in (None, "lo"):
        return "loopback server"
    return ""


def run_app(cp: Conn, pkt: Packet, outgoing: bool) -> tuple[Packet, bool] | str:
    """Run a connection's helper: the packet to go on with and whether its checksum is stale, or why it is refused.

    source: ip_vs_app.c, ip_vs_app_pkt_in, ip_vs_app_pkt_out; tcp_snat_handler, tcp_dnat_handler
    """
    if not pkt.plain and dnat(pkt, cp.real) is None:
        return "rewrite refused"
    if not csum_check(pkt):
        return "checksum"
    result, changed = cp.app.packet_out(cp, pkt) if outgoing else cp.app.packet_in(cp, pkt)
    return (changed, result == 2) if result else "app refused"


class TunnelXmit(Transmitter):
    """Encapsulation: IPIP, GUE, GRE; type, port and flags are the destination's present ones."""

    __slots__ = ()
    method = "tunnel"
    modes = TUNNEL_MODES

    def make(self, cp: Conn, route: Route) -> Action:
        """Encapsulated, or accepted as it is when the server is this host."""
        if route.local:
            return LOCAL_ACCEPT
        assert cp.dest is not None and route.saddr is not None
        return Tunnelled(cp.dest, self.real, route, route.saddr, bool(self.ns.sysctl.pmtu_disc))

    def room(self, pkt: Packet, route: Route) -> int:
        """The tunnel's header takes its part."""
        dest = self.dest
        assert dest is not None  # without one there is no route
        return route.mtu - tunnel_overhead(pkt, dest.af, dest.tun_type, dest.tun_flags)


#: transmitters that a destination keeps whether they are used or not; fwmark and port-zero services make one for each virtual endpoint
MANY: Final = 64

#: forwarding method → transmitter; 5 to 7 have none
TRANSMITTERS = {
    IP_VS_CONN_F_MASQ: NatXmit,
    IP_VS_CONN_F_LOCALNODE: NullXmit,
    IP_VS_CONN_F_TUNNEL: TunnelXmit,
    IP_VS_CONN_F_DROUTE: DirectXmit,
    IP_VS_CONN_F_BYPASS: BypassXmit,
}


def bind_xmit(cp: Conn) -> None:
    """Choose an entry's transmitter, once (source: ip_vs_conn.c, ip_vs_bind_xmit, ip_vs_bind_xmit_v6)."""
    kind = TRANSMITTERS.get(cp.method)
    if kind is None:
        cp.xmit = None
        return
    dest = cp.dest
    if dest is None:
        cp.xmit = kind(cp.ipvs, None, cp.real, cp.virt)
        return
    key = (cp.method, cp.real, cp.virt)
    xmit = dest.xmits.get(key)
    if xmit is None:
        if len(dest.xmits) >= MANY + 2 * (dest.totalconns + dest.persistconns):
            dest.xmits = {key: other for key, other in dest.xmits.items() if other.users or not other.counted}
            dest.usual = None
        xmit = dest.xmits[key] = kind(cp.ipvs, dest, cp.real, cp.virt)
        cp.ipvs.conns.add_virtual(cp.virt)
    if xmit.counted:
        xmit.users += 1
        cp.table.odd = True
    cp.xmit = xmit
    # entries of one destination share their endpoints: an int each would cost more than many a slot
    cp.real, cp.virt = xmit.real, xmit.virt


def routes_changed(dest: Dest) -> None:
    """Drop what is cached for a destination: its route, and its entries' actions (source: ip_vs_ctl.c, __ip_vs_dst_cache_reset)."""
    dest.route = dest.usual = None
    forget_actions(dest)


def forget_actions(dest: Dest) -> None:
    """Drop the actions of a destination's entries."""
    for xmit in dest.xmits.values():
        xmit.forget()
