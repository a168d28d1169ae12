"""ip_vs_in_hook: packets on their way to a real server.

source: ip_vs_core.c, ip_vs_in_hook, is_new_conn, is_new_conn_expected
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.accounting import in_stats
from ipvs_model.conn import Conn
from ipvs_model.datapath.icmp import in_icmp
from ipvs_model.datapath.scheduling import try_to_schedule
from ipvs_model.events import ReuseChecked
from ipvs_model.flags import (
    AF_INET,
    IP_VS_CONN_F_NFCT,
    IP_VS_CONN_F_ONE_PACKET,
    IP_VS_DIR_INPUT,
    IP_VS_STATE_BACKUP,
    IP_VS_STATE_MASTER,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    PKT_NO_ROUTE,
    PKT_NODEFRAG,
    PKT_NOT_TO_HOST,
    PKT_PROPERTY,
    Hook,
)
from ipvs_model.netns import uses_old_conntrack
from ipvs_model.packet import IpHdr, Packet, fill_iph
from ipvs_model.transmit.action import Accepted, Action, Dropped

if TYPE_CHECKING:
    from ipvs_model.netns import Netns
    from ipvs_model.protocol import ProtoData

PROPERTY: Final = Accepted("property")
NOT_TO_HOST: Final = Accepted("not to host")
BACKUP_ONLY: Final = Accepted("backup only")
NODEFRAG: Final = Accepted("nodefrag")
PROTOCOL: Final = Accepted("protocol")
NO_TRANSMITTER: Final = Accepted("no transmitter")
OLD_CONNTRACK: Final = Dropped("old conntrack")
UNAVAILABLE: Final = Dropped("dest unavailable")
INT32: Final = 0xFFFFFFFF


def ip_vs_in_hook(ns: Netns, hook: Hook, pkt: Packet) -> Action:
    """Find or make the packet's connection, count, run the state machine, transmit."""
    if pkt.bits & PKT_PROPERTY:
        return PROPERTY
    if pkt.bits & (PKT_NOT_TO_HOST | PKT_NO_ROUTE) and (hook is not Hook.LOCAL_OUT or pkt.bits & PKT_NO_ROUTE):
        return NOT_TO_HOST
    sysctl = ns.sysctl
    if sysctl.backup_only and ns.sync_state & IP_VS_STATE_BACKUP:
        return BACKUP_ONLY
    if hook is Hook.LOCAL_OUT and pkt.af == AF_INET and pkt.bits & PKT_NODEFRAG:
        return NODEFRAG
    iph = fill_iph(pkt)
    if iph.protocol == (IPPROTO_ICMP if iph.af == AF_INET else IPPROTO_ICMPV6):
        action = in_icmp(ns, hook, pkt, iph)
        if action is not None:
            return action
    pd = ns.protocols.get(iph.protocol)
    if pd is None:
        if sysctl.ignore_tunneled:
            pkt.bits |= PKT_PROPERTY
        return PROTOCOL
    cp = pd.pp.conn_in_get(ns, pkt, iph)
    old_ct = False
    if cp is not None and not iph.fragoffs and pd.pp.is_new_conn(pkt, iph):
        reschedule, old_ct = must_reschedule(ns, cp, pkt, pd)
        if ns.emit is not None:
            ns.emit(ReuseChecked("ip_vs_in_hook", cp.key(), reschedule, reuse_reason(ns, cp, reschedule, old_ct)))
        if reschedule:
            give_up(cp, old_ct, spare_controllers=True)
            if old_ct:
                return OLD_CONNTRACK
            cp = None
    if cp is not None and cp.dest is not None and not cp.dest.available:
        if not sysctl.expire_nodest_conn:
            cp.plain_put()
            return UNAVAILABLE
        old_ct = uses_old_conntrack(ns, pkt)
        give_up(cp, old_ct, spare_controllers=False)
        if old_ct:
            return OLD_CONNTRACK
        cp = None
    if cp is None:
        made = try_to_schedule(ns, pkt, iph, pd, hook)
        if isinstance(made, Action):
            return made
        cp = made
    return forward(ns, hook, pkt, iph, pd, cp)


def must_reschedule(ns: Netns, cp: Conn, pkt: Packet, pd: ProtoData) -> tuple[bool, bool]:
    """Whether a packet that opens a connection replaces the entry it found, and whether its conntrack is an old one."""
    sysctl = ns.sysctl
    if sysctl.expire_nodest_conn and cp.dest is not None and cp.dest.weight == 0:
        return True, uses_old_conntrack(ns, pkt)
    if sysctl.conn_reuse_mode and cp.control is None and pd.pp.is_new_conn_expected(cp, sysctl.conn_reuse_mode):
        old_ct = uses_old_conntrack(ns, pkt)
        return (not cp.n_control or not old_ct), old_ct
    return False, False


def reuse_reason(ns: Netns, cp: Conn, reschedule: bool, old_ct: bool) -> str:
    """What ``must_reschedule`` went by, in words."""
    sysctl = ns.sysctl
    if sysctl.expire_nodest_conn and cp.dest is not None and cp.dest.weight == 0:
        return "its server has weight 0 and expire_nodest_conn is set"
    if not sysctl.conn_reuse_mode:
        return "conn_reuse_mode is 0"
    if cp.control is not None:
        return "it is controlled"
    if old_ct and not reschedule:
        return "it controls others, and conntrack holds a confirmed entry"
    return f"it is in {cp.state_name} and conn_reuse_mode is {sysctl.conn_reuse_mode}"


def give_up(cp: Conn, old_ct: bool, spare_controllers: bool) -> None:
    """Let an entry go at the next tick; the packet goes on without it."""
    if not old_ct:
        cp.flags &= ~IP_VS_CONN_F_NFCT
    if not spare_controllers or not cp.n_control:
        cp.expire_now()
    cp.plain_put()


def forward(ns: Netns, hook: Hook, pkt: Packet, iph: IpHdr, pd: ProtoData, cp: Conn) -> Action:
    """Statistics, state, transmission, packet count, synchronisation, timer: in this order, whatever the transmitter does."""
    ns.served = cp.dest
    in_stats(cp, pkt.length)
    pd.pp.state_transition(cp, IP_VS_DIR_INPUT, pkt, pd)
    xmit = cp.xmit
    action: Action = NO_TRANSMITTER if xmit is None else xmit.send(cp, pkt, iph, hook)
    one_packet = cp.flags & IP_VS_CONN_F_ONE_PACKET
    if one_packet:
        packets = ns.sysctl.sync_threshold
    else:
        packets = cp.in_pkts = add32(cp.in_pkts)
    if ns.sync_state & IP_VS_STATE_MASTER:
        ns.sync_conn(cp, packets)
    elif one_packet and cp.control is not None:
        cp.control.in_pkts = add32(cp.control.in_pkts)
    cp.put()
    return action


def add32(value: int) -> int:
    """A 32-bit signed counter, one further."""
    value += 1
    return value - (1 << 32) if value >> 31 == 1 else value
