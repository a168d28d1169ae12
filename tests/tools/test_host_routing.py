"""A host's tables: local, on-link, through a gateway, unreachable; martians; learned path MTUs."""

import pytest

from ipvs_model import flags as F
from ipvs_model.addresses import parse_addr
from ipvs_model.flags import AF_INET, AF_INET6, Hook
from ipvs_model.packet import Packet
from ipvs_model.tools.host_routing import HostRouting


@pytest.fixture
def routing():
    routing = HostRouting()
    routing.add_device("cli", ["10.9.0.1/24", "2001:db8:9::1/64"])
    routing.add_device("rs", ["10.1.0.1/24", "2001:db8:1::1/64"], mtu=1400)
    routing.add_route("10.2.0.0/16", device="rs", via="10.1.0.254")
    routing.add_route("10.3.0.0/16")
    routing.add_route("default", device="cli")
    routing.add_route("::/0", device="cli")
    routing.add_local("192.0.2.0/24")
    routing.add_local("2001:db8:2::/64")
    return routing


def route(routing, address):
    af, addr = parse_addr(address)
    return routing.output_route(af, addr)


@pytest.mark.parametrize(
    ("address", "device", "next_hop", "source", "mtu"),
    [
        ("10.1.0.11", "rs", "10.1.0.11", "10.1.0.1", 1400),
        ("10.2.7.9", "rs", "10.1.0.254", "10.1.0.1", 1400),
        ("203.0.113.7", "cli", "203.0.113.7", "10.9.0.1", 1500),
        ("2001:db8:1::11", "rs", "2001:db8:1::11", "2001:db8:1::1", 1400),
        ("2001:db8:f::1", "cli", "2001:db8:f::1", "2001:db8:9::1", 1500),
    ],
)
def test_remote(routing, address, device, next_hop, source, mtu):
    found = route(routing, address)
    assert (found.local, found.device, found.next_hop, found.saddr, found.mtu) == (False, device, parse_addr(next_hop)[1], parse_addr(source)[1], mtu)


@pytest.mark.parametrize("address", ["192.0.2.77", "10.1.0.1", "127.0.0.1", "::1", "2001:db8:2::5", "2001:db8:9::1"])
def test_local(routing, address):
    found = route(routing, address)
    assert (found.local, found.device) == (True, "lo")
    assert routing.addr_type(*parse_addr(address)) == "local"


def test_unreachable_and_missing(routing):
    assert route(routing, "10.3.1.1") is None
    assert HostRouting().output_route(AF_INET, 1 << 24) is None


@pytest.mark.parametrize(
    ("address", "kind"), [("10.1.0.255", "broadcast"), ("10.1.0.0", "broadcast"), ("224.0.0.81", "multicast"), ("10.1.0.9", "unicast"), ("fe80::1", "linklocal")]
)
def test_address_types(routing, address, kind):
    assert routing.addr_type(*parse_addr(address)) == kind


@pytest.mark.parametrize(
    ("source", "destination", "hook"),
    [
        ("203.0.113.7", "192.0.2.1", Hook.LOCAL_IN),
        ("203.0.113.7", "10.1.0.11", Hook.FORWARD),
        ("10.1.0.11", "224.0.0.81", Hook.LOCAL_IN),
        ("192.0.2.1", "203.0.113.7", None),
        ("10.9.0.1", "10.1.0.11", None),
        ("127.0.0.1", "192.0.2.1", None),
        ("203.0.113.7", "127.0.0.1", None),
        ("224.0.0.1", "192.0.2.1", None),
        ("0.0.0.0", "192.0.2.1", None),
        ("203.0.113.7", "0.0.0.0", None),
        ("2001:db8:f::1", "2001:db8:2::1", Hook.LOCAL_IN),
        ("2001:db8:2::1", "2001:db8:f::1", Hook.FORWARD),
        ("::1", "2001:db8:2::1", None),
        ("ff02::1", "2001:db8:2::1", None),
    ],
)
def test_input(routing, source, destination, hook):
    assert routing.input_hook(Packet.icmp(source, destination, device="cli")) is hook


def test_what_comes_by_loopback_is_believed(routing):
    assert routing.input_hook(Packet.icmp("192.0.2.1", "10.9.0.1", device="lo")) is Hook.LOCAL_IN


def test_without_forwarding_foreign_packets_end(routing):
    routing.forwarding = False
    assert routing.input_hook(Packet.icmp("203.0.113.7", "10.1.0.11", device="cli")) is None


def test_marked_packets_may_be_local_by_policy(routing):
    routing.add_local_mark(5)
    packet = Packet.tcp("203.0.113.7:1", "198.51.100.1:80", device="cli", mark=5)
    assert routing.input_hook(packet) is Hook.LOCAL_IN
    assert routing.icmp_source(packet, Hook.LOCAL_IN) is None
    packet.mark = 0
    assert routing.input_hook(packet) is Hook.FORWARD


@pytest.mark.parametrize(
    ("destination", "hook", "source"),
    [
        ("192.0.2.1", Hook.LOCAL_IN, "192.0.2.1"),
        ("10.1.0.11", Hook.FORWARD, "10.9.0.1"),
        ("2001:db8:2::1", Hook.LOCAL_IN, "2001:db8:9::1"),
        ("2001:db8:1::1", Hook.LOCAL_IN, "2001:db8:1::1"),
    ],
)
def test_source_of_errors(routing, destination, hook, source):
    client = "203.0.113.7" if "." in destination else "2001:db8:f::1"
    assert routing.icmp_source(Packet.icmp(client, destination, device="cli"), hook) == parse_addr(source)[1]


def test_no_error_without_a_way_back(routing):
    assert routing.icmp_source(Packet.icmp("10.3.0.1", "10.1.0.11", device="cli"), Hook.FORWARD) is None


RS = parse_addr("10.1.0.11")[1]


def test_a_smaller_mtu_is_learned_for_ten_minutes(routing):
    now = [1000]
    routing.now = lambda: now[0]
    before = routing.output_route(AF_INET, RS)
    routing.update_pmtu(AF_INET, RS, 1300)
    assert routing.stale(before, RS)
    learned = routing.output_route(AF_INET, RS)
    assert (before.mtu, learned.mtu) == (1400, 1300)
    assert not routing.stale(learned, RS)
    assert route(routing, "10.1.0.12").mtu == 1400
    now[0] += 600 * 250 - 1
    assert routing.output_route(AF_INET, RS).mtu == 1300
    now[0] += 1
    assert routing.output_route(AF_INET, RS).mtu == 1400


def test_a_cached_route_shows_what_it_carries(routing):
    before = routing.output_route(AF_INET, RS)
    routing.update_pmtu(AF_INET, RS, 1300)
    assert routing.cached_mtu(before) == 1400
    carrier = routing.output_route(AF_INET, RS)
    routing.update_pmtu(AF_INET, RS, 1200)
    assert (routing.cached_mtu(before), routing.cached_mtu(carrier)) == (1400, 1200)
    assert routing.stale(carrier, RS)
    assert routing.output_route(AF_INET, RS).mtu == 1200


def test_a_larger_mtu_is_ignored(routing):
    routing.update_pmtu(AF_INET, RS, 1401)
    routing.update_pmtu(AF_INET, parse_addr("192.0.2.1")[1], 1000)
    assert route(routing, "10.1.0.11").mtu == 1400
    assert route(routing, "192.0.2.1").local


def test_below_552_it_is_locked_at_552(routing):
    routing.update_pmtu(AF_INET, RS, 100)
    assert route(routing, "10.1.0.11").mtu == 552
    routing.update_pmtu(AF_INET, RS, 540)
    assert route(routing, "10.1.0.11").mtu == 552


def test_ipv6_has_no_lower_bound_here(routing):
    af, addr = parse_addr("2001:db8:1::11")
    routing.update_pmtu(af, addr, 1280)
    assert routing.output_route(af, addr).mtu == 1280


def test_broadcast_and_multicast_links_are_not_forwarded(routing):
    packet = Packet.icmp("203.0.113.7", "10.1.0.11", device="cli", bits=F.PKT_NOT_TO_HOST)
    assert routing.input_hook(packet) is None


def test_names_are_unique_and_known(routing):
    with pytest.raises(ValueError, match="exists"):
        routing.add_device("cli")
    with pytest.raises(ValueError, match="no device"):
        routing.add_route("10.4.0.0/16", device="none")


def test_a_device_without_address_of_the_family_borrows_one(routing):
    routing.add_device("dummy", ["2001:db8:7::1/64"])
    routing.add_route("10.7.0.0/16", device="dummy")
    assert route(routing, "10.7.0.1").saddr == parse_addr("10.9.0.1")[1]


def test_a_changed_mtu_counts_at_once(routing):
    assert route(routing, "10.1.0.11").mtu == 1400
    routing.set_mtu("rs", 600)
    assert route(routing, "10.1.0.11").mtu == 600


def test_ipv6_addresses_of_the_prefix_are_local(routing):
    assert routing.is_local(AF_INET6, parse_addr("2001:db8:2::ffff")[1])
    assert not routing.is_own(AF_INET6, parse_addr("2001:db8:2::ffff")[1])
