"""Where the IP packet is in an Ethernet frame."""

from __future__ import annotations

from typing import Final

ETHERNET_HEADER: Final = 14  #: bytes
ETH_P_IP: Final = 0x0800
ETH_P_IPV6: Final = 0x86DD
VLAN_TAGS: Final = frozenset((0x8100, 0x88A8, 0x9100))


def ethernet(frame: bytes) -> tuple[int, int]:
    """EtherType and offset of what an Ethernet II frame carries; a length field (802.3) counts as no EtherType."""
    return int.from_bytes(frame[12:14], "big"), ETHERNET_HEADER


def untagged(frame: bytes, ethertype: int, offset: int) -> tuple[int, int]:
    """EtherType and offset of what stands behind the VLAN tags at `offset`, if there are any."""
    while ethertype in VLAN_TAGS:
        ethertype, offset = int.from_bytes(frame[offset + 2 : offset + 4], "big"), offset + 4
    return ethertype, offset


def carried_ip(frame: bytes) -> bytes:
    """The bytes behind the link header of an Ethernet II frame. Raises ValueError unless it says that they are IP, of the version that they are."""
    ethertype, offset = untagged(frame, *ethernet(frame))
    if len(frame) <= offset:
        raise ValueError(f"a frame of {len(frame)} bytes, its Ethernet header takes {offset}")
    if ethertype not in (ETH_P_IP, ETH_P_IPV6):
        raise ValueError(f"the frame carries no IP: EtherType 0x{ethertype:04x}")
    version = 4 if ethertype == ETH_P_IP else 6
    if frame[offset] >> 4 != version:
        raise ValueError(f"the frame should carry IPv{version}, its packet says version {frame[offset] >> 4}")
    return frame[offset:]
