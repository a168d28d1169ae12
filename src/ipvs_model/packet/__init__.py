"""Parsed packets: bytes in and out, checksums, rewriting, tunnels, ICMP errors, fragments."""

from ipvs_model.packet.packet import Packet as Packet
from ipvs_model.packet.parse import header_error as header_error
from ipvs_model.packet.view import IpHdr as IpHdr
from ipvs_model.packet.view import fill_iph as fill_iph
from ipvs_model.packet.view import fill_iph_at as fill_iph_at
