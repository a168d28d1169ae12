"""A service on a bench: destinations and scheduler are handled as the control plane does it, with nothing else around."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from typing import Any

from ipvs_model.addresses import format_addr, format_endpoint, parse_addr, parse_endpoint
from ipvs_model.dest import Dest
from ipvs_model.flags import AF_INET, AF_INET6, IP_VS_DEST_CF_AVAILABLE, IP_VS_DEST_F_OVERLOAD, IP_VS_HDR_ICMP, IP_VS_HDR_INVERSE
from ipvs_model.netns import Environment, Netns
from ipvs_model.packet import Packet
from ipvs_model.packet.view import IpHdr
from ipvs_model.schedulers import Registry, bind_scheduler, unbind_scheduler
from ipvs_model.schedulers.cache import CacheTable
from ipvs_model.service import Service, ServiceUser

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1}
DEFAULTS = {
    AF_INET: ("192.168.1.10", "10.0.0.100", "10.0.0.100"),
    AF_INET6: ("2001:db8:1::10", "2001:db8::100", "2001:db8::100"),
}
SYN = Packet.tcp("192.168.1.10:40000", "10.0.0.100:80", "S")


class Queue:
    """A random source that says what it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.values: deque[int] = deque()
        self.ceilings: list[int] = []

    def below(self, n: int) -> int:
        self.ceilings.append(n)
        return self.values.popleft()


class Bench:
    """One service and its scheduler."""

    def __init__(self, scheduler: str | None, *, af: int = AF_INET, protocol: str = "tcp", flags: int = 0, fwmark: int = 0, hz: int = 250) -> None:
        self.ns = Netns(Environment(hz=hz, start_jiffies=1_000_000))
        self.ns.net_ratelimit = lambda: True
        self.registry = Registry(self.ns.log)
        _, _, vip = DEFAULTS[af]
        addr = parse_addr(vip)[1]
        self.svc = Service(self.ns, ServiceUser(af=af, protocol=PROTOCOLS[protocol], addr=addr, port=80, fwmark=fwmark, flags=flags))
        self.known: dict[str, Dest] = {}  #: by name, also deleted ones: a trash that is never emptied
        self.name = scheduler
        if scheduler is not None:
            self.bind(scheduler)

    def bind(self, scheduler: str) -> None:
        self.name = scheduler
        bind_scheduler(self.svc, self.registry.get(scheduler))

    def unbind(self) -> None:
        unbind_scheduler(self.svc)

    def add(self, name: str, weight: int = 1) -> Dest:
        dest = self.known.get(name)
        if dest is None:
            dest = self.known[name] = Dest(self.svc, *parse_endpoint(name))
        dest.svc = self.svc
        dest.last_weight = dest.weight = weight
        dest.cflags |= IP_VS_DEST_CF_AVAILABLE
        self.svc.link(dest)
        if self.svc.scheduler is not None:
            self.svc.scheduler.add_dest(self.svc, dest)
        return dest

    def edit(self, name: str, weight: int) -> None:
        dest = self.known[name]
        dest.weight = weight
        if weight:
            dest.last_weight = weight
        if self.svc.scheduler is not None:
            self.svc.scheduler.upd_dest(self.svc, dest)

    def delete(self, name: str) -> None:
        dest = self.known[name]
        dest.cflags &= ~IP_VS_DEST_CF_AVAILABLE
        position = self.svc.unlink(dest)
        if self.svc.scheduler is not None:
            self.svc.scheduler.del_dest(self.svc, dest, position)

    def conns(self, name: str, active: int, total: int) -> None:
        dest = self.known[name]
        dest.activeconns, dest.totalconns = active, total

    def overload(self, name: str, on: bool = True) -> None:
        dest = self.known[name]
        dest.flags = dest.flags | IP_VS_DEST_F_OVERLOAD if on else dest.flags & ~IP_VS_DEST_F_OVERLOAD

    def advance(self, jiffies: int) -> None:
        """Move the clock, but let no timer of the scheduler run by itself."""
        data = self.svc.sched_data
        if isinstance(data, CacheTable):
            self.ns.clock.del_timer(data)
        self.ns.clock.advance(jiffies)

    def header(
        self,
        saddr: str | int | None = None,
        daddr: str | int | None = None,
        sport: int | None = 40000,
        dport: int | None = 80,
        protocol: str | None = None,
        inverse: bool = False,
    ) -> IpHdr:
        af = self.svc.af
        source, destination, _ = DEFAULTS[af]
        number = PROTOCOLS[protocol] if protocol else self.svc.protocol
        flags = IP_VS_HDR_INVERSE | IP_VS_HDR_ICMP if inverse else 0
        return IpHdr(af, 0, 20, number, 0, 0, as_int(source if saddr is None else saddr), as_int(destination if daddr is None else daddr), flags, sport, dport)

    def ask(self, iph: IpHdr | None = None) -> Dest | None:
        """What the datapath does: no scheduler, no destination."""
        scheduler = self.svc.scheduler
        chosen: Dest | None = None if scheduler is None else scheduler.schedule(self.svc, SYN, iph or self.header())
        return chosen

    def choices(self, count: int) -> list[str]:
        """The names of so many choices."""
        return [name_of(self.ask()) or "-" for _ in range(count)]

    def reports(self) -> list[str]:
        """What has been logged since the last look."""
        lines = [text for _, text in self.ns.log_lines]
        self.ns.log_lines.clear()
        return lines


def as_int(addr: str | int) -> int:
    return addr if isinstance(addr, int) else parse_addr(addr)[1]


def name_of(dest: Dest | None) -> str | None:
    return None if dest is None else format_endpoint(dest.af, dest.addr << 16 | dest.port)


def pool(scheduler: str, *weights: int, **options: Any) -> Bench:
    """Destinations 10.0.0.1, .2, … of these weights, added in this order."""
    bench = Bench(scheduler, **options)
    for number, weight in enumerate(weights, 1):
        bench.add(f"10.0.0.{number}:80", weight)
    return bench


def state(svc: Service) -> dict[str, Any]:
    """What a scheduler remembers of a service, in the form of the vectors."""
    data = svc.sched_data
    name = svc.scheduler.name
    if name == "rr":
        return {"position": name_of(data.dest) or "HEAD"}
    if name == "wrr":
        return {"cursor": name_of(data.cursor.dest) or "HEAD", "cw": data.cw, "mw": data.mw, "di": data.di}
    if name in ("dh", "sh"):
        names, indexes = numbered(data.table)
        return {"names": names, "table": indexes}
    if name == "mh":
        table = data.ready(svc)
        names, indexes = numbered(table)
        digest = hashlib.sha256("\n".join(name_of(dest) or "-" for dest in table).encode()).hexdigest()
        shown: dict[str, Any] = {"gcd": data.gcd, "rshift": data.rshift, "sha256": digest}
        if len(names) > 60:
            return shown | {"distinct": len(names)}
        return shown | {"names": names, "counts": [indexes.count(index) for index in range(len(names))], "first": indexes[:40]}
    return cache_state(svc, data, sets=name == "lblcr")


def numbered(table: Iterable[Dest | None]) -> tuple[list[str | None], list[int]]:
    """Names in order of first appearance, and the table as indexes into them."""
    order: dict[Dest | None, int] = {}
    indexes = [order.setdefault(dest, len(order)) for dest in table]
    return [name_of(dest) for dest in order], indexes


def cache_state(svc: Service, table: Any, sets: bool) -> dict[str, Any]:
    entries = []
    for entry in table:
        shown = {"bucket": table.bucket_of(entry.daddr), "daddr": format_addr(svc.af, entry.daddr), "lastuse": entry.lastuse}
        if sets:
            shown |= {"set": [name_of(dest) for dest in entry.members], "lastmod": entry.lastmod}
        else:
            shown |= {"dest": name_of(entry.dest)}
        entries.append(shown)
    assert len(entries) == table.entries
    result: dict[str, Any] = {"entries": table.entries, "counter": table.counter, "rover": table.rover, "timer": table.expires}
    if len(entries) > 40:
        lines = (f"{e['bucket']} {e['daddr']} {','.join(e['set']) if sets else e['dest']}" for e in entries)
        return result | {"sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest()}
    return result | {"cache": entries}
