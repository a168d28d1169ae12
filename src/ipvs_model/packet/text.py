"""A packet as Python that makes it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.addresses import format_addr, format_endpoint
from ipvs_model.flags import AF_INET, IPPROTO_ESP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP
from ipvs_model.packet.build import TCP_FLAG_LETTERS

if TYPE_CHECKING:
    from ipvs_model.packet.packet import Packet

#: keyword → value that goes without saying; the defaults of the constructors of Packet
DEFAULTS: Final[dict[str, object]] = {
    "seq": 1000,
    "ack": 0,
    "payload": b"",
    "window": 65535,
    "options": b"",
    "checksum": True,
    "vtag": 0,
    "ttl": 64,
    "tos": 0,
    "id": 1,
    "df": True,
    "mark": 0,
    "device": None,
    "bits": 0,
    "frag_max_size": 0,
    "pieces": (),
}
#: protocol → constructor
CONSTRUCTORS: Final = {
    IPPROTO_TCP: "tcp",
    IPPROTO_UDP: "udp",
    IPPROTO_SCTP: "sctp",
    IPPROTO_ICMP: "icmp",
    IPPROTO_ICMPV6: "icmp",
    IPPROTO_ESP: "esp",
}


class Call:
    """A call of a constructor of Packet: its name, positional and keyword arguments."""

    def __init__(self, name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        self.name = name
        self.args = args
        self.kwargs = {key: value for key, value in kwargs.items() if DEFAULTS[key] != value}

    def __str__(self) -> str:
        words = [repr(arg) for arg in self.args] + [f"{key}={value!r}" for key, value in self.kwargs.items()]
        return f"Packet.{self.name}({', '.join(words)})"


def parse_call(p: Packet) -> str:
    """The packet as its bytes: right for every packet."""
    kwargs = {"mark": p.mark, "device": p.device, "bits": p.bits, "frag_max_size": p.frag_max_size, "pieces": p.pieces}
    words = [f"{key}={value!r}" for key, value in kwargs.items() if DEFAULTS[key] != value]
    return f"Packet.parse({', '.join([f'bytes.fromhex({p.raw.hex()!r})', *words])})"


def constructor_call(p: Packet) -> Call | None:
    """The call of a constructor that may make this packet, if it is whole and of a protocol that has one. The caller compares the bytes."""
    name = CONSTRUCTORS.get(p.proto)
    l4 = p.l4_bytes
    if name is None or p.frag or p.truncated or p.frag_max_size or len(l4) < 8:
        return None
    kwargs: dict[str, object] = {"ttl": p.ttl, "tos": p.tos}
    if p.af == AF_INET:
        kwargs.update(id=p.id, df=p.df)
    kwargs.update(mark=p.mark, device=p.device, bits=p.bits)
    ends: tuple[object, ...] = (format_addr(p.af, p.saddr), format_addr(p.af, p.daddr))
    if p.has_ports:
        ends = (format_endpoint(p.af, p.src), format_endpoint(p.af, p.dst))
    if name == "tcp":
        if not p.plain:
            return None
        letters = "".join(letter for bit, letter in enumerate(TCP_FLAG_LETTERS) if l4[13] >> bit & 1)
        data = l4[12] >> 4 << 2
        fields = {"seq": p.seq, "ack": p.ack, "payload": l4[max(data, 20) :], "window": l4[14] << 8 | l4[15], "options": l4[20:data]}
        return Call(name, (*ends, letters), fields | kwargs)
    if name == "udp":
        return Call(name, (*ends, l4[8:]) if l4[8:] else ends, {"checksum": l4[6:8] != bytes(2)} | kwargs)
    if name == "sctp":
        return Call(name, (*ends, chunks(l4[12:])), {"vtag": int.from_bytes(l4[4:8], "big")} | kwargs)
    if name == "icmp":
        return Call(name, (*ends, l4[0], l4[1], l4[4:8], l4[8:]), kwargs)
    return Call(name, (*ends, int.from_bytes(l4[:4], "big"), int.from_bytes(l4[4:8], "big"), l4[8:]), kwargs)


def chunks(body: bytes) -> list[tuple[int, int, bytes]]:
    """The SCTP chunks (type, flags, value) of the bytes behind the common header, as far as they are well formed."""
    found = []
    while len(body) >= 4:
        length = body[2] << 8 | body[3]
        if not 4 <= length <= len(body):
            break
        found.append((body[0], body[1], body[4:length]))
        body = body[length + -length % 4 :]
    return found
