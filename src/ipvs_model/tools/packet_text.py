"""Packets in a short text form: `tcp 203.0.113.7:40000 > 192.0.2.1:80 S`, or as the hexadecimal digits of an IP packet.

    PROTOCOL SOURCE > DESTINATION [WHAT] [NAME=VALUE …] [about PACKET]

WHAT are TCP flags (letters of FSRPAUEC), SCTP chunks (INIT, COOKIE_ECHO, …, joined by +), or TYPE/CODE of ICMP. NAME is one of `NAMES`. An ICMP error is
`about` the packet that it quotes.
"""

from typing import Any, Final

from ipvs_model.addresses import format_addr, format_endpoint
from ipvs_model.flags import (
    IPPROTO_GRE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_IPIP,
    IPPROTO_IPV6,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    PKT_CT_CONFIRMED,
    PKT_HAS_CT,
    proto_name,
)
from ipvs_model.packet import Packet
from ipvs_model.packet.build import TCP_FLAG_LETTERS
from ipvs_model.packet.text import chunks

#: SCTP chunk type → name (RFC 9260)
CHUNKS: Final = {
    0: "DATA", 1: "INIT", 2: "INIT_ACK", 3: "SACK", 4: "HEARTBEAT", 5: "HEARTBEAT_ACK", 6: "ABORT", 7: "SHUTDOWN", 8: "SHUTDOWN_ACK", 9: "ERROR",
    10: "COOKIE_ECHO", 11: "COOKIE_ACK", 14: "SHUTDOWN_COMPLETE",
}  # fmt: skip
CHUNK_TYPES: Final = {name: number for number, name in CHUNKS.items()}
#: NAME in the text → keyword of the constructor. len: bytes of payload, all zero; data: the payload in hexadecimal digits; info: the second word of an ICMP
#: header (a number); quote: how many bytes an ICMP error quotes; ct: the packet has a conntrack entry (1), a confirmed one (2)
NAMES: Final = {
    "len": "payload", "data": "payload", "ttl": "ttl", "tos": "tos", "id": "id", "mark": "mark", "seq": "seq", "ack": "ack", "vtag": "vtag", "info": "rest",
    "quote": "quote", "ct": "bits",
}  # fmt: skip
TAKEN: Final = {
    "tcp": ("len", "data", "ttl", "tos", "id", "mark", "seq", "ack", "ct"),
    "udp": ("len", "data", "ttl", "tos", "id", "mark", "ct"),
    "sctp": ("ttl", "tos", "id", "mark", "vtag", "ct"),
    "icmp": ("len", "data", "ttl", "tos", "id", "mark", "info", "quote", "ct"),
}
LIMITS: Final = {"len": 0xFFFF, "quote": 0xFFFF, "info": 0xFFFFFFFF, "ct": 2}
CONNTRACK: Final = {0: 0, 1: PKT_HAS_CT, 2: PKT_HAS_CT | PKT_CT_CONFIRMED}
ENCAPSULATING: Final = (IPPROTO_IPIP, IPPROTO_IPV6)
#: types of ICMP errors, which quote a packet, by protocol
QUOTING: Final = {IPPROTO_ICMP: (3, 4, 5, 11, 12), IPPROTO_ICMPV6: (1, 2, 3, 4)}
EXAMPLE: Final = "tcp 203.0.113.7:40000 > 192.0.2.1:80 S"


class PacketTextError(ValueError):
    """Text that is no packet; the message is fit to be shown."""


def parse_packet(text: str) -> Packet:
    """The packet that a text describes. Raises PacketTextError.

    >>> parse_packet("udp 203.0.113.7:40000 > 192.0.2.1:53 len=4 ttl=9")
    Packet.udp('203.0.113.7:40000', '192.0.2.1:53', b'\\x00\\x00\\x00\\x00', ttl=9)
    """
    own, about, quoted = text.partition(" about ")
    words = own.split()
    digits = "".join(words)
    if digits and all(digit in "0123456789abcdefABCDEF" for digit in digits):
        return _from_hex(digits)
    if len(words) < 4 or words[0].lower() not in TAKEN or words[2] != ">":
        raise PacketTextError(f"{text!r} is no packet: write PROTOCOL SOURCE > DESTINATION …, as in {EXAMPLE}, with {', '.join(TAKEN)}; or hexadecimal digits")
    name = words[0].lower()
    what = ""
    options: dict[str, Any] = {}
    for word in words[4:]:
        key, equals, value = word.partition("=")
        if not equals and not what:
            what = word
        elif not equals or key not in TAKEN[name]:
            raise PacketTextError(f"{text!r}: {word!r} is not understood; {name} takes {', '.join(TAKEN[name])}")
        else:
            options[NAMES[key]] = _value(text, key, value)
    length = options.pop("quote", None)
    if about and name != "icmp":
        raise PacketTextError(f"{text!r}: only icmp is about another packet")
    if about:
        options["payload"] = parse_packet(quoted).raw[:length]
    try:
        return _construct(name, words[1], words[3], what, options)
    except ValueError as wrong:
        raise PacketTextError(f"{text!r}: {wrong}") from wrong


def _value(text: str, key: str, value: str) -> Any:
    """What a constructor takes for NAME=VALUE."""
    try:
        if key == "data":
            return bytes.fromhex(value)
        number = int(value, 0)
    except ValueError:
        raise PacketTextError(f"{text!r}: '{key}={value}' is no number") from None
    most = LIMITS.get(key)
    if most is not None and not 0 <= number <= most:
        raise PacketTextError(f"{text!r}: '{key}={value}' does not fit: 0 to {most}")
    if key == "len":
        return bytes(number)
    if key == "info":
        return number.to_bytes(4)
    return CONNTRACK[number] if key == "ct" else number


def _from_hex(digits: str) -> Packet:
    if len(digits) % 2:
        raise PacketTextError(f"{digits[:20]}…: an odd number of hexadecimal digits")
    packet = Packet.parse(bytes.fromhex(digits))
    if packet.proto < 0:
        raise PacketTextError(f"{digits[:20]}… is no IP packet: {len(digits) // 2} bytes")
    return packet


def _construct(name: str, source: str, destination: str, what: str, options: dict[str, Any]) -> Packet:
    if name == "tcp":
        return Packet.tcp(source, destination, what or "S", **options)
    if name == "udp":
        if what:
            raise ValueError(f"{what!r} is not understood")
        return Packet.udp(source, destination, **options)
    if name == "sctp":
        kinds = [CHUNK_TYPES.get(chunk) for chunk in (what or "INIT").split("+")]
        found = [(kind, 0, bytes(16)) for kind in kinds if kind is not None]
        if len(found) < len(kinds):
            raise ValueError(f"{what!r}: the chunks are {', '.join(CHUNK_TYPES)}")
        return Packet.sctp(source, destination, found, **options)
    kind, slash, code = (what or "8/0").partition("/")
    if not slash or not kind.isdecimal() or not code.isdecimal() or max(int(kind), int(code)) > 255:
        raise ValueError(f"{what!r}: write TYPE/CODE")
    return Packet.icmp(source, destination, int(kind), int(code), **options)


def describe(packet: Packet) -> str:
    """A packet in the text form: what is not said there (payload, options) is left out.

    >>> describe(Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "PA", payload=b"GET /"))
    'tcp 203.0.113.7:40000 > 192.0.2.1:80 PA len=5'
    """
    name, what, length = proto_name(packet.proto).lower(), "", packet.l4_len
    body = packet.raw[packet.l4 :]
    if packet.frag and not packet.has_ports:
        what = "later piece"
    elif packet.proto == IPPROTO_TCP and len(body) >= 20:
        what, length = flag_letters(body[13]), length - (body[12] >> 4 << 2)
    elif packet.proto == IPPROTO_UDP and len(body) >= 8:
        length -= 8
    elif packet.proto == IPPROTO_SCTP and len(body) >= 12:
        what, length = "+".join(CHUNKS.get(kind, str(kind)) for kind, _, _ in chunks(body[12:])), 0
    elif packet.proto in (IPPROTO_ICMP, IPPROTO_ICMPV6) and len(body) >= 8:
        name, what, length = "icmp", f"{body[0]}/{body[1]}", length - 8
    elif packet.proto in ENCAPSULATING:
        name = "ipip"
    elif packet.proto == IPPROTO_GRE:
        name = "gre"
    ends = [format_addr(packet.af, packet.saddr), format_addr(packet.af, packet.daddr)]
    if packet.has_ports:
        ends = [format_endpoint(packet.af, packet.src), format_endpoint(packet.af, packet.dst)]
    words = [name, ends[0], ">", ends[1], what, f"len={length}" if length else "", f"ttl={packet.ttl}" if packet.ttl != 64 else ""]
    words.append(f"mark={packet.mark}" if packet.mark else "")
    words += _inside(packet, body)
    return " ".join(filter(None, words))


def _inside(packet: Packet, body: bytes) -> list[str]:
    """What an ICMP error says, and the packet that it is about, or that a tunnel carries."""
    words = []
    if packet.proto in QUOTING and len(body) >= 8 and body[0] in QUOTING[packet.proto]:
        info = int.from_bytes(body[4:8])
        words.append(f"info={info}" if info else "")
        word, inner = "about", Packet.parse(body[8:])
    elif packet.proto in ENCAPSULATING:
        word, inner = "around", Packet.parse(body)
    else:
        return []
    return [*words, f"{word} {describe(inner)}"] if inner.proto >= 0 else words


def flag_letters(value: int) -> str:
    """The letters of a TCP flags byte, as people write them: F first, A last but for E and C.

    >>> flag_letters(0x12)
    'SA'
    """
    return "".join(letter for bit, letter in enumerate(TCP_FLAG_LETTERS) if value >> bit & 1)
