"""Packets in a short text form: `tcp 203.0.113.7:40000 > 192.0.2.1:80 S`, or as the hexadecimal digits of an IP packet.

    PROTOCOL SOURCE > DESTINATION [WHAT] [NAME=VALUE …]

WHAT are TCP flags (letters of FSRPAUEC), SCTP chunks (INIT, COOKIE_ECHO, …, joined by +), or TYPE/CODE of ICMP. NAME is one of `NAMES`.
"""

from typing import Any, Final

from ipvs_model.addresses import format_addr, format_endpoint
from ipvs_model.flags import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, proto_name
from ipvs_model.packet import Packet
from ipvs_model.packet.build import TCP_FLAG_LETTERS
from ipvs_model.packet.text import chunks

#: SCTP chunk type → name (RFC 9260)
CHUNKS: Final = {
    0: "DATA", 1: "INIT", 2: "INIT_ACK", 3: "SACK", 4: "HEARTBEAT", 5: "HEARTBEAT_ACK", 6: "ABORT", 7: "SHUTDOWN", 8: "SHUTDOWN_ACK", 9: "ERROR",
    10: "COOKIE_ECHO", 11: "COOKIE_ACK", 14: "SHUTDOWN_COMPLETE",
}  # fmt: skip
CHUNK_TYPES: Final = {name: number for number, name in CHUNKS.items()}
#: NAME in the text → keyword of the constructor; len: bytes of payload, all zero
NAMES: Final = {"len": "payload", "ttl": "ttl", "tos": "tos", "id": "id", "mark": "mark", "seq": "seq", "ack": "ack", "vtag": "vtag"}
TAKEN: Final = {
    "tcp": ("len", "ttl", "tos", "id", "mark", "seq", "ack"),
    "udp": ("len", "ttl", "tos", "id", "mark"),
    "sctp": ("ttl", "tos", "id", "mark", "vtag"),
    "icmp": ("len", "ttl", "tos", "id", "mark"),
}
EXAMPLE: Final = "tcp 203.0.113.7:40000 > 192.0.2.1:80 S"


class PacketTextError(ValueError):
    """Text that is no packet; the message is fit to be shown."""


def parse_packet(text: str) -> Packet:
    """The packet that a text describes. Raises PacketTextError.

    >>> parse_packet("udp 203.0.113.7:40000 > 192.0.2.1:53 len=4 ttl=9")
    Packet.udp('203.0.113.7:40000', '192.0.2.1:53', b'\\x00\\x00\\x00\\x00', ttl=9)
    """
    words = text.split()
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
            try:
                number = int(value, 0)
            except ValueError:
                raise PacketTextError(f"{text!r}: {word!r} is no number") from None
            if key == "len" and not 0 <= number <= 0xFFFF:
                raise PacketTextError(f"{text!r}: {word!r} does not fit a packet")
            options[NAMES[key]] = bytes(number) if key == "len" else number
    try:
        return _construct(name, words[1], words[3], what, options)
    except ValueError as wrong:
        raise PacketTextError(f"{text!r}: {wrong}") from wrong


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
    ends = [format_addr(packet.af, packet.saddr), format_addr(packet.af, packet.daddr)]
    if packet.has_ports:
        ends = [format_endpoint(packet.af, packet.src), format_endpoint(packet.af, packet.dst)]
    words = [name, ends[0], ">", ends[1], what, f"len={length}" if length else "", f"ttl={packet.ttl}" if packet.ttl != 64 else ""]
    words.append(f"mark={packet.mark}" if packet.mark else "")
    return " ".join(filter(None, words))


def flag_letters(value: int) -> str:
    """The letters of a TCP flags byte, as people write them: F first, A last but for E and C.

    >>> flag_letters(0x12)
    'SA'
    """
    return "".join(letter for bit, letter in enumerate(TCP_FLAG_LETTERS) if value >> bit & 1)
