"""The iptables match: what it finds, what it tests, what inversion means."""

import pytest
from tests.lab import SERVERS, VIP, Lab, endpoint

from ipvs_model.apps import Ftp
from ipvs_model.errors import IPVSError
from ipvs_model.flags import PKT_HAS_CT, PKT_PROPERTY, Hook
from ipvs_model.packet import Packet
from ipvs_model.xt_ipvs import (
    IP_CT_DIR_ORIGINAL,
    IP_CT_DIR_REPLY,
    XT_IPVS_DIR,
    XT_IPVS_IPVS_PROPERTY,
    XT_IPVS_METHOD,
    XT_IPVS_PROTO,
    XT_IPVS_VADDR,
    XT_IPVS_VPORT,
    XT_IPVS_VPORTCTL,
    IpvsMatch,
)

VADDR = endpoint(f"{VIP}:0") >> 16
ALL = 0xFFFFFFFF


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.service("rr", "A")
    return lab


def sent(lab: Lab) -> Packet:
    """A translated packet on its way to the server."""
    left = lab.client("S").goes_to("A").left
    assert left is not None
    return left


@pytest.mark.parametrize(("handled", "invert", "matched"), [(True, 0, True), (False, 0, False), (True, 1, False), (False, 1, True)])
def test_alone_the_property_is_all_that_is_asked(lab, handled, invert, matched):
    packet = Packet.tcp("203.0.113.9:1", "198.51.100.9:2", "S", bits=PKT_PROPERTY if handled else 0)
    assert IpvsMatch(bitmask=XT_IPVS_IPVS_PROPERTY, invert=invert).matches(lab.ns, packet) == matched


def test_packet_that_ipvs_has_not_handled_matches_nothing_else(lab):
    packet = sent(lab)
    packet.bits = 0
    assert not IpvsMatch(bitmask=XT_IPVS_PROTO, l4proto=6).matches(lab.ns, packet)
    assert not IpvsMatch(bitmask=XT_IPVS_PROTO | XT_IPVS_IPVS_PROPERTY, invert=XT_IPVS_PROTO | XT_IPVS_IPVS_PROPERTY).matches(lab.ns, packet)


TESTS = [
    ({"bitmask": XT_IPVS_PROTO, "l4proto": 6}, True),
    ({"bitmask": XT_IPVS_PROTO, "l4proto": 17}, False),
    ({"bitmask": XT_IPVS_VADDR, "vaddr": VADDR, "vmask": ALL}, True),
    ({"bitmask": XT_IPVS_VADDR, "vaddr": VADDR ^ 1, "vmask": ALL}, False),
    ({"bitmask": XT_IPVS_VADDR, "vaddr": VADDR ^ 1, "vmask": ALL ^ 0xFF}, True),
    ({"bitmask": XT_IPVS_VADDR, "vaddr": 1, "vmask": 0}, True),
    ({"bitmask": XT_IPVS_VPORT, "vport": 80}, True),
    ({"bitmask": XT_IPVS_VPORT, "vport": 8080}, False),
    ({"bitmask": XT_IPVS_METHOD, "fwd_method": 0}, True),
    ({"bitmask": XT_IPVS_METHOD, "fwd_method": 3}, False),
    ({"bitmask": XT_IPVS_VPORTCTL, "vportctl": 21}, False),
]


@pytest.mark.parametrize(("match", "matched"), TESTS)
def test_each_test_and_its_inversion(lab, match, matched):
    packet = sent(lab)
    assert IpvsMatch(**match).matches(lab.ns, packet) == matched
    assert IpvsMatch(**match, invert=match["bitmask"]).matches(lab.ns, packet) != matched
    lab.check()


def test_all_tests_must_hold(lab):
    packet = sent(lab)
    both = XT_IPVS_PROTO | XT_IPVS_VPORT
    assert IpvsMatch(bitmask=both, l4proto=6, vport=80).matches(lab.ns, packet)
    assert not IpvsMatch(bitmask=both, l4proto=6, vport=81).matches(lab.ns, packet)
    assert IpvsMatch(bitmask=both, l4proto=6, vport=81, invert=XT_IPVS_VPORT).matches(lab.ns, packet)


@pytest.mark.parametrize(("direction", "plain", "inverted"), [(None, False, False), (IP_CT_DIR_ORIGINAL, True, False), (IP_CT_DIR_REPLY, False, True)])
def test_direction_is_that_of_the_conntrack_entry(lab, direction, plain, inverted):
    packet = sent(lab)
    assert IpvsMatch(bitmask=XT_IPVS_DIR).matches(lab.ns, packet, direction) == plain
    assert IpvsMatch(bitmask=XT_IPVS_DIR, invert=XT_IPVS_DIR).matches(lab.ns, packet, direction) == inverted


def test_translated_reply_matches_no_nat_connection(lab):
    lab.client("S")
    reply = lab.server("A", "SA").leaves_from(VIP).left
    assert not IpvsMatch(bitmask=XT_IPVS_VPORT, vport=80).matches(lab.ns, reply)


def test_direct_connection_is_found_by_its_virtual_address():
    lab = Lab()
    lab.service("rr", "A", forward="direct")
    left = lab.client("S").goes_to("A").left
    assert IpvsMatch(bitmask=XT_IPVS_METHOD | XT_IPVS_VPORT, fwd_method=3, vport=80).matches(lab.ns, left)


def test_data_connection_is_found_by_the_port_of_its_control_connection():
    lab = Lab(plugins=(Ftp(),))
    lab.service("rr", "A:21", port=21)
    lab.client("S", bits=PKT_HAS_CT)
    lab.client("PA", payload=b"PORT 203,0,113,5,200,10\r\n", bits=PKT_HAS_CT)
    data = lab.client("SA", 51210, vport=20, bits=PKT_HAS_CT).goes_to("A").left
    assert IpvsMatch(bitmask=XT_IPVS_VPORTCTL, vportctl=21).matches(lab.ns, data)
    assert not IpvsMatch(bitmask=XT_IPVS_VPORTCTL, vportctl=20).matches(lab.ns, data)


@pytest.mark.parametrize("protocol", [47, 1])
def test_unknown_protocol_matches_nothing(lab, protocol):
    packet = Packet.ip("203.0.113.5", SERVERS["A"], protocol, bytes(8), bits=PKT_PROPERTY)
    assert not IpvsMatch(bitmask=XT_IPVS_PROTO, l4proto=protocol).matches(lab.ns, packet)


def test_packet_without_connection_matches_nothing(lab):
    packet = Packet.tcp("203.0.113.5:40000", (SERVERS["A"], 8080), "S", bits=PKT_PROPERTY)
    assert not IpvsMatch(bitmask=XT_IPVS_PROTO, l4proto=6).matches(lab.ns, packet)


def test_looking_leaves_timer_and_reference_alone(lab):
    packet = sent(lab)
    expires = lab.conn().expires
    lab.wait(3)
    assert IpvsMatch(bitmask=XT_IPVS_VPORT, vport=80).matches(lab.ns, packet)
    assert (lab.conn().expires, lab.conn().refcnt) == (expires, 1)


@pytest.mark.parametrize("family", [0, 1, 7])
def test_only_ipv4_and_ipv6_tables_have_the_match(family):
    for good in (2, 10):
        IpvsMatch.check(good)
    with pytest.raises(IPVSError, match="Invalid argument"):
        IpvsMatch.check(family)


def test_icmp_of_a_connection_is_no_packet_of_it(lab):
    lab.client("S")
    inner = Packet.tcp((VIP, 80), ("203.0.113.5", 40000), "A").raw[:28]
    error = lab.says(Packet.icmp("198.51.100.9", VIP, 3, 1, bytes(4), inner, device="cli"), Hook.LOCAL_IN).verdict("STOLEN", "icmp forwarded").left
    assert error.bits & PKT_PROPERTY and not IpvsMatch(bitmask=XT_IPVS_VPORT, vport=80).matches(lab.ns, error)
