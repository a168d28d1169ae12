"""The quick road for packets of established connections: the same decisions as the layered path, fused into one function.

It takes a packet only when nothing unusual can happen to it: a whole TCP or UDP packet that changes no state, of a connection without helper
whose destination is available, that fits the way out, while nobody watches and no daemon runs. Everything else goes the layered way, which
is complete and gives the same results; ``Environment(fast_path=False)`` switches this one off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.datapath.hooks import run_hook
from ipvs_model.flags import (
    AF_INET,
    IP_VS_CONN_F_FWD_MASK,
    IP_VS_CONN_F_NO_CPORT,
    IP_VS_CONN_F_NOOUTPUT,
    IP_VS_CONN_F_TEMPLATE,
    IP_VS_DEST_CF_AVAILABLE,
    IPPROTO_TCP,
    Hook,
)
from ipvs_model.timers import Bucket

if TYPE_CHECKING:
    from ipvs_model.netns import Netns
    from ipvs_model.packet import Packet
    from ipvs_model.transmit.action import Action

SYN: Final = 2
LOCAL_IN: Final = Hook.LOCAL_IN  # a member looked up through its class costs as much as a dict lookup
FORWARD: Final = Hook.FORWARD
INPUT: Final = 0
OUTPUT: Final = 1
INPUT_ONLY: Final = 2
#: a connection with any of these goes the layered way
UNUSUAL_IN: Final = IP_VS_CONN_F_NO_CPORT | IP_VS_CONN_F_TEMPLATE
UNUSUAL_OUT: Final = UNUSUAL_IN | IP_VS_CONN_F_NOOUTPUT


class FastPath:
    """``process`` of one namespace."""

    __slots__ = ("clock", "ns", "static", "tables", "total")

    def __init__(self, ns: Netns) -> None:
        self.ns = ns
        self.clock = ns.clock
        self.tables = ns.conns.tables
        self.total = ns.tot_stats
        self.static = bool(getattr(ns.routing, "static", False))  #: routes never change and lead everywhere

    def process(self, pkt: Packet, hook: Hook = Hook.LOCAL_IN) -> Action:
        """Run a hook for a packet: a shared, immutable action; ``action.apply(pkt)`` makes what leaves."""
        ns = self.ns
        if not pkt.plain or pkt.bits or ns.emit is not None or ns.sync_state or not self.static:
            return run_hook(ns, hook, pkt)
        af = pkt.af
        proto = pkt.proto
        table = self.tables.get(af << 16 | proto)
        if table is None or not ns.hooks_afmask & (1 if af == AF_INET else 2):
            return run_hook(ns, hook, pkt)
        src, dst = pkt.src, pkt.dst
        if hook is LOCAL_IN:
            cp = table.get(src)
            if cp is None or cp.virt != dst or cp.hnext is not None or dst in table or pkt.ttl <= 1:
                return run_hook(ns, hook, pkt)
            flags = cp.flags
            dest, xmit = cp.dest, cp.xmit
            if flags & UNUSUAL_IN or cp.ext is not None or dest is None or xmit is None or pkt.length > xmit.mtu or not src & 0xFFFF:
                return run_hook(ns, hook, pkt)
            svc = dest.svc
            if not dest.cflags & IP_VS_DEST_CF_AVAILABLE or svc is None:
                return run_hook(ns, hook, pkt)
            state = cp.state
            if proto == IPPROTO_TCP:
                bits = pkt.flags
                if bits & SYN or state.rows[INPUT_ONLY if flags & IP_VS_CONN_F_NOOUTPUT else INPUT][bits] is not state:
                    return run_hook(ns, hook, pkt)
            length = pkt.length
            stats = dest.stats
            stats.inpkts += 1
            stats.inbytes += length
            stats = svc.stats
            stats.inpkts += 1
            stats.inbytes += length
            stats = self.total
            stats.inpkts += 1
            stats.inbytes += length
            cp.in_pkts += 1
            action: Action = xmit.action
        elif hook is FORWARD:
            cp = table.get(dst)
            if cp is None or cp.hnext is not None or cp.ext is not None:
                return run_hook(ns, hook, pkt)
            flags = cp.flags
            dest, xmit = cp.dest, cp.xmit
            if flags & UNUSUAL_OUT or dest is None or xmit is None or (cp.virt if flags & IP_VS_CONN_F_FWD_MASK else cp.real) != src:
                return run_hook(ns, hook, pkt)
            svc = dest.svc
            state = cp.state
            if proto == IPPROTO_TCP:
                if state.rows[OUTPUT][pkt.flags] is not state:
                    return run_hook(ns, hook, pkt)
            elif cp.control is not None:
                return run_hook(ns, hook, pkt)  # a reply assures the template
            if dest.cflags & IP_VS_DEST_CF_AVAILABLE and svc is not None:
                length = pkt.length
                stats = dest.stats
                stats.outpkts += 1
                stats.outbytes += length
                stats = svc.stats
                stats.outpkts += 1
                stats.outbytes += length
                stats = self.total
                stats.outpkts += 1
                stats.outbytes += length
            action = xmit.out
        else:
            return run_hook(ns, hook, pkt)
        clock = self.clock
        now = clock.now
        if state.stamp != now:
            state.expires = now + state.timeout
            state.bucket = clock.bucket_for(state.expires)
            state.stamp = now
        bucket: Bucket = state.bucket  # type: ignore[assignment]
        if cp.bucket is bucket:
            cp.expires = state.expires
        else:
            clock.arm_in(cp, state.expires, bucket)
        cp.timeout = state.timeout
        return action
