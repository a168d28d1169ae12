"""The quick road for packets that open a connection: what the layered path does with an ordinary one, fused into two functions.

Ordinary is a TCP SYN or a UDP datagram that finds no entry, from a client endpoint that no other rule is about, to an address service without one-packet
scheduling, while no defence and no rare switch is on; with persistence a SYN to the service's own port, not FTP's, from a client that has a template.
Whatever the scheduler then answers is honoured: when the chosen destination, or the way to it, needs a look of its own, the layered path goes on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from ipvs_model.conn import LOOPBACK, Conn, template_flaw
from ipvs_model.datapath.incoming import forward
from ipvs_model.datapath.scheduling import connect, leave, sched_persist
from ipvs_model.engines.outgoing import client_network
from ipvs_model.flags import (
    FTPDATA,
    FTPPORT,
    IP_VS_CONN_F_HASHED,
    IP_VS_CONN_F_INACTIVE,
    IP_VS_CONN_F_NFCT,
    IP_VS_CONN_F_NOOUTPUT,
    IP_VS_CONN_F_ONE_PACKET,
    IP_VS_CONN_F_TEMPLATE,
    IP_VS_SVC_F_ONEPACKET,
    IP_VS_SVC_F_PERSISTENT,
    IPPROTO_TCP,
    Hook,
)
from ipvs_model.packet import fill_iph
from ipvs_model.protocol import QUICK_INPUT, QUICK_INPUT_ONLY
from ipvs_model.timers import STALE
from ipvs_model.transmit.action import Action

if TYPE_CHECKING:
    from ipvs_model.conn import Table
    from ipvs_model.dest import Dest
    from ipvs_model.netns import Netns
    from ipvs_model.packet import IpHdr, Packet
    from ipvs_model.protocol import ProtoData
    from ipvs_model.service import Service

LOCAL_IN: Final = Hook.LOCAL_IN
NOT_READ: Final = cast("IpHdr", None)  #: for a scheduler that does not read it


def open_connection(ns: Netns, table: Table, pkt: Packet) -> Action | None:
    """Let a packet of LOCAL_IN open a connection; None, and nothing has changed, if it is for the layered path.

    The caller knows that nobody watches, no daemon runs, routes are static, no client endpoint is a virtual one, the packet is a plain one without
    ``bits``, and ``table``, that of its family and protocol, has nothing under its source.
    """
    src, dst = pkt.src, pkt.dst
    svc = table.services.get(dst)
    if svc is None or pkt.mark:
        return None
    conns = ns.conns
    # ports 0 and 20 are special, those between are as rare
    if src & 0xFFFF <= FTPDATA or (src >> 40 in conns.special and (src >> 40 in LOOPBACK or src in conns.virtuals)):
        return None
    pd = svc.opens
    if pd is None:
        if svc.flags & IP_VS_SVC_F_ONEPACKET or svc.scheduler is None or dst in table:
            return None
        if svc.flags & IP_VS_SVC_F_PERSISTENT and (svc.pe is not None or svc.port == FTPPORT or svc.protocol != IPPROTO_TCP):
            return None
        pd = ns.protocols[svc.protocol]
    state = pd.opens[pkt.flags]
    sysctl = ns.sysctl
    if state is None or ns.drop_rate or ns.no_cport_count or sysctl.nat_icmp_send or (pd.apps and dst & 0xFFFF in pd.apps):
        return None
    control = None
    if svc.flags & IP_VS_SVC_F_PERSISTENT:
        control = usable_template(svc, table, src, dst)
        dest = control.dest if control is not None else None
        if dest is None:
            return open_with_care(svc, pkt, pd, None)
    else:
        scheduler = svc.scheduler
        iph = fill_iph(pkt) if svc.reads_header else NOT_READ
        dest = scheduler.schedule(svc, pkt, iph)
        if dest is None:
            return leave(svc, pkt, fill_iph(pkt), LOCAL_IN)
    xmit = dest.usual
    if xmit is None or xmit.virt != dst or pkt.length > xmit.mtu or pkt.ttl <= 1:
        return open_with_care(svc, pkt, pd, dest if control is None else None)

    # what new_conn does with such an entry
    cp: Conn = Conn()
    if state.inactive:
        dest.overhead += 1
        cp.flags = xmit.inactive_flags
    else:
        dest.overhead += 257
        cp.flags = xmit.active_flags
    if sysctl.conntrack:
        cp.flags |= IP_VS_CONN_F_NFCT
        table.odd = True
    cp.table = table
    cp.client = src
    cp.virt = xmit.virt  # one object for all
    cp.real = xmit.real
    cp.refcnt = 1
    cp.control = cp.ext = None
    cp.state = state
    cp.timeout = state.timeout
    cp.in_pkts = 1
    cp.quick = xmit.quick

    cp.dest = ns.served = dest
    dest.total = total = dest.total + 1
    if total == dest.u_threshold:
        dest.update_overload(1)
    cp.xmit = xmit
    ns.conn_count += 1

    table[src] = cp
    clock = ns.clock
    # not the same int object: at worst one more tuple
    cp.born = conns.born if table is conns.filling and clock.now is conns.born_at else conns.newborn(table)

    if control is not None:  # what control_add and put do
        cp.control = control
        table.odd = True
        control.n_control += 1
        control.arm(control.timeout)

    stats = xmit.stats
    stats.conns += 1
    stats.inpkts += 1
    stats.inbytes += pkt.length

    bucket = state.bucket
    if bucket is STALE:
        cp.bucket = None
        clock.arm_by(cp, state)
    else:  # what arm_by does, without a call
        cp.expires = state.expires
        cp.bucket = cp.prev = bucket
        cp.next = first = bucket.next
        first.prev = bucket.next = cp
    action: Action = xmit.action
    return action


def usable_template(svc: Service, table: Table, src: int, dst: int) -> Conn | None:
    """The template of a client's network, if it may be used as it is; what ConnTable.ct_in_get finds while no engine has templates."""
    ct = table.get(client_network(svc, src >> 16) << 16)
    while ct is not None and not (ct.flags & IP_VS_CONN_F_TEMPLATE and ct.virt == dst):
        ct = ct.hnext
    return None if ct is None or template_flaw(ct) or svc.ipvs.conns.engine_buckets else ct


def open_with_care(svc: Service, pkt: Packet, pd: ProtoData, dest: Dest | None) -> Action:
    """The layered path from the scheduler's answer on, or, without one, from persistence; what it finds out is remembered for the next packet."""
    iph = fill_iph(pkt)
    made = connect(svc, pkt, iph, dest) if dest is not None else sched_persist(svc, pkt, iph, LOCAL_IN)
    if isinstance(made, Action):
        return made
    cp = made
    xmit, dest = cp.xmit, cp.dest
    assert dest is not None
    action = forward(svc.ipvs, LOCAL_IN, pkt, iph, pd, cp)
    if dest.svc is svc and dest.available and dest.af == svc.af and xmit is not None and not dest.conn_flags & IP_VS_CONN_F_ONE_PACKET:
        dest.usual = xmit
        xmit.active_flags = active = dest.conn_flags & ~IP_VS_CONN_F_INACTIVE | IP_VS_CONN_F_HASHED
        xmit.inactive_flags = active | IP_VS_CONN_F_INACTIVE
        xmit.quick = QUICK_INPUT_ONLY if active & IP_VS_CONN_F_NOOUTPUT else QUICK_INPUT
        svc.opens = pd  # its endpoint is one of ``conns.virtuals`` now, so no client's
    return action
