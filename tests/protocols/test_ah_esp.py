"""AH and ESP belong to the UDP connection of their ISAKMP exchange (spec/40, AH and ESP)."""

from __future__ import annotations

from typing import Any

import pytest

from ipvs_model.addresses import parse_endpoint
from ipvs_model.flags import IP_VS_HDR_ICMP, IP_VS_HDR_INVERSE
from ipvs_model.netns import Environment, Netns
from ipvs_model.packet import Packet
from ipvs_model.packet.view import fill_iph
from ipvs_model.protocols.ah_esp import AH, ESP, AhEsp


class Lookups:
    """A connection table that notes what is looked up."""

    def in_get(self, *key: int) -> Any:
        return ("in", *key)

    def out_get(self, *key: int) -> Any:
        return ("out", *key)


@pytest.fixture
def ns() -> Netns:
    ns = Netns(Environment())
    ns.conns = Lookups()  # type: ignore[assignment]
    return ns


def endpoint(text: str) -> int:
    _, addr, port = parse_endpoint(text)
    return addr << 16 | port


CLIENT, VIP = "198.51.100.7", "203.0.113.10"


@pytest.mark.parametrize(("pp", "make"), [(AH, Packet.ah), (ESP, Packet.esp)])
def test_the_lookup_is_for_the_isakmp_connection(ns: Netns, pp: AhEsp, make: Any) -> None:
    pkt = make(CLIENT, VIP)
    client, virtual = endpoint(f"{CLIENT}:500"), endpoint(f"{VIP}:500")
    assert pp.conn_in_get(ns, pkt, fill_iph(pkt)) == ("in", 2, 17, client, virtual)
    assert pp.conn_out_get(ns, pkt, fill_iph(pkt)) == ("out", 2, 17, client, virtual)


def test_a_quoted_packet_is_looked_up_with_its_addresses_swapped(ns: Netns) -> None:
    pkt = Packet.esp(VIP, CLIENT)
    iph = fill_iph(pkt, IP_VS_HDR_INVERSE | IP_VS_HDR_ICMP)
    client, virtual = endpoint(f"{CLIENT}:500"), endpoint(f"{VIP}:500")
    assert ESP.conn_in_get(ns, pkt, iph) == ("in", 2, 17, client, virtual)
    assert ESP.conn_out_get(ns, pkt, iph) == ("out", 2, 17, client, virtual)


def test_ipv6(ns: Netns) -> None:
    pkt = Packet.esp("2001:db8::7", "2001:db8:2::1")
    assert ESP.conn_in_get(ns, pkt, fill_iph(pkt)) == ("in", 10, 17, endpoint("[2001:db8::7]:500"), endpoint("[2001:db8:2::1]:500"))


@pytest.mark.parametrize("cut", [20, 22])
def test_the_transport_header_is_not_read(ns: Netns, cut: int) -> None:
    raw = Packet.esp(CLIENT, VIP).raw
    pkt = Packet.parse(raw[:2] + cut.to_bytes(2, "big") + raw[4:cut])
    assert ESP.conn_in_get(ns, pkt, fill_iph(pkt)) == ("in", 2, 17, endpoint(f"{CLIENT}:500"), endpoint(f"{VIP}:500"))


def test_never_scheduled(ns: Netns) -> None:
    pkt = Packet.esp(CLIENT, VIP)
    assert ESP.start_gate(ns, pkt, fill_iph(pkt)) is False


@pytest.mark.parametrize(("pp", "name", "number"), [(AH, "AH", 51), (ESP, "ESP", 50)])
def test_members(ns: Netns, pp: AhEsp, name: str, number: int) -> None:
    assert (pp.name, pp.protocol, pp.num_states, pp.dont_defrag, pp.has_nat_handlers, pp.has_apps) == (name, number, 1, True, False, False)
    assert pp.state_name(0) == "ERR!"
    assert pp.net_init(ns).states == (), "no timeout table"


def test_debug_texts() -> None:
    pkt = Packet.esp(CLIENT, VIP, spi=0x00010002)
    assert ESP.debug_packet(pkt, "Incoming packet") == "IPVS: Incoming packet: ESP 198.51.100.7:1->203.0.113.10:2"
    assert ESP.unknown_text(fill_iph(pkt), outgoing=False) == "IPVS: Unknown ISAKMP entry for outin packet ESP 198.51.100.7->203.0.113.10"
    quoted = fill_iph(Packet.ah(VIP, CLIENT), IP_VS_HDR_ICMP)
    assert AH.unknown_text(quoted, outgoing=True) == "IPVS: Unknown ISAKMP entry for inout packet ICMP+AH 203.0.113.10->198.51.100.7"
