"""A host's addresses and routes: devices, prefixes, what is local, and learned path MTUs.

The answers that IPVS asks for (`RoutingProvider`) and those that the host around it needs, from tables that are filled like ``ip addr`` and ``ip route`` do.

source: net/ipv4/route.c, net/ipv4/fib_frontend.c, net/ipv6/route.c, net/ipv6/addrconf.c as far as single-table hosts show them
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from ipvs_model.addresses import ADDRESS_BITS, parse_addr
from ipvs_model.flags import AF_INET, AF_INET6, PKT_NOT_TO_HOST, Hook
from ipvs_model.routing import Route, addr_type

if TYPE_CHECKING:
    from ipvs_model.packet import Packet

LOOPBACK: Final = "lo"
LOOPBACK_MTU: Final = 65536
LOOPBACK_PREFIXES: Final = ("127.0.0.0/8", "::1/128")
MIN_PMTU: Final = 552  #: net.ipv4.route.min_pmtu: a smaller reported MTU is stored as this and kept
MTU_EXPIRES_S: Final = 600  #: net.ipv4.route.mtu_expires: seconds for which a learned MTU is used

#: a prefix as (bits to drop, what is left): an address is inside if address >> drop == left
Prefix = tuple[int, int]


@define
class Device:
    """A network device: its addresses, in the order given, and its MTU in bytes."""

    name: str
    mtu: int = 1500
    addresses: dict[int, list[int]] = field(factory=lambda: {AF_INET: [], AF_INET6: []})

    def primary(self, af: int) -> int | None:
        """The address that packets made by the host carry when they leave here."""
        return self.addresses[af][0] if self.addresses[af] else None


@frozen
class Entry:
    """A route: ``kind`` "unicast" through a device (and gateway), or "unreachable", for which the host answers with an error."""

    kind: str
    device: str = ""
    gateway: int | None = None


@define
class Learned:
    """A path MTU that a router reported; ``expires`` in jiffies. ``locked``: the report was below `MIN_PMTU`, later ones are ignored.

    ``generation`` is that of the routes that carry it.
    """

    mtu: int
    expires: int
    locked: bool
    generation: int


def no_time() -> int:
    """A clock that stands still: learned MTUs never expire."""
    return 0


class HostRouting:
    """Routes of a host. Fill it with `add_device`, `add_route`, `add_local`; then hand it to an Environment.

    ``now`` and ``hz`` are the clock by which learned MTUs expire. Lookups are the longest prefix, O(prefix lengths), remembered per address.
    """

    def __init__(self, *, hz: int = 250, forwarding: bool = True) -> None:
        self.forwarding = forwarding
        self.hz = hz
        self.now: Callable[[], int] = no_time
        self.devices: dict[str, Device] = {LOOPBACK: Device(LOOPBACK, LOOPBACK_MTU)}
        self.local_marks: set[int] = set()  #: marks whose packets are local by policy, wherever they go
        self._tables: dict[int, dict[Prefix, Entry]] = {AF_INET: {}, AF_INET6: {}}
        self._local: dict[int, set[Prefix]] = {AF_INET: set(), AF_INET6: set()}
        self._broadcast: set[int] = set()
        self._learned: dict[tuple[int, int], Learned] = {}
        self._carriers: dict[int, tuple[int, int]] = {}
        self._generation = 0
        self._is_local: dict[tuple[int, int], bool] = {}
        self._routes: dict[tuple[int, int], Route | None] = {}
        for prefix in LOOPBACK_PREFIXES:
            self.add_local(prefix)

    # --- filling ------------------------------------------------------------------------------------------------------
    def add_device(self, name: str, addresses: Iterable[str] = (), *, mtu: int = 1500) -> None:
        """A device with addresses such as "10.1.0.1/24": each is local, its network on-link, an IPv4 network's ends are broadcast addresses.

        Raises ValueError for a name that is taken or an address that is none.
        """
        if name in self.devices:
            raise ValueError(f"device {name} exists")
        device = self.devices[name] = Device(name, mtu)
        for text in addresses:
            interface = ipaddress.ip_interface(text)
            af = AF_INET if interface.version == 4 else AF_INET6
            device.addresses[af].append(int(interface))
            self.add_local(str(interface.ip))
            if interface.network.prefixlen < ADDRESS_BITS[af]:
                self.add_route(str(interface.network), device=name)
                if af == AF_INET and interface.network.prefixlen < 31:
                    self._broadcast |= {int(interface.network.network_address), int(interface.network.broadcast_address)}

    def add_route(self, prefix: str, *, device: str = "", via: str | None = None) -> None:
        """A route by a device, through a gateway if ``via`` is given; "default" is IPv4's, "::/0" IPv6's. Without a device it is "unreachable"."""
        if device and device not in self.devices:
            raise ValueError(f"no device {device}")
        gateway = None if via is None else parse_addr(via)[1]
        af, key = _prefix("0.0.0.0/0" if prefix == "default" else prefix)
        self._tables[af][key] = Entry("unicast", device, gateway) if device else Entry("unreachable")
        self._forget()

    def add_local(self, prefix: str) -> None:
        """An address or prefix whose packets are delivered here, as ``ip route add local PREFIX dev lo`` makes it."""
        af, key = _prefix(prefix)
        self._local[af].add(key)
        self._forget()

    def add_local_mark(self, mark: int) -> None:
        """Packets with this mark are delivered here: ``ip rule add fwmark MARK lookup T`` with a local default route in table T."""
        self.local_marks.add(mark)

    def set_mtu(self, name: str, mtu: int) -> None:
        """Change a device's MTU in bytes."""
        self.devices[name].mtu = mtu
        self._forget()

    @property
    def static(self) -> bool:
        """Every unicast address has a route, and no path MTU was ever learned."""
        whole = all((ADDRESS_BITS[af], 0) in table and all(entry.kind == "unicast" for entry in table.values()) for af, table in self._tables.items())
        return whole and not self._generation

    def _forget(self) -> None:
        self._is_local.clear()
        self._routes.clear()

    # --- what IPVS asks -----------------------------------------------------------------------------------------------
    def input_hook(self, packet: Packet) -> Hook | None:
        """The hook that a received packet reaches; None: dropped, for its source cannot be, or there is no way on.

        source: net/ipv4/route.c, ip_route_input_slow, fib_validate_source; net/ipv6/ip6_input.c, ip6_rcv_core
        """
        af, source, destination = packet.af, packet.src >> 16, packet.dst >> 16
        if packet.device != LOOPBACK and not self._possible(af, source, destination):
            return None
        if packet.mark in self.local_marks and packet.mark:
            return Hook.LOCAL_IN
        if self.addr_type(af, destination) != "unicast":
            return Hook.LOCAL_IN
        return Hook.FORWARD if self.forwarding and not packet.bits & PKT_NOT_TO_HOST else None

    def _possible(self, af: int, source: int, destination: int) -> bool:
        """Not a martian: no packet from outside has this host's address as its source, nor loopback on either side."""
        if af == AF_INET6:
            loopback = source == 1 or destination == 1
            return not loopback and source >> 120 != 0xFF
        if source == 0:
            return destination == 0xFFFFFFFF
        if destination == 0 or destination >> 24 == 127:
            return False
        return self.addr_type(af, source) == "unicast"

    def output_route(self, af: int, dst: int, *, src: int | None = None, mark: int = 0, tos: int = 0) -> Route | None:
        """Route for a packet to ``dst``, by the address alone; None: no route, or an unreachable one."""
        key = af, dst
        if key in self._learned and self._learned[key].expires <= self.now():
            del self._learned[key]
            self._routes.pop(key, None)
        try:
            return self._routes[key]
        except KeyError:
            route = self._routes[key] = self._route(af, dst)
            return route

    def stale(self, route: Route, dst: int) -> bool:
        """Whether a route that was handed out for ``dst`` is no longer the answer: tables changed, or a path MTU was learned or forgotten."""
        return self.output_route(AF_INET6 if dst >> 32 else AF_INET, dst) is not route

    def cached_mtu(self, route: Route) -> int:
        """The MTU that a cached route shows: one that carries a learned MTU follows it when it changes, an older one keeps its own."""
        learned = self._learned.get(self._carriers.get(route.generation, (0, 0)))
        return route.mtu if learned is None else learned.mtu

    def _route(self, af: int, dst: int) -> Route | None:
        if self.is_local(af, dst):
            return Route(local=True, device=LOOPBACK, next_hop=dst, saddr=dst, mtu=LOOPBACK_MTU)
        table = self._tables[af]
        entry = next((table[drop, dst >> drop] for drop in sorted({drop for drop, _ in table}) if (drop, dst >> drop) in table), None)
        if entry is None or entry.kind != "unicast":
            return None
        device = self.devices[entry.device]
        learned = self._learned.get((af, dst))
        return Route(
            local=False,
            device=device.name,
            next_hop=dst if entry.gateway is None else entry.gateway,
            saddr=self._saddr(af, device),
            mtu=device.mtu if learned is None else min(learned.mtu, device.mtu),
            generation=0 if learned is None else learned.generation,
        )

    def _saddr(self, af: int, device: Device) -> int | None:
        """The device's own address, else that of any other device."""
        primary = device.primary(af)
        if primary is None:
            primary = next((other.primary(af) for other in self.devices.values() if other.primary(af) is not None), None)
        return primary

    def addr_type(self, af: int, addr: int) -> str:
        """ "local", "broadcast", "multicast", "linklocal" or "unicast", by the local table only."""
        if self.is_local(af, addr):
            return "local"
        if af == AF_INET and addr in self._broadcast:
            return "broadcast"
        return addr_type(af, addr)

    def is_local(self, af: int, addr: int) -> bool:
        """Whether an address is delivered here."""
        key = af, addr
        try:
            return self._is_local[key]
        except KeyError:
            found = self._is_local[key] = any(addr >> drop == left for drop, left in self._local[af])
            return found

    def is_own(self, af: int, addr: int) -> bool:
        """Whether an address is configured on a device, not merely routed as local."""
        return any(addr in device.addresses[af] for device in self.devices.values()) or addr in (1, 0x7F000001)

    def icmp_source(self, packet: Packet, hook: Hook) -> int | None:
        """Source of an ICMP error about a packet: where it was sent to, if that is ours, else (IPv6) an address of the device it came in on, or of the way back.

        None: not to be sent.

        source: net/ipv4/icmp.c, icmp_send; net/ipv6/icmp.c, icmp6_send
        """
        af, destination = packet.af, packet.dst >> 16
        if af == AF_INET6:
            if self.is_own(af, destination):
                return destination
        elif hook is Hook.LOCAL_IN:
            return destination if self.is_local(af, destination) else None
        back = self.output_route(af, packet.src >> 16)
        if back is None:
            return None
        device = self.devices.get(packet.device or "") if af == AF_INET6 else None
        return (device.primary(af) if device is not None else None) or back.saddr

    def update_pmtu(self, af: int, dst: int, mtu: int) -> None:
        """A router reported an MTU on the way to ``dst``: smaller than the present one it holds for `MTU_EXPIRES_S` seconds.

        Routes handed out before the first one keep their MTU; those that carry a learned one show what is learned later (`cached_mtu`).
        source: net/ipv4/route.c, __ip_rt_update_pmtu, update_or_create_fnhe
        """
        route = self.output_route(af, dst)
        if route is None or route.local or mtu > route.mtu:
            return
        key = af, dst
        learned = self._learned.get(key)
        if learned is None:
            self._generation += 1
            self._carriers[self._generation] = key
            learned = self._learned[key] = Learned(mtu, 0, False, self._generation)
        elif learned.locked:
            return
        learned.locked = af == AF_INET and mtu < MIN_PMTU
        learned.mtu = min(route.mtu, MIN_PMTU) if learned.locked else mtu
        learned.expires = self.now() + MTU_EXPIRES_S * self.hz
        self._routes.pop(key, None)


def _prefix(text: str) -> tuple[int, Prefix]:
    network = ipaddress.ip_network(text, strict=False)
    af = AF_INET if network.version == 4 else AF_INET6
    drop = ADDRESS_BITS[af] - network.prefixlen
    return af, (drop, int(network.network_address) >> drop)
