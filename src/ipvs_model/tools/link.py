"""From a captured frame to the IP packet in it: link headers, VLAN tags, padding, cut packets, headers that an offloading card would have filled in.

Each link type is one function in LINK_TYPES that finds the EtherType and where the packet begins.
"""

from collections.abc import Callable
from struct import pack
from typing import Final, NamedTuple

from ipvs_model.flags import IPPROTO_AH, IPPROTO_ESP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP
from ipvs_model.packet.checksum import csum16, pseudo_csum, pseudo_sum
from ipvs_model.packet.ethernet import ETH_P_IP, ETH_P_IPV6, ethernet, untagged

#: EtherTypes that turn up in captures, for the list of what was passed over
ETHERTYPE_NAMES: Final = {
    0x0806: "ARP",
    0x8035: "RARP",
    0x8809: "LACP and other slow protocols",
    0x8847: "MPLS",
    0x8863: "PPPoE discovery",
    0x8864: "PPPoE",
    0x88CC: "LLDP",
    0x88E5: "MACsec",
}
#: address family in the loopback header: 2 everywhere, IPv6 is 10 on Linux, 24, 28 and 30 on the BSDs and macOS
NULL_FAMILIES: Final = {2: ETH_P_IP, 10: ETH_P_IPV6, 24: ETH_P_IPV6, 28: ETH_P_IPV6, 30: ETH_P_IPV6}
#: offset of the checksum in the transport header
CHECKSUM_AT: Final = {IPPROTO_TCP: 16, IPPROTO_UDP: 6}
#: bytes of a transport header without which a packet says nothing useful
TRANSPORT_HEADER: Final = {IPPROTO_TCP: 20, IPPROTO_UDP: 8, IPPROTO_SCTP: 12, IPPROTO_ICMP: 8, IPPROTO_ICMPV6: 8, IPPROTO_ESP: 8, IPPROTO_AH: 12}
IPV6_EXTENSIONS: Final = frozenset((0, 43, 60))


class NotIP(Exception):
    """The frame holds no IP packet; the text says what it holds."""


class Damaged(Exception):
    """The frame should hold an IP packet, but what is there cannot be one; the text says why."""


class IPBytes(NamedTuple):
    """An IP packet as it can be processed.

    `data` has exactly the length that the IP header states; `missing` bytes at its end were not captured and are zeros. `repairs` names headers that an
    offloading card had left open and that were filled in: "length", "header checksum".
    """

    data: bytes
    missing: int
    repairs: tuple[str, ...]


def cooked(frame: bytes) -> tuple[int, int]:
    """Linux cooked capture (tcpdump -i any), first version: 16 bytes, protocol last."""
    return int.from_bytes(frame[14:16]), 16


def cooked2(frame: bytes) -> tuple[int, int]:
    """Linux cooked capture, second version: 20 bytes, protocol first."""
    return int.from_bytes(frame[0:2]), 20


def raw(frame: bytes) -> tuple[int, int]:
    """No link header: the version nibble tells IPv4 from IPv6."""
    return {4: ETH_P_IP, 6: ETH_P_IPV6}.get(frame[0] >> 4 if frame else 0, 0), 0


def loopback(frame: bytes) -> tuple[int, int]:
    """BSD loopback: an address family of four bytes in the order of whichever machine captured."""
    family = int.from_bytes(frame[:4])
    return NULL_FAMILIES.get(family) or NULL_FAMILIES.get(int.from_bytes(frame[:4], "little"), 0), 4


#: link type → (what people call it, function). source: https://www.tcpdump.org/linktypes.html
LINK_TYPES: Final[dict[int, tuple[str, Callable[[bytes], tuple[int, int]]]]] = {
    0: ("loopback", loopback),
    1: ("Ethernet", ethernet),
    12: ("raw IP", raw),
    14: ("raw IP", raw),
    101: ("raw IP", raw),
    108: ("loopback", loopback),
    113: ("Linux cooked", cooked),
    228: ("raw IPv4", raw),
    229: ("raw IPv6", raw),
    276: ("Linux cooked v2", cooked2),
}


def ip_packet(link_type: int, frame: bytes, wire_length: int) -> IPBytes:
    """The IP packet in a captured frame. `wire_length`: bytes that the frame had on the wire, of which `frame` may be a part.

    Raises NotIP or Damaged.
    """
    name, header = LINK_TYPES[link_type]
    ethertype, offset = untagged(frame, *header(frame))
    if len(frame) < offset:
        raise Damaged(f"the capture holds {len(frame)} bytes of it, not even a whole {name} header")
    if ethertype == ETH_P_IP:
        return _ipv4(frame[offset:], wire_length - offset)
    if ethertype == ETH_P_IPV6:
        return _ipv6(frame[offset:], wire_length - offset)
    if ethertype < 0x600:
        raise NotIP("IEEE 802.3" if name == "Ethernet" else f"{name}, not IP")
    raise NotIP(ETHERTYPE_NAMES.get(ethertype) or f"EtherType 0x{ethertype:04x}")


def _ipv4(data: bytes, wire: int) -> IPBytes:
    header_length = (data[0] & 15) * 4 if data else 0
    if len(data) < 20 or len(data) < header_length:
        raise Damaged("the IPv4 header is not complete")
    if data[0] >> 4 != 4 or header_length < 20:
        raise Damaged("this is no IPv4 header")
    length = int.from_bytes(data[2:4])
    repairs: tuple[str, ...] = ()
    if length == 0 and header_length < wire <= 0xFFFF:
        length, repairs = wire, ("length",)  # the card splits the packet and writes the lengths
        data = data[:2] + pack("!H", length) + data[4:]
    data, missing = _trim(data, wire, length, header_length, first_of=not int.from_bytes(data[6:8]) & 0x1FFF, protocol=data[9])
    if csum16(data[:header_length]):
        data = data[:10] + pack("!H", csum16(data[:10] + data[12:header_length])) + data[12:]
        repairs += ("header checksum",)
    return IPBytes(data, missing, repairs)


def _ipv6(data: bytes, wire: int) -> IPBytes:
    if len(data) < 40:
        raise Damaged("the IPv6 header is not complete")
    if data[0] >> 4 != 6:
        raise Damaged("this is no IPv6 header")
    length = 40 + int.from_bytes(data[4:6])
    repairs: tuple[str, ...] = ()
    if length == 40 and data[6] != 59 and 40 < wire <= 0xFFFF:
        length, repairs = wire, ("length",)
        data = data[:4] + pack("!H", length - 40) + data[6:]
    protocol, offset = data[6], 40
    while protocol in IPV6_EXTENSIONS and offset + 8 <= len(data):
        protocol, offset = data[offset], offset + 8 * (data[offset + 1] + 1)
    data, missing = _trim(data, wire, length, offset, first_of=True, protocol=protocol)
    return IPBytes(data, missing, repairs)


def _trim(data: bytes, wire: int, length: int, header_length: int, *, first_of: bool, protocol: int) -> tuple[bytes, int]:
    """Cut Ethernet padding off; stand zeros in for payload that was not captured, so that the packet keeps its length."""
    if length < header_length:
        raise Damaged(f"the IP header states a length of {length} bytes, its own header takes {header_length}")
    if len(data) >= length:
        return data[:length], 0
    if wire < length:
        raise Damaged(f"the IP header states a length of {length} bytes, the frame carried {wire}")
    needed = header_length + TRANSPORT_HEADER.get(protocol, 0) if first_of else header_length
    if len(data) < min(needed, length):
        raise Damaged(f"only {len(data)} bytes were captured, its headers take {needed}")
    return data + bytes(length - len(data)), length - len(data)


def is_partial_checksum(data: bytes, protocol: int, offset: int, missing: int) -> bool:
    """True when the TCP or UDP checksum holds only the sum of the pseudo header, as a host leaves it to a card that fills in the rest.

    Captures taken on the sending machine are full of them. A complete checksum that equals that sum by chance is told apart by checking it.
    `offset`: where the transport header begins; `missing`: bytes at the end that were not captured.
    """
    at = offset + CHECKSUM_AT.get(protocol, len(data))
    if len(data) < at + 2:
        return False
    stated = int.from_bytes(data[at : at + 2])
    saddr, daddr = _addresses(data)
    # some drivers leave the length out where the card is going to split the packet
    if stated not in (pseudo_sum(saddr, daddr, protocol, len(data) - offset), pseudo_sum(saddr, daddr, protocol, 0)):
        return False
    return missing > 0 or pseudo_csum(saddr, daddr, protocol, data[offset:]) != 0


def complete_checksum(data: bytes, protocol: int, offset: int) -> bytes:
    """Do the card's work: the packet with its full TCP or UDP checksum in place of whatever stands there."""
    at = offset + CHECKSUM_AT[protocol]
    saddr, daddr = _addresses(data)
    checksum = pseudo_csum(saddr, daddr, protocol, data[offset:at] + b"\0\0" + data[at + 2 :])
    return data[:at] + pack("!H", checksum or 0xFFFF * (protocol == IPPROTO_UDP)) + data[at + 2 :]


def _addresses(data: bytes) -> tuple[int, int]:
    begin, size = (12, 4) if data[0] >> 4 == 4 else (8, 16)
    return int.from_bytes(data[begin : begin + size]), int.from_bytes(data[begin + size : begin + 2 * size])
