"""A host whose addresses, routes and sizes a test writes down: the routing provider of the datapath tests."""

from __future__ import annotations

import ipaddress

from ipvs_model.addresses import parse_addr
from ipvs_model.flags import AF_INET, Hook
from ipvs_model.packet import Packet
from ipvs_model.routing import Route, addr_type

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
MIN_PMTU = 552


def _address(af: int, addr: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.IPv4Address(addr) if af == AF_INET else ipaddress.IPv6Address(addr)


class Host:
    """Addresses and prefixes of its own, one device, everything else on-link.

    ``local``: in the local table. ``routed``: delivered here by a policy route, but no address of the host (no ICMP error can come from it).
    ``unreachable``: prefixes without a route. ``mtu``: of the device. ``learned``: path MTUs.
    """

    def __init__(self, *local: str, routed: tuple[str, ...] = (), unreachable: tuple[str, ...] = (), mtu: int = 1500) -> None:
        self.local = [ipaddress.ip_network(prefix) for prefix in (*local, "10.9.0.1", "10.1.0.1", "2001:db8:1::1")]
        self.routed = [ipaddress.ip_network(prefix) for prefix in routed]
        self.unreachable = [ipaddress.ip_network(prefix) for prefix in unreachable]
        self.mtu = mtu
        self.learned: dict[int, int] = {}
        self.lookups: list[tuple[int, int, int | None, int]] = []

    def _in(self, prefixes: list[ipaddress.IPv4Network | ipaddress.IPv6Network], af: int, addr: int) -> bool:
        return any(_address(af, addr) in prefix for prefix in prefixes)

    def is_local(self, af: int, addr: int) -> bool:
        """An address of the host, or a loopback one."""
        return self._in(self.local, af, addr) or self._in(list(LOOPBACK), af, addr)

    def input_hook(self, packet: Packet) -> Hook | None:
        """LOCAL_IN for what is delivered here."""
        here = self.is_local(packet.af, packet.daddr) or self._in(self.routed, packet.af, packet.daddr)
        return Hook.LOCAL_IN if here else Hook.FORWARD

    def output_route(self, af: int, dst: int, *, src: int | None = None, mark: int = 0, tos: int = 0) -> Route | None:
        """On-link, unless local or unreachable; a learned MTU is in force."""
        self.lookups.append((af, dst, src, mark))
        if self._in(self.unreachable, af, dst):
            return None
        if self.is_local(af, dst):
            return Route(True, "lo", dst, dst, 65536)
        saddr = parse_addr("10.1.0.1" if af == AF_INET else "2001:db8:1::1")[1]
        return Route(False, "rs", dst, saddr, self.learned.get(dst, self.mtu), generation=int(dst in self.learned))

    def stale(self, route: Route, dst: int) -> bool:
        """The first MTU that is learned makes routes without one stale."""
        return not route.generation and dst in self.learned

    def cached_mtu(self, route: Route) -> int:
        """A route that holds the learned value follows it, another keeps its own."""
        return self.learned[route.next_hop] if route.generation else route.mtu

    def addr_type(self, af: int, addr: int) -> str:
        """By the local table only."""
        return "local" if self.is_local(af, addr) else addr_type(af, addr)

    def icmp_source(self, packet: Packet, hook: Hook) -> int | None:
        """The address asked, if it is one of the host; IPv4 packets delivered here by a policy route get no error."""
        if self.is_local(packet.af, packet.daddr):
            return packet.daddr
        if packet.af == AF_INET and hook is Hook.LOCAL_IN:
            return None
        return parse_addr("10.9.0.1" if packet.af == AF_INET else "2001:db8:9::1")[1]

    def update_pmtu(self, af: int, dst: int, mtu: int) -> None:
        """A smaller MTU is kept, but none below 552."""
        current = self.learned.get(dst, self.mtu)
        if mtu <= current:
            self.learned[dst] = max(mtu, min(current, MIN_PMTU))
