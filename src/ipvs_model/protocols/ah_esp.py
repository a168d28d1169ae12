"""AH and ESP: no connections of their own; a packet belongs to the UDP connection of its ISAKMP exchange.

source: ip_vs_proto_ah_esp.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.addresses import format_addr
from ipvs_model.flags import IP_VS_HDR_ICMP, IP_VS_HDR_INVERSE, IPPROTO_AH, IPPROTO_ESP, IPPROTO_UDP
from ipvs_model.protocol import Protocol

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.netns import Netns
    from ipvs_model.packet import IpHdr, Packet

PORT_ISAKMP: Final = 500


class AhEsp(Protocol):
    """What AH and ESP have in common. The transport header is never read, so fragments and short packets are found too."""

    dont_defrag = True
    has_nat_handlers = False
    has_apps = False

    @property
    def num_states(self) -> int:
        """One, though no connection ever has it and there is no timeout table."""
        return 1

    def state_name(self, index: int) -> str:
        """Always ``ERR!``: these protocols name no states."""
        return "ERR!"

    def conn_in_get(self, ns: Netns, pkt: Packet, iph: IpHdr) -> Conn | None:
        """The ISAKMP connection client:500 → virtual:500, with a reference (source: ip_vs_proto_ah_esp.c, ah_esp_conn_in_get)."""
        return ns.conns.in_get(iph.af, IPPROTO_UDP, *isakmp_endpoints(iph))

    def conn_out_get(self, ns: Netns, pkt: Packet, iph: IpHdr) -> Conn | None:
        """The ISAKMP connection that server:500 answers, with a reference (source: ip_vs_proto_ah_esp.c, ah_esp_conn_out_get)."""
        return ns.conns.out_get(iph.af, IPPROTO_UDP, *isakmp_endpoints(iph))

    def start_gate(self, ns: Netns, pkt: Packet, iph: IpHdr) -> bool | None:
        """Never scheduled: the packet is accepted (source: ip_vs_proto_ah_esp.c, ah_esp_conn_schedule)."""
        return False

    def unknown_text(self, iph: IpHdr, *, outgoing: bool) -> str:
        """The line that a debug kernel prints when there is no ISAKMP connection."""
        icmp = "ICMP+" if iph.hdr_flags & IP_VS_HDR_ICMP else ""
        way = "inout" if outgoing else "outin"
        return f"IPVS: Unknown ISAKMP entry for {way} packet {icmp}{self.name} {format_addr(iph.af, iph.saddr)}->{format_addr(iph.af, iph.daddr)}"


class Ah(AhEsp):
    """IP Authentication Header (IPv4 only: for IPv6 it is an extension header that is walked past)."""

    name = "AH"
    protocol = IPPROTO_AH


class Esp(AhEsp):
    """IP Encapsulating Security Payload."""

    name = "ESP"
    protocol = IPPROTO_ESP


def isakmp_endpoints(iph: IpHdr) -> tuple[int, int]:
    """First and second endpoint of the lookup key: the packet's addresses, port 500, swapped for a quoted packet.

    source: ip_vs_proto_ah_esp.c, ah_esp_conn_fill_param_proto
    """
    source, destination = iph.saddr << 16 | PORT_ISAKMP, iph.daddr << 16 | PORT_ISAKMP
    return (destination, source) if iph.hdr_flags & IP_VS_HDR_INVERSE else (source, destination)


AH: Final = Ah()
ESP: Final = Esp()
