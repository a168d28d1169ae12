"""Virtual services: ``struct ip_vs_service``, the request to make one, tables and lookup order.

source: ip_vs_ctl.c, include/net/ip_vs.h
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen, validators

from ipvs_model import html
from ipvs_model.events import ServiceKey, ServiceLookup
from ipvs_model.fields import Field
from ipvs_model.flags import AF_INET, AF_INET6, FTPDATA, FTPPORT, IP_VS_SVC_F_HASHED, IPPROTO_TCP
from ipvs_model.netns import Netns
from ipvs_model.stats import SumStats

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.protocol import ProtoData

FIELDS: Final = (
    Field("s_list", "ServiceTable", "hlist node", "derived", "the table keeps it"),
    Field("f_list", "ServiceTable", "hlist node", "derived", "the fwmark table keeps it"),
    Field("refcnt", "refcnt", "atomic int", "slot", "1 when hashed, +1 for each destination bound, also in the trash"),
    Field("af", "af", "u16", "slot"),
    Field("protocol", "protocol", "u16", "slot"),
    Field("addr", "addr", "16 bytes", "slot", "an int, host order"),
    Field("port", "port", "be16", "slot", "0 = any port"),
    Field("fwmark", "fwmark", "u32", "slot", "0 = an address service"),
    Field("flags", "flags", "u32", "slot"),
    Field("timeout", "timeout", "u32", "slot", "persistence timeout in jiffies"),
    Field("netmask", "netmask", "be32", "slot", "IPv4: mask as an int, IPv6: prefix length"),
    Field("ipvs", "ipvs", "pointer", "slot", "the Netns"),
    Field("destinations", "destinations", "list head", "slot", "a list, newest first"),
    Field("num_dests", "num_dests", "u32", "derived", "length of the list"),
    Field("stats", "stats", "ip_vs_stats", "slot"),
    Field("scheduler", "scheduler", "pointer", "slot", "None: none is bound"),
    Field("sched_lock", "", "spinlock", "not modelled", "one packet at a time"),
    Field("sched_data", "sched_data", "pointer", "slot", "the scheduler's own"),
    Field("pe", "pe", "pointer", "slot", "None: no persistence engine"),
    Field("conntrack_afmask", "conntrack_afmask", "int", "slot", "bit 1 IPv4, bit 2 IPv6: a MASQ destination of an FTP service asked for conntrack"),
    Field("rcu_head", "", "rcu_head", "not modelled", "freed at once"),
    Field("usecnt", "", "atomic int", "not modelled", "removed in 3.10: counted packet-path users", ("usecnt",)),
    Field("inc", "Conn.app", "pointer", "derived", "applications are bound for each connection now", ("inc",)),
)

USER_FIELDS: Final = (
    Field("af", "af", "u16", "slot"),
    Field("protocol", "protocol", "u16", "slot"),
    Field("addr", "addr", "16 bytes", "slot"),
    Field("port", "port", "be16", "slot"),
    Field("fwmark", "fwmark", "u32", "slot"),
    Field("sched_name", "sched_name", "string", "slot", "at most 15 characters"),
    Field("pe_name", "pe_name", "string", "slot", "None or empty: no engine"),
    Field("flags", "flags", "u32", "slot"),
    Field("timeout", "timeout", "u32", "slot", "seconds"),
    Field("netmask", "netmask", "be32", "slot"),
)

U16: Final = validators.and_(validators.instance_of(int), validators.ge(0), validators.le(0xFFFF))
U32: Final = validators.and_(validators.instance_of(int), validators.ge(0), validators.le(0xFFFFFFFF))


@frozen(kw_only=True)
class ServiceUser:
    """A request about a service (``struct ip_vs_service_user_kern``). As identity only af, protocol, addr, port and fwmark are read.

    ``timeout`` in seconds; ``netmask``: IPv4 mask as an int, IPv6 prefix length; the resulting flags are
    (present flags AND NOT flags_mask) OR (flags AND flags_mask).
    """

    af: int = AF_INET
    protocol: int = field(default=IPPROTO_TCP, validator=U16)
    addr: int = field(default=0, validator=validators.and_(validators.instance_of(int), validators.ge(0), validators.lt(1 << 128)))
    port: int = field(default=0, validator=U16)
    fwmark: int = field(default=0, validator=U32)
    sched_name: str = field(default="wlc", validator=validators.instance_of(str))
    pe_name: str | None = None
    flags: int = field(default=0, validator=U32)
    flags_mask: int = field(default=0xFFFFFFFF, validator=U32)
    timeout: int = field(default=0, validator=U32)
    netmask: int = field(default=0xFFFFFFFF, validator=U32)


class Service:
    """``struct ip_vs_service``: one virtual service with its destinations, newest first."""

    __slots__ = (
        "addr", "af", "candidate", "candidates", "conntrack_afmask", "destinations", "ebb", "even", "flags", "fwmark", "ipvs", "least", "netmask", "opens", "pe",
        "port", "protocol", "reads_header", "refcnt", "sched_data", "scheduler", "stats", "timeout",
    )  # fmt: skip

    def __init__(self, ipvs: Netns, user: ServiceUser) -> None:
        self.ipvs = ipvs
        self.af = user.af
        self.protocol = user.protocol
        self.addr = user.addr
        self.port = user.port
        self.fwmark = user.fwmark
        self.flags = user.flags & ~IP_VS_SVC_F_HASHED
        self.timeout = user.timeout * ipvs.env.hz & 0xFFFFFFFF  # the kernel multiplies in 32 bits
        self.netmask = user.netmask
        self.refcnt = 0
        self.destinations: list[Dest] = []
        self.even: bool | None = None  #: see has_even_weights; None: to be found out
        # while ``ebb`` is the namespace's, weights are even, no overhead is below ``least``, and whoever has just that is ``candidate`` or to come of ``candidates``
        self.ebb = -1
        self.least = 0
        self.candidate: Any = None  #: a destination
        self.candidates: Iterator[Dest] = iter(())
        self.stats = SumStats(self.destinations)
        self.scheduler: Any = None
        self.sched_data: Any = None
        self.pe: Any = None
        self.conntrack_afmask = 0
        self.reads_header = True  #: so does its scheduler
        self.opens: ProtoData | None = None  #: what a packet needs that may open a connection without a look at the service; None: look

    @property
    def num_dests(self) -> int:
        """How many destinations it has."""
        return len(self.destinations)

    @property
    def endpoint(self) -> int:
        """Address and port as one int."""
        return self.addr << 16 | self.port

    def key(self) -> ServiceKey:
        """Its name for events."""
        return ServiceKey(self.af, self.protocol, self.addr, self.port, self.fwmark)

    def _repr_html_(self) -> str:
        return html.service(self)

    def __repr__(self) -> str:
        name = getattr(self.scheduler, "name", "none")
        return f"<Service {self.key()} {name} {self.num_dests} dests>"

    def link(self, dest: Dest) -> None:
        """Put a destination at the head of the list."""
        self.destinations.insert(0, dest)
        self.forget_weights()

    def unlink(self, dest: Dest) -> int:
        """Take a destination out of the list; returns where it was."""
        position = self.destinations.index(dest)
        del self.destinations[position]
        self.forget_weights()
        return position

    def forget_weights(self) -> None:
        """Some weight is another one now."""
        self.even = None
        self.ebb = -1

    def has_even_weights(self) -> bool:
        """Whether all destinations have the same weight, above 0."""
        if self.even is None:
            weights = {dest.raw_weight for dest in self.destinations}
            self.even = len(weights) == 1 and min(weights) > 0
        return self.even

    def find_dest(self, af: int, addr: int, port: int) -> Dest | None:
        """The destination with this address and port (source: ip_vs_ctl.c, ip_vs_lookup_dest). O(destinations)."""
        for dest in self.destinations:
            if dest.addr == addr and dest.port == port and dest.af == af:
                return dest
        return None


def svc_hashkey(af: int, protocol: int, addr: int, port: int, constant: int = 0) -> int:
    """Bucket of an address service, 0..255 (source: ip_vs_ctl.c, ip_vs_svc_hashkey).

    >>> svc_hashkey(2, 6, 0x0a000001, 80), svc_hashkey(2, 6, 0x0a000001, 80, 0x5a)
    (87, 13)
    """
    folded = addr if af == AF_INET else addr >> 96 ^ addr >> 64 & 0xFFFFFFFF ^ addr >> 32 & 0xFFFFFFFF ^ addr & 0xFFFFFFFF
    return (protocol ^ folded ^ port >> 8 ^ port ^ constant) & 255


def svc_fwm_hashkey(fwmark: int, constant: int = 0) -> int:
    """Bucket of a fwmark service (source: ip_vs_ctl.c, ip_vs_svc_fwm_hashkey)."""
    return (fwmark ^ constant) & 255


class ServiceTable:
    """The address table and the fwmark table of a namespace."""

    def __init__(self, ns: Netns) -> None:
        self.ns = ns
        self.by_addr: dict[tuple[int, int], Service] = {}  #: (family << 16 | protocol, endpoint) → service
        self.by_mark: dict[tuple[int, int], Service] = {}
        self.by_lane: dict[int, dict[int, Service]] = {}  #: the same without an order: family << 16 | protocol → endpoint → service
        #: family → how many address services each virtual address has
        self.vips: dict[int, Counter[int]] = {AF_INET: Counter(), AF_INET6: Counter()}

    def __len__(self) -> int:
        return len(self.by_addr) + len(self.by_mark)

    def __iter__(self) -> Iterator[Service]:
        yield from self.by_addr.values()
        yield from self.by_mark.values()

    def hash(self, svc: Service) -> None:
        """Put a service in its table (source: ip_vs_ctl.c, ip_vs_svc_hash)."""
        if svc.fwmark:
            self.by_mark[svc.af, svc.fwmark] = svc
        else:
            self.by_addr[svc.af << 16 | svc.protocol, svc.endpoint] = svc
            self.lane(svc.af << 16 | svc.protocol)[svc.endpoint] = svc
            self.vips[svc.af][svc.addr] += 1
        svc.flags |= IP_VS_SVC_F_HASHED
        svc.refcnt += 1

    def unhash(self, svc: Service) -> None:
        """Take a service out of its table (source: ip_vs_ctl.c, ip_vs_svc_unhash)."""
        if svc.fwmark:
            del self.by_mark[svc.af, svc.fwmark]
        else:
            del self.by_addr[svc.af << 16 | svc.protocol, svc.endpoint]
            del self.by_lane[svc.af << 16 | svc.protocol][svc.endpoint]
            virtual = self.vips[svc.af]
            virtual[svc.addr] -= 1
            if not virtual[svc.addr]:
                del virtual[svc.addr]
        svc.flags &= ~IP_VS_SVC_F_HASHED
        svc.refcnt -= 1

    def lane(self, number: int) -> dict[int, Service]:
        """Endpoint → address service, for one family << 16 | protocol."""
        return self.by_lane.setdefault(number, {})

    def walk(self) -> list[Service]:
        """All services in dump order: address table by bucket, then fwmark table, newest first within a bucket."""
        constant = self.ns.env.svc_hash
        plain, marks = list(self.by_addr.values()), list(self.by_mark.values())
        # newest first; the sort keeps that order within a bucket
        plain.reverse()
        marks.reverse()
        plain.sort(key=lambda svc: svc_hashkey(svc.af, svc.protocol, svc.addr, svc.port, constant))
        marks.sort(key=lambda svc: svc_fwm_hashkey(svc.fwmark, constant))
        return plain + marks

    def find_exact(self, af: int, protocol: int, addr: int, port: int) -> Service | None:
        """An address service by identity (source: ip_vs_ctl.c, __ip_vs_service_find)."""
        return self.by_addr.get((af << 16 | protocol, addr << 16 | port))

    def find_mark(self, af: int, fwmark: int) -> Service | None:
        """A fwmark service by identity; the protocol is not compared (source: ip_vs_ctl.c, __ip_vs_svc_fwm_find)."""
        return self.by_mark.get((af, fwmark))

    def find(self, af: int, fwmark: int, protocol: int, vaddr: int, vport: int) -> Service | None:
        """The service that a packet belongs to: mark, exact, FTP fallback, port zero (source: ip_vs_ctl.c, ip_vs_service_find)."""
        svc, rule = self._find(af, fwmark, protocol, vaddr, vport)
        emit = self.ns.emit
        if emit is not None:
            emit(ServiceLookup("ip_vs_service_find", svc.key() if svc is not None else None, rule))
        return svc

    def _find(self, af: int, fwmark: int, protocol: int, vaddr: int, vport: int) -> tuple[Service | None, str]:
        ns = self.ns
        if fwmark and (svc := self.by_mark.get((af, fwmark))) is not None:
            return svc, "fwmark"
        lane, address = af << 16 | protocol, vaddr << 16
        if (svc := self.by_addr.get((lane, address | vport))) is not None:
            return svc, "exact"
        ftp = protocol == IPPROTO_TCP and ns.ftpsvc_counter and (vport == FTPDATA or vport >= ns.env.unprivileged_port_start)
        if ftp and (svc := self.by_addr.get((lane, address | FTPPORT))) is not None:
            return svc, "ftp"
        if ns.nullsvc_counter and (svc := self.by_addr.get((lane, address))) is not None:
            return svc, "port zero"
        return None, "none"

    def has_vip(self, af: int, addr: int, mark: int) -> bool:
        """Whether an address is a virtual one, or the mark a service's."""
        return addr in self.vips[af] or bool(mark and (af, mark) in self.by_mark)


def find_dest(ns: Netns, af: int, dest_af: int, daddr: int, dport: int, vaddr: int, vport: int, protocol: int, fwmark: int, masq: bool) -> Dest | None:
    """The destination that a sync message means (source: ip_vs_ctl.c, ip_vs_find_dest)."""
    svc = ns.services.find(af, fwmark, protocol, vaddr, vport)
    if svc is None:
        return None
    port = 0 if fwmark and not masq else dport
    return svc.find_dest(dest_af, daddr, port) or svc.find_dest(dest_af, daddr, port ^ dport)
