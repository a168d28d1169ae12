"""Questions that IPVS asks of the host's routing, and a default answer.

source: spec of the transmitters (route step), net/ipv4/route.c and net/ipv6/route.c as far as IPVS sees them
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

from attrs import field, frozen

from ipvs_model.addresses import ADDRESS_BITS, AddressLike, parse_addr
from ipvs_model.flags import AF_INET, AF_INET6, Hook

if TYPE_CHECKING:
    from ipvs_model.packet import Packet


@frozen
class Route:
    """Where packets to an address go. ``local``: delivered on this host. ``saddr``: source address the host would use. ``mtu`` in bytes."""

    local: bool
    device: str = ""
    next_hop: int = 0
    saddr: int | None = None
    mtu: int = 1500
    generation: int = 0  #: the provider's own, for ``stale``


class RoutingProvider(Protocol):
    """What a host tells IPVS about addresses and routes. Addresses are ints.

    A provider with a true attribute ``static`` says that its routes never change and that every unicast address has one; answers are then kept.
    """

    def input_hook(self, packet: Packet) -> Hook | None:
        """The hook that a received packet reaches: LOCAL_IN, FORWARD, or None when the host drops it."""

    def output_route(self, af: int, dst: int, *, src: int | None = None, mark: int = 0, tos: int = 0) -> Route | None:
        """Route for a packet to ``dst``; None = no route, or an unreachable one."""

    def stale(self, route: Route, dst: int) -> bool:
        """Whether a cached route must be looked up again."""

    def cached_mtu(self, route: Route) -> int:
        """The MTU that a cached route has now."""

    def addr_type(self, af: int, addr: int) -> str:
        """ "unicast", "local", "broadcast" or "multicast", by the local table only."""

    def icmp_source(self, packet: Packet, hook: Hook) -> int | None:
        """Source address of an ICMP error about ``packet`` that reached ``hook``; None = the error cannot be sent."""

    def update_pmtu(self, af: int, dst: int, mtu: int) -> None:
        """A router reported a smaller MTU on the way to ``dst``."""


# members of an enum that are looked up through it cost a call each
LOCAL_IN: Final = Hook.LOCAL_IN
FORWARD: Final = Hook.FORWARD


def _prefixes(values: Iterable[str]) -> tuple[tuple[int, int, int], ...]:
    """(family, network, bits behind it)."""
    out = []
    for value in values:
        network = ipaddress.ip_network(value, strict=False)
        af = AF_INET if network.version == 4 else AF_INET6
        shift = ADDRESS_BITS[af] - network.prefixlen
        out.append((af, int(network.network_address) >> shift, shift))
    return tuple(out)


def _in(prefixes: Iterable[tuple[int, int, int]], af: int, addr: int) -> bool:
    for family, network, shift in prefixes:  # a generator would cost three times as much, on the way of every packet
        if af == family and addr >> shift == network:
            return True
    return False


LOOPBACK: Final = ("127.0.0.0/8", "::1/128")


@frozen
class DefaultRouting:
    """A host with one device: the ``local`` prefixes (and loopback) are its own, everything else is on-link with the same MTU.

    Virtual addresses need not be among them: ``IPVS.receive`` counts the addresses of services as local when no provider is given.
    """

    local: tuple[str, ...] = ()
    saddr4: AddressLike = "10.1.0.1"
    saddr6: AddressLike = "2001:db8:1::1"
    mtu: int = 1500
    device: str = "eth0"
    _prefixes: tuple[tuple[int, int, int], ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_prefixes", _prefixes((*LOOPBACK, *self.local)))

    @property
    def static(self) -> bool:
        """One device, always there."""
        return True

    def is_local(self, af: int, addr: int) -> bool:
        """Whether an address is one of the host's own."""
        return _in(self._prefixes, af, addr)

    def input_hook(self, packet: Packet) -> Hook | None:
        """LOCAL_IN for the host's own addresses, else FORWARD."""
        af, addr = packet.af, packet.dst >> 16
        for family, network, shift in self._prefixes:
            if af == family and addr >> shift == network:
                return LOCAL_IN
        return FORWARD

    def output_route(self, af: int, dst: int, *, src: int | None = None, mark: int = 0, tos: int = 0) -> Route | None:
        """Own addresses are local, all others on-link on the one device."""
        if self.is_local(af, dst):
            return Route(local=True, device="lo", next_hop=dst, saddr=dst, mtu=65536)
        return Route(local=False, device=self.device, next_hop=dst, saddr=self._saddr(af), mtu=self.mtu)

    def stale(self, route: Route, dst: int) -> bool:
        """Routes never change."""
        return False

    def cached_mtu(self, route: Route) -> int:
        """The route's own."""
        return route.mtu

    def addr_type(self, af: int, addr: int) -> str:
        """By the address alone: see ``addr_type``."""
        return "local" if self.is_local(af, addr) else addr_type(af, addr)

    def icmp_source(self, packet: Packet, hook: Hook) -> int | None:
        """The address that the packet was sent to if it is local, else the device's own."""
        dst = packet.dst >> 16
        if hook is Hook.LOCAL_IN and packet.af == AF_INET:
            return dst
        return dst if self.is_local(packet.af, dst) else self._saddr(packet.af)

    def update_pmtu(self, af: int, dst: int, mtu: int) -> None:
        """Learned MTUs are not kept."""

    def _saddr(self, af: int) -> int:
        return parse_addr(self.saddr4 if af == AF_INET else self.saddr6)[1]


def addr_type(af: int, addr: int) -> str:
    """Type of an address that is not the host's own: "unicast", "broadcast", "multicast", or "linklocal" (IPv6).

    source: net/ipv4/fib_frontend.c, inet_addr_type; net/ipv6/addrconf_core.c, ipv6_addr_type

    >>> addr_type(2, 0), addr_type(2, 0xe0000001), addr_type(2, 0x0a000001)
    ('broadcast', 'multicast', 'unicast')
    """
    if af == AF_INET:
        if addr in (0, 0xFFFFFFFF):
            return "broadcast"
        return "multicast" if addr >> 28 == 0xE else "unicast"
    if addr == 0 or addr >> 32 == 0xFFFF:
        return "broadcast"
    if addr >> 120 == 0xFF:
        return "multicast"
    return "linklocal" if addr >> 118 == 0x3FA else "unicast"
