"""The SIP engine: templates by client network and Call-ID, so that all requests of one call go to one server.

source: ip_vs_pe_sip.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve

from ipvs_model.engines.base import PersistenceEngine
from ipvs_model.engines.call_id import call_id
from ipvs_model.engines.outgoing import new_conn_out
from ipvs_model.flags import IP_VS_CONN_F_TEMPLATE, IPPROTO_UDP
from ipvs_model.jhash import jhash

if TYPE_CHECKING:
    from ipvs_model.conn import Conn, ConnParam
    from ipvs_model.dest import Dest
    from ipvs_model.packet import IpHdr, Packet
    from ipvs_model.service import Service

UDP_HEADER: Final = 8


class Sip(PersistenceEngine):
    """Persistence by Call-ID, for UDP only: any other packet is refused, also a TCP service's every new connection."""

    name = "sip"

    def fill_param(self, param: ConnParam, pkt: Packet) -> ConnParam | None:
        """The param with the packet's Call-ID; None if the packet is not UDP, empty, or has no readable Call-ID.

        The UDP length is not looked at. source: ip_vs_pe_sip.c, ip_vs_sip_fill_param
        """
        if pkt.proto != IPPROTO_UDP:
            return None
        found = call_id(pkt.l4_bytes[UDP_HEADER:])
        return None if found is None else evolve(param, pe=self, pe_data=found)

    def ct_match(self, param: ConnParam, ct: Conn) -> bool:
        """Same client network, virtual address and port, and the same Call-ID, byte for byte (source: ip_vs_pe_sip.c, ip_vs_sip_ct_match)."""
        return bool(
            ct.af == param.af
            and ct.client >> 16 == param.client >> 16
            and ct.virt == param.virt
            and ct.flags & IP_VS_CONN_F_TEMPLATE
            and ct.protocol == param.protocol
            and ct.pe_data == param.pe_data
        )

    def hashkey_raw(self, pe_data: bytes, initval: int, inverse: bool) -> int:
        """A 32-bit hash of the Call-ID.

        source: ip_vs_pe_sip.c, ip_vs_sip_hashkey_raw

        >>> hex(Sip().hashkey_raw(b"xyz", 0, False))
        '0xef8d7c58'
        """
        return jhash(pe_data, initval)

    def conn_out(self, svc: Service, dest: Dest, pkt: Packet, iph: IpHdr, sport: int, dport: int) -> Conn | None:
        """A connection for a call that a real server begins (source: ip_vs_pe_sip.c, ip_vs_sip_conn_out)."""
        return new_conn_out(svc, dest, pkt, iph, sport, dport) if iph.protocol == IPPROTO_UDP else None
