"""Real servers: ``struct ip_vs_dest``, the request to make one, thresholds, the real-server table and the trash.

source: ip_vs_ctl.c, include/net/ip_vs.h
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from attrs import field, frozen, validators

from ipvs_model.events import DestChanged, DestKey, OverloadChanged
from ipvs_model.fields import Field
from ipvs_model.flags import (
    AF_INET,
    IP_VS_CONN_F_FWD_MASK,
    IP_VS_CONN_F_TUNNEL,
    IP_VS_CONN_F_TUNNEL_TYPE_GRE,
    IP_VS_CONN_F_TUNNEL_TYPE_GUE,
    IP_VS_CONN_F_TUNNEL_TYPE_IPIP,
    IP_VS_DEST_CF_AVAILABLE,
    IP_VS_DEST_F_OVERLOAD,
)
from ipvs_model.netns import Netns
from ipvs_model.service import U16, U32, Service
from ipvs_model.stats import Stats
from ipvs_model.timers import FunctionTimer

FIELDS: Final = (
    Field("n_list", "Service.destinations", "list node", "derived", "the service's list"),
    Field("d_list", "RealServerTable", "hlist node", "derived"),
    Field("t_list", "DestTrash", "list node", "derived"),
    Field("af", "af", "u16", "slot", "may differ from the service's (tunnels)"),
    Field("port", "port", "be16", "slot", "0 = the packet's port"),
    Field("addr", "addr", "16 bytes", "slot"),
    Field("flags", "flags", "u32", "slot", "only OVERLOAD"),
    Field("cflags", "cflags", "unsigned long", "slot", "only AVAILABLE"),
    Field("conn_flags", "conn_flags", "atomic int", "slot", "flags copied to each new connection"),
    Field("weight", "weight", "atomic int", "derived", "0 = quiesced; kept as raw_weight"),
    Field("last_weight", "last_weight", "atomic int", "slot", "the last weight that was not 0, or the one given at add"),
    Field("tun_type", "tun_type", "u16", "slot"),
    Field("tun_port", "tun_port", "be16", "slot"),
    Field("tun_flags", "tun_flags", "u16", "slot"),
    Field("refcnt", "refcnt", "refcount", "derived", "1 + bound connections + scheduler tables"),
    Field("stats", "stats", "ip_vs_stats", "slot"),
    Field("idle_start", "idle_start", "unsigned long", "slot", "jiffy at which the trash timer first saw it unreferenced, 0 = not yet"),
    Field("activeconns", "activeconns", "atomic int", "derived", "kept as overhead: 256 * activeconns + totalconns"),
    Field("totalconns", "totalconns", "atomic int", "derived", "kept as total"),
    Field("persistconns", "persistconns", "atomic int", "slot"),
    Field("u_threshold", "u_threshold", "u32", "slot", "0 = no limit"),
    Field("l_threshold", "l_threshold", "u32", "slot"),
    Field("l_threshold_val", "l_threshold_val", "u32", "slot", "the lower threshold in effect"),
    Field("dst_lock", "", "spinlock", "not modelled", "one packet at a time"),
    Field("dest_dst", "route", "pointer", "slot", "the cached route", ("dst_cache", "dst_rtos")),
    Field("svc", "svc", "pointer", "slot"),
    Field("protocol", "protocol", "u16", "slot"),
    Field("vaddr", "vaddr", "16 bytes", "slot"),
    Field("vport", "vport", "be16", "slot"),
    Field("vfwmark", "vfwmark", "u32", "slot"),
    Field("in_rs_table", "in_rs_table", "1 bit", "slot"),
    Field("inactconns", "inactconns", "atomic int", "derived", "computed since 6.12.104: max(totalconns - activeconns, 0)", ("inactconns",)),
)

USER_FIELDS: Final = (
    Field("addr", "addr", "16 bytes", "slot"),
    Field("port", "port", "be16", "slot"),
    Field("conn_flags", "conn_flags", "u32", "slot", "forwarding method in bits 0..2"),
    Field("weight", "weight", "int", "slot"),
    Field("u_threshold", "u_threshold", "u32", "slot"),
    Field("l_threshold", "l_threshold", "u32", "slot"),
    Field("af", "af", "u16", "slot", "0 = the service's"),
    Field("tun_type", "tun_type", "u16", "slot"),
    Field("tun_port", "tun_port", "be16", "slot"),
    Field("tun_flags", "tun_flags", "u16", "slot"),
)

IP_VS_DEST_TRASH_PERIOD: Final = 120  #: seconds
IP_VS_RTAB_SIZE: Final = 16
MUCH: Final = 1 << 29  #: an overhead that some more connections might take beyond a C ``int``


@frozen(kw_only=True)
class DestUser:
    """A request about a destination (``struct ip_vs_dest_user_kern``). ``af`` 0 = the service's. As identity only af, addr and port are read."""

    addr: int = field(default=0, validator=validators.and_(validators.instance_of(int), validators.ge(0), validators.lt(1 << 128)))
    port: int = field(default=0, validator=U16)
    conn_flags: int = field(default=0, validator=U32)
    weight: int = field(default=1, validator=validators.and_(validators.instance_of(int), validators.ge(-(1 << 31)), validators.lt(1 << 31)))
    u_threshold: int = field(default=0, validator=U32)
    l_threshold: int = field(default=0, validator=U32)
    af: int = 0
    tun_type: int = field(default=0, validator=U16)
    tun_port: int = field(default=0, validator=U16)
    tun_flags: int = field(default=0, validator=U16)


class Dest:
    """``struct ip_vs_dest``: one real server of a service."""

    __slots__ = (
        "addr", "af", "cflags", "conn_flags", "flags", "held", "idle_start", "in_rs_table", "ipvs", "l_threshold", "l_threshold_val", "last_weight",
        "overhead", "persistconns", "port", "protocol", "raw_weight", "route", "stats", "svc", "total", "tun_flags", "tun_port", "tun_type",
        "u_threshold", "usual", "vaddr", "vfwmark", "vport", "xmits",
    )  # fmt: skip

    svc: Service | None

    def __init__(self, svc: Service, af: int, addr: int, port: int) -> None:
        self.ipvs: Netns = svc.ipvs
        self.af = af
        self.addr = addr
        self.port = port
        self.protocol = svc.protocol
        self.vaddr = svc.addr
        self.vport = svc.port
        self.vfwmark = svc.fwmark
        self.svc = None
        self.flags = self.cflags = self.conn_flags = 0
        self.raw_weight = self.last_weight = 0
        self.tun_type = self.tun_port = self.tun_flags = 0
        self.held = 1  #: references beside those of connections
        self.stats = Stats()
        self.idle_start = 0
        self.total = self.persistconns = 0
        #: 256 * activeconns + totalconns, what the least-connection schedulers look at (source: ip_vs.h, ip_vs_dest_conn_overhead); who lowers it calls `lightened`
        self.overhead = 0
        self.u_threshold = self.l_threshold = self.l_threshold_val = 0
        self.in_rs_table = False
        self.route: Any = None  #: cached route
        self.xmits: dict[Any, Any] = {}  #: actions shared by its connections
        self.usual: Any = None  #: the one of ordinary new connections; None: look at each

    @property
    def weight(self) -> int:
        """Its share of new connections; 0: none. Schedulers, who read it often, read ``raw_weight``."""
        return self.raw_weight

    @weight.setter
    def weight(self, weight: int) -> None:
        self.raw_weight = weight
        if self.svc is not None:
            self.svc.forget_weights()

    @property
    def activeconns(self) -> int:
        """Connections in an active state."""
        return (self.overhead - self.total) >> 8

    @activeconns.setter
    def activeconns(self, count: int) -> None:
        self._count(count, self.total)

    @property
    def totalconns(self) -> int:
        """All connections, templates apart."""
        return self.total

    @totalconns.setter
    def totalconns(self, count: int) -> None:
        self._count(self.activeconns, count)

    def _count(self, active: int, total: int) -> None:
        self.total = total
        self.overhead = overhead = 256 * active + total
        self.lightened()
        if not -MUCH < overhead < MUCH:
            self.ipvs.overheads_wrap = True

    def lightened(self) -> None:
        """Its overhead is another one, perhaps a smaller one: what its service knows of the least may not hold."""
        svc, overhead = self.svc, self.overhead
        if svc is None or svc.least < overhead < MUCH:
            return
        if -MUCH < overhead < svc.least and self.cflags & IP_VS_DEST_CF_AVAILABLE:
            svc.least, svc.candidate, svc.candidates = overhead, self, iter(())
        else:
            svc.ebb = -1

    @property
    def refcnt(self) -> int:
        """References: the service's or the trash's, those of scheduler tables, one for each bound connection and template."""
        return self.held + self.total + self.persistconns

    @property
    def inactconns(self) -> int:
        """Inactive connections as listings show them (source: ip_vs.h, ip_vs_dest_inactconns)."""
        return max(self.totalconns - self.activeconns, 0)

    @property
    def available(self) -> bool:
        """It belongs to its service; False once deleted."""
        return bool(self.cflags & IP_VS_DEST_CF_AVAILABLE)

    @property
    def overloaded(self) -> bool:
        """Its upper threshold was reached and the lower one not yet passed on the way down."""
        return bool(self.flags & IP_VS_DEST_F_OVERLOAD)

    @property
    def method(self) -> int:
        """Forwarding method of new connections."""
        return self.conn_flags & IP_VS_CONN_F_FWD_MASK

    def key(self) -> DestKey:
        """Its name for events."""
        return DestKey(self.af, self.addr, self.port)

    def __repr__(self) -> str:
        return f"<Dest {self.key()} w{self.weight} {self.activeconns}/{self.inactconns}>"

    def hold(self) -> None:
        """Take a reference."""
        self.held += 1

    def put(self) -> None:
        """Give a reference back."""
        self.held -= 1
        assert self.held > 0, f"{self!r} was put once too often"

    def update_overload(self, mode: int) -> None:
        """Evaluate the OVERLOAD flag: mode +1 after a bind, -1 at an unbind, 0 after an edit (source: ip_vs_ctl.c, __ip_vs_dest_update_overload)."""
        count = self.totalconns & 0xFFFFFFFF
        before = self.flags
        if self.u_threshold == 0:
            overloaded = False
        elif mode > 0:
            overloaded = count >= self.l_threshold_val
        elif mode < 0 or count >= self.u_threshold:
            overloaded = count >= self.u_threshold
        else:
            overloaded = count >= self.l_threshold_val and bool(before & IP_VS_DEST_F_OVERLOAD)
        self.flags = before | IP_VS_DEST_F_OVERLOAD if overloaded else before & ~IP_VS_DEST_F_OVERLOAD
        emit = self.ipvs.emit
        if emit is not None and self.flags != before:
            emit(OverloadChanged("__ip_vs_dest_update_overload", self.key(), overloaded, count))


def rs_hashkey(af: int, addr: int, port: int) -> int:
    """Bucket in the real-server table, 0..15 (source: ip_vs_ctl.c, ip_vs_rs_hashkey).

    >>> rs_hashkey(2, 0x0a010002, 80)
    7
    """
    folded = addr if af == AF_INET else addr >> 96 ^ addr >> 64 & 0xFFFFFFFF ^ addr >> 32 & 0xFFFFFFFF ^ addr & 0xFFFFFFFF
    return (folded ^ port >> 4 ^ port) & 15


class RealServerTable:
    """Destinations by their own address: who may answer without a connection, and where tunnels end."""

    def __init__(self) -> None:
        self.buckets: tuple[list[Dest], ...] = tuple([] for _ in range(IP_VS_RTAB_SIZE))

    @staticmethod
    def _port(dest: Dest) -> int | None:
        """The port under which it is hashed; None: not in the table (source: ip_vs_ctl.c, ip_vs_rs_hash)."""
        if dest.method == 0:
            return dest.port
        if dest.method == IP_VS_CONN_F_TUNNEL:
            if dest.tun_type in (IP_VS_CONN_F_TUNNEL_TYPE_IPIP, IP_VS_CONN_F_TUNNEL_TYPE_GRE):
                return 0
            if dest.tun_type == IP_VS_CONN_F_TUNNEL_TYPE_GUE:
                return dest.tun_port
        return None

    def hash(self, dest: Dest) -> None:
        """Enter a destination at the head of its bucket, if its method allows and it is not there."""
        port = self._port(dest)
        if port is not None and not dest.in_rs_table:
            self.buckets[rs_hashkey(dest.af, dest.addr, port)].insert(0, dest)
            dest.in_rs_table = True

    def unhash(self, dest: Dest) -> None:
        """Take a destination out."""
        if dest.in_rs_table:
            for bucket in self.buckets:
                if dest in bucket:
                    bucket.remove(dest)
            dest.in_rs_table = False

    def __iter__(self) -> Iterator[Dest]:
        for bucket in self.buckets:
            yield from bucket

    def find_real_service(self, af: int, protocol: int, addr: int, port: int) -> Dest | None:
        """A MASQ destination with this endpoint (source: ip_vs_ctl.c, ip_vs_has_real_service, ip_vs_find_real_service)."""
        for dest in self.buckets[rs_hashkey(af, addr, port)]:
            if dest.port == port and dest.af == af and dest.addr == addr and (dest.protocol == protocol or dest.vfwmark) and dest.method == 0:
                return dest
        return None

    def find_tunnel(self, af: int, addr: int, tun_port: int) -> Dest | None:
        """A tunnel destination with this address and tunnel port (source: ip_vs_ctl.c, ip_vs_find_tunnel)."""
        for dest in self.buckets[rs_hashkey(af, addr, tun_port)]:
            if dest.tun_port == tun_port and dest.af == af and dest.addr == addr and dest.method == IP_VS_CONN_F_TUNNEL:
                return dest
        return None


class DestTrash:
    """Deleted destinations, most recently deleted first, until nothing has referred to them for two minutes."""

    def __init__(self, ns: Netns) -> None:
        self.ns = ns
        self.dests: list[Dest] = []
        self.timer = FunctionTimer(self.expire)

    def put(self, dest: Dest) -> None:
        """Throw a destination away; the first one in an empty trash starts the timer (source: ip_vs_ctl.c, __ip_vs_del_dest)."""
        clock = self.ns.clock
        if not self.dests:
            clock.mod_timer(self.timer, clock.now + IP_VS_DEST_TRASH_PERIOD // 2 * clock.hz)
        self.dests.insert(0, dest)
        dest.idle_start = 0

    def get(self, svc: Service, af: int, addr: int, port: int) -> Dest | None:
        """Find what was thrown away for a service of the same identity (source: ip_vs_ctl.c, ip_vs_trash_get_dest)."""
        for dest in self.dests:
            same_dest = (dest.af, dest.addr, dest.port, dest.vfwmark, dest.protocol) == (af, addr, port, svc.fwmark, svc.protocol)
            if same_dest and (svc.fwmark or (dest.vaddr, dest.vport) == (svc.addr, svc.port)):
                self.dests.remove(dest)
                return dest
        return None

    def expire(self) -> None:
        """The timer: free what has been idle for 120 s (source: ip_vs_ctl.c, ip_vs_dest_trash_expire)."""
        clock = self.ns.clock
        now = clock.now
        period = IP_VS_DEST_TRASH_PERIOD * clock.hz
        kept = []
        for dest in self.dests:
            if dest.refcnt > 1:
                kept.append(dest)
            elif dest.idle_start and now - dest.idle_start >= period:
                self._free(dest)
            else:
                if not dest.idle_start:
                    dest.idle_start = max(1, now)
                kept.append(dest)
        self.dests = kept
        if kept:
            clock.mod_timer(self.timer, now + period // 2)

    def _free(self, dest: Dest) -> None:
        svc = dest.svc
        if svc is not None:
            svc.refcnt -= 1
            dest.svc = None
        emit = self.ns.emit
        if emit is not None:
            emit(DestChanged("ip_vs_dest_free", dest.key(), "freed"))
