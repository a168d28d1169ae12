"""What is measured on: a director with default settings, clients, established connections and their packets, and the floor beside them.

The floor is a call, one dict lookup and one attribute update. It runs over the same packet objects in the same order as the model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from ipvs_model import IPVS, Hook, Packet, Verdict
from ipvs_model.addresses import format_endpoint
from ipvs_model.flags import AF_INET

VIP = 0xC0000201 << 16 | 80  #: 192.0.2.1:80
VIP6 = (0x20010DB8 << 96 | 0x80) << 16 | 80
SYN, ACK = 2, 16

Arrival = tuple[Packet, Hook]


class Floor:
    """What a floor call updates."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class KeyedPacket(Packet):
    """A packet with the key of its connection ready made for the floor: an int object of its own, as every packet's endpoint is."""

    __slots__ = ("key",)

    key: int


def endpoint(value: int, af: int = AF_INET) -> str:
    """An endpoint as control calls want it."""
    return format_endpoint(af, value)


def director(dests: int = 16, scheduler: str = "wlc", *, af: int = AF_INET, protocol: str = "tcp", weights: Sequence[int] = (1,), **service: object) -> IPVS:
    """A director with one service, default settings; ``weights`` go round; ``forward`` among the service's values is the destinations'."""
    ipvs = IPVS()
    values = {name: service.pop(name) for name in ("forward", "tun_type") if name in service}
    svc = ipvs.add_service(protocol, endpoint(VIP if af == AF_INET else VIP6, af), scheduler=scheduler, **service)
    base = 0x0A010000 if af == AF_INET else 0x20010DB8 << 96 | 0x10000
    port = 8080 if values.get("forward", "masq") == "masq" else 80
    for number in range(dests):
        ipvs.add_dest(svc, endpoint((base + number + 1) << 16 | port, af), weight=weights[number % len(weights)], **values)
    return ipvs


def client(number: int, af: int = AF_INET) -> int:
    """The endpoint of a client: 50 to an address, ports as varied as real ones."""
    base = 0x64000000 if af == AF_INET else 0x20010DB8 << 96
    return base + number // 50 << 16 | 1024 + number * 37 % 60000


def vip(af: int) -> int:
    """The virtual endpoint of a family."""
    return VIP if af == AF_INET else VIP6


def tcp(af: int, src: int, dst: int, flags: int, device: str) -> KeyedPacket:
    """A TCP segment without payload."""
    return KeyedPacket.tcp_between(af, src, dst, flags, device=device)


def udp(af: int, src: int, dst: int, flags: int, device: str) -> KeyedPacket:
    """A datagram without payload; it has no flags."""
    return KeyedPacket.udp((src >> 16, src & 0xFFFF) if af == AF_INET else endpoint(src, af), endpoint(dst, af), device=device)


def connect(ipvs: IPVS, count: int, af: int = AF_INET, make: Callable[[int, int, int, int, str], Packet] = tcp) -> None:
    """Open connections: SYN and ACK from each client (of UDP, two datagrams), 200 to a tick."""
    process, to = ipvs.process, vip(af)
    for number in range(count):
        source = client(number, af)
        process(make(af, source, to, SYN, "cli"))
        process(make(af, source, to, ACK, "cli"))
        if number % 200 == 199:
            ipvs.clock.advance(1)
    assert ipvs.ns.conn_count >= count, "a client got no connection"


def arrivals(
    ipvs: IPVS, count: int, af: int = AF_INET, make: Callable[[int, int, int, int, str], KeyedPacket] = tcp, hooks: Iterable[Hook] = (Hook.LOCAL_IN, Hook.FORWARD)
) -> list[Arrival]:
    """A packet for each of the hooks of so many connections, hit at random; each is asserted to go where it should."""
    rng = random.Random(1)
    conns = [cp for cp in ipvs.ns.conns if not cp.is_template]
    chosen = conns if len(conns) <= count else rng.sample(conns, count)
    out = []
    for cp in chosen:
        for hook in hooks:
            ends = (cp.client, cp.virt, ACK, "cli") if hook is Hook.LOCAL_IN else (cp.real, cp.client, ACK, "rs")
            packet = make(af, *ends)
            packet.key = int(str(cp.client))  # an object of its own
            out.append((packet, hook))
            action = ipvs.process(packet, hook)
            assert action.verdict is (Verdict.STOLEN if hook is Hook.LOCAL_IN else Verdict.ACCEPT) and action.reason in ("forwarded", "translated")
    rng.shuffle(out)
    return out


def floor_over(packets: list[Arrival], keys: Iterable[int], repeat: int) -> Callable[[], None]:
    """A call, a dict lookup and an attribute update for each packet; ``keys``: the client endpoints of the whole population, in the order of the table."""
    table = {int(str(key)): Floor() for key in keys}
    get = table.get

    def floor(packet: KeyedPacket) -> Floor | None:
        counter = get(packet.key)
        counter.n += 1
        return counter

    def run() -> None:
        for _ in range(repeat):
            for packet, _hook in packets:
                floor(packet)

    run()
    assert sum(counter.n for counter in table.values()) == repeat * len(packets)
    return run
