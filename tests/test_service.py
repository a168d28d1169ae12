"""Services: hash buckets, lookup order, dump order."""

import pytest

from ipvs_model.addresses import parse_endpoint
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.service import svc_fwm_hashkey, svc_hashkey

BUCKETS = [
    (6, "10.0.0.1:80", 87, 13),
    (6, "10.0.0.1:443", 189, 231),
    (6, "10.0.0.1:8080", 136, 210),
    (17, "10.0.0.1:53", 37, 127),
    (132, "192.168.0.10:3868", 157, 199),
    (6, "[2001:db8::1]:80", 239, 181),
    (6, "[2001:db8:0:1::a:5]:443", 0, 90),
]


@pytest.mark.parametrize(("protocol", "endpoint", "plain", "shifted"), BUCKETS)
def test_buckets_of_address_services(protocol, endpoint, plain, shifted):
    af, addr, port = parse_endpoint(endpoint)
    assert svc_hashkey(af, protocol, addr, port) == plain
    assert svc_hashkey(af, protocol, addr, port, 0x5A) == shifted


@pytest.mark.parametrize(("mark", "plain", "shifted"), [(1, 1, 91), (2, 2, 88), (256, 0, 90), (0x12345678, 120, 34)])
def test_buckets_of_mark_services(mark, plain, shifted):
    assert svc_fwm_hashkey(mark) == plain
    assert svc_fwm_hashkey(mark, 0x5A) == shifted


def find(ipvs, protocol, endpoint, mark=0):
    af, addr, port = parse_endpoint(endpoint)
    return ipvs.ns.services.find(af, mark, protocol, addr, port)


def test_ports_20_and_1024_up_go_to_the_ftp_service_others_to_the_port_zero_one():
    ipvs = IPVS()
    ftp = ipvs.add_service("tcp", "10.0.0.1:21")
    null = ipvs.add_service("tcp", "10.0.0.1:0")
    assert find(ipvs, 6, "10.0.0.1:5000") is ftp
    assert find(ipvs, 6, "10.0.0.1:20") is ftp
    assert find(ipvs, 6, "10.0.0.1:80") is null
    assert find(ipvs, 17, "10.0.0.1:5000") is None


def test_with_unprivileged_ports_from_0_every_port_goes_to_the_ftp_service():
    ipvs = IPVS(Environment(unprivileged_port_start=0))
    ftp = ipvs.add_service("tcp", "10.0.0.1:21")
    assert find(ipvs, 6, "10.0.0.1:80") is ftp


def test_a_mark_wins_whatever_the_address_and_an_unknown_mark_falls_through():
    ipvs = IPVS()
    marked = ipvs.add_service(fwmark=7)
    exact = ipvs.add_service("tcp", "10.0.0.1:80")
    assert find(ipvs, 17, "9.9.9.9:9", mark=7) is marked
    assert find(ipvs, 6, "10.0.0.1:80", mark=7) is marked
    assert find(ipvs, 6, "10.0.0.1:80", mark=8) is exact


def test_services_are_dumped_by_bucket_newest_first_marks_last():
    ipvs = IPVS()
    made = [
        ipvs.add_service("tcp", "10.0.0.1:80"),
        ipvs.add_service("tcp", "10.0.0.1:8080"),
        ipvs.add_service("udp", "10.0.0.1:53"),
        ipvs.add_service(fwmark=1),
    ]
    made.append(ipvs.add_service("tcp", "[2001:db8::1]:80"))
    assert [made.index(svc) for svc in ipvs.services] == [2, 0, 1, 4, 3]


def test_the_persistence_timeout_wraps_at_32_bits():
    ipvs = IPVS()
    assert ipvs.add_service("tcp", "10.0.0.1:80", persistent=17179869).timeout == 4294967250
    assert ipvs.add_service("tcp", "10.0.0.1:81", persistent=17179870).timeout == 204
