"""The quick road: the same decisions as the layered path, fused into one function; `opening` has its part for new connections.

It takes a packet only when nothing unusual can happen to it: a whole TCP or UDP packet of a connection without helper whose destination is available,
that fits the way out and is no SYN of a client, while nobody watches and no daemon runs. What is unusual is told by data that is read anyway, not by
tests of its own: ``Packet.lane``, ``Conn.quick``, ``Transmitter.mtu`` and ``server`` (-1: look at every packet), ``State.quick`` and ``replies`` (None: look
at this packet), and ``FastPath.tables``, empty while the road is closed. Everything else goes the layered way, which is complete and gives the same
results; ``Environment(fast_path=False)`` switches this one off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.datapath.hooks import run_hook
from ipvs_model.datapath.opening import open_connection
from ipvs_model.flags import AF_INET, IP_VS_CONN_F_INACTIVE, Hook
from ipvs_model.protocol import QUICK_INPUT, assure_template
from ipvs_model.protocols.tcp import ESTABLISHED
from ipvs_model.transmit.action import Accepted

if TYPE_CHECKING:
    from ipvs_model.conn import Table
    from ipvs_model.datapath.hooks import Handler
    from ipvs_model.datapath.told import Kept
    from ipvs_model.netns import Netns
    from ipvs_model.packet import Packet
    from ipvs_model.transmit.action import Action

# a member looked up through its class costs as much as a dict lookup
LOCAL_IN: Final = Hook.LOCAL_IN
FORWARD: Final = Hook.FORWARD
DECLINED: Final = Accepted("no hooks")


def decline(ns: Netns, hook: Hook, pkt: Packet) -> Action:
    """Stands where the layered path is, and leaves the packet alone."""
    return DECLINED


class FastPath:
    """``process`` of one namespace."""

    __slots__ = ("alone", "clock", "layered", "ns", "tables")

    def __init__(self, ns: Netns, layered: Handler = run_hook) -> None:
        self.ns = ns
        self.clock = ns.clock
        self.tables: dict[int, Table] = {}
        self.layered = layered  #: where packets go that this road does not take
        self.alone = self if layered is decline else FastPath(ns, decline)  #: the same road with nothing behind it

    def refresh(self) -> None:
        """Something changed that opens or closes the road: watchers, daemons, hooks of a family, a table that is new.

        It is closed too when routes may change, and once a client endpoint has been a virtual one as well: then a packet can be of two
        connections, and the kernel's order of lookups decides.
        """
        ns = self.ns
        is_open = ns.env.fast_path and ns.emit is None and not ns.sync_state and not ns.conns.crossed and bool(getattr(ns.routing, "static", False))
        masks = {key: 1 if key >> 16 == AF_INET else 2 for key in ns.conns.tables} if is_open else {}
        self.tables = self.alone.tables = {key: ns.conns.tables[key] for key, mask in masks.items() if ns.hooks_afmask & mask}

    def process(self, pkt: Packet, hook: Hook = Hook.LOCAL_IN) -> Action:
        """Run a hook for a packet: a shared, immutable action; ``action.apply(pkt)`` makes what leaves."""
        try:
            table = self.tables[pkt.lane]
        except KeyError:
            return self.layered(self.ns, hook, pkt)
        if pkt.bits:
            return self.layered(self.ns, hook, pkt)
        if hook is LOCAL_IN:
            cp = table.get(pkt.src)
            if cp is None:
                return open_connection(self.ns, table, pkt) or self.layered(self.ns, hook, pkt)
            before = cp.state
            state = before.quick[cp.quick][pkt.flags]
            if state is None or cp.virt != pkt.dst:
                return self.layered(self.ns, hook, pkt)
            xmit = cp.xmit
            length = pkt.length
            if length > xmit.mtu or pkt.ttl <= 1:
                return self.layered(self.ns, hook, pkt)
            stats = xmit.stats
            stats.inpkts += 1
            stats.inbytes += length
            cp.in_pkts += 1
            action: Action = xmit.action
        elif hook is FORWARD:
            cp = table.get(pkt.dst)
            if cp is None or cp.quick != QUICK_INPUT:
                return self.layered(self.ns, hook, pkt)
            xmit = cp.xmit
            if xmit.server != pkt.src:
                return self.layered(self.ns, hook, pkt)
            before = cp.state
            state = before.replies[pkt.flags]
            if state is None:
                return self.layered(self.ns, hook, pkt)
            stats = xmit.stats
            stats.outpkts += 1
            stats.outbytes += pkt.length
            action = xmit.out
        else:
            return self.layered(self.ns, hook, pkt)
        if state is not before:
            cp.state = state  # here and below: what enter_state does
            if cp.flags & IP_VS_CONN_F_INACTIVE != state.inactive:
                cp.flags ^= IP_VS_CONN_F_INACTIVE
                dest = xmit.dest
                dest.overhead += -256 if state.inactive else 256
                if dest.overhead <= dest.svc.least:
                    dest.lightened()
            if cp.control is not None and state.index == ESTABLISHED:
                assure_template(cp)
        if cp.bucket is state.bucket:
            cp.expires = state.expires
        else:
            self.clock.arm_by(cp, state)
        cp.timeout = state.timeout
        return action

    def tell(self, pkt: Packet, hook: Hook | None) -> Kept | None:
        """`process`, and what is needed to tell of it; None, and nothing has changed, if the packet is not for this road or finds no entry.

        ``hook``: None if the host's own addresses are loopback and the virtual ones (no ordinary entry's client has a loopback address).
        """
        table = self.tables.get(pkt.lane)
        if table is None:
            return None
        if hook is None:
            hook = LOCAL_IN if pkt.dst >> 16 in table.virtual else FORWARD
        if hook is LOCAL_IN:
            cp = table.get(pkt.src)
        else:
            cp = table.get(pkt.dst)
        if cp is None or not cp.quick:
            return None
        before, quick = cp.state, cp.quick
        action = self.alone.process(pkt, hook)
        if action is DECLINED:
            return None
        xmit = cp.xmit
        counted = xmit.stats.inpkts if hook is LOCAL_IN else xmit.stats.outpkts
        return action, pkt, hook, pkt.mark, pkt.device, cp, quick, before, cp.state, cp.timeout, cp.expires, cp.refcnt, xmit, counted
