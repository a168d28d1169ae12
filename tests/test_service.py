"""Services: hash buckets, lookup order, dump order."""

import random
import struct

import pytest

from ipvs_model.addresses import parse_endpoint
from ipvs_model.dest import Dest
from ipvs_model.flags import AF_INET, AF_INET6, IP_VS_SVC_F_HASHED, IP_VS_SVC_F_PERSISTENT
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.service import ServiceUser, find_dest, svc_fwm_hashkey, svc_hashkey

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


@pytest.mark.parametrize(
    ("weights", "even"),
    [((), False), ((1,), True), ((0,), False), ((-1,), False), ((3, 3), True), ((0, 0), False), ((1, 2), False), ((2, 2, 1), False), ((1, 1, 1), True)],
)
def test_even_weights_are_the_same_and_above_0(weights, even):
    svc = IPVS().add_service("tcp", "10.0.0.1:80")
    assert (svc.even, svc.ebb, svc.least, svc.candidate, list(svc.candidates)) == (None, -1, 0, None, [])
    for number, weight in enumerate(weights):
        dest = Dest(svc, AF_INET, 0x0A000100 + number, 80)
        dest.svc = svc
        dest.weight = weight
        svc.link(dest)
    assert [dest.addr & 0xFF for dest in svc.destinations] == list(range(len(weights)))[::-1]
    assert svc.even is None
    assert svc.has_even_weights() is svc.even is even


def test_what_is_known_of_weights_is_forgotten_when_one_changes_comes_or_goes():
    svc = IPVS().add_service("tcp", "10.0.0.1:80")
    one, other = (Dest(svc, AF_INET, 0x0A000100 + number, 80) for number in range(2))
    for dest in (one, other):
        dest.svc = svc
        dest.weight = 1
    changes = [lambda: svc.link(one), lambda: svc.link(other), lambda: setattr(one, "weight", 1), lambda: svc.unlink(one)]
    for change in changes:
        svc.even, svc.ebb = True, 3
        change()
        assert (svc.even, svc.ebb) == (None, -1)
    assert svc.destinations == [other]
    svc.link(one)
    assert (svc.unlink(other), svc.unlink(one)) == (1, 0)


def test_weights_are_not_looked_at_again():
    svc = IPVS().add_service("tcp", "10.0.0.1:80")
    for known in (True, False):
        svc.even = known
        assert svc.has_even_weights() is known


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


def test_buckets_fold_every_word_of_an_address():
    rng = random.Random(1)
    for _ in range(50):
        addr, port, constant, protocol = rng.getrandbits(128), rng.getrandbits(16), rng.getrandbits(32), rng.choice((6, 17, 132))
        one, two, three, four = struct.unpack(">4I", addr.to_bytes(16))
        assert svc_hashkey(AF_INET6, protocol, addr, port, constant) == (protocol ^ one ^ two ^ three ^ four ^ port >> 8 ^ port ^ constant) % 256
        assert svc_hashkey(AF_INET, protocol, four, port, constant) == (protocol ^ four ^ port >> 8 ^ port ^ constant) % 256
        assert svc_fwm_hashkey(four, constant) == (four ^ constant) % 256


def test_mark_services_are_dumped_by_bucket_newest_first():
    ipvs = IPVS()
    for mark in (3, 1, 257, 2, 513):
        ipvs.add_service(fwmark=mark)
    ipvs.add_service("tcp", "10.0.0.1:80")
    ipvs.add_service("udp", "10.0.0.1:80")
    assert [svc.fwmark for svc in ipvs.services][2:] == [513, 257, 1, 2, 3]
    assert len(ipvs.ns.services) == 7


def test_a_new_service_and_one_that_is_taken_out():
    ipvs = IPVS()
    svc = ipvs.add_service("tcp", "10.0.0.1:80", flags=0x18, persistent=60)
    assert (svc.refcnt, svc.endpoint, svc.conntrack_afmask, svc.num_dests, svc.pe) == (1, 0x0A000001 << 16 | 80, 0, 0, None)
    assert (svc.flags, ipvs.ns.services.has_vip(AF_INET, svc.addr, 0)) == (IP_VS_SVC_F_HASHED | IP_VS_SVC_F_PERSISTENT | 0x18, True)
    ipvs.ns.services.unhash(svc)
    assert (svc.flags, svc.refcnt) == (IP_VS_SVC_F_PERSISTENT | 0x18, 0)
    assert (len(ipvs.ns.services), ipvs.ns.services.has_vip(AF_INET, svc.addr, 0)) == (0, False)


def test_a_destination_is_known_by_address_port_and_family():
    ipvs = IPVS()
    svc = ipvs.add_service("tcp", "10.0.0.1:80")
    dest = ipvs.add_dest(svc, "10.1.0.11:8080")
    assert svc.find_dest(AF_INET, dest.addr, 8080) is dest
    for af, addr, port in (
        (AF_INET6, dest.addr, 8080), (AF_INET - 1, dest.addr, 8080), (AF_INET, dest.addr - 1, 8080), (AF_INET, dest.addr + 1, 8080), (AF_INET, dest.addr, 8079),
        (AF_INET, dest.addr, 8081),
    ):  # fmt: skip
        assert svc.find_dest(af, addr, port) is None


@pytest.mark.parametrize(
    ("mark", "ports", "masq", "dport", "found"),
    [
        # an address service: the port of the message, else port 0
        (0, (8080, 0), True, 8080, 8080), (0, (8080, 0), False, 8080, 8080), (0, (8080, 0), False, 99, 0), (0, (8080,), True, 99, None), (0, (8080,), True, 0, None),
        # a mark service: for methods other than NAT port 0 comes first
        (7, (8080, 0), True, 8080, 8080), (7, (8080, 0), False, 8080, 0), (7, (8080,), False, 8080, 8080), (7, (0,), True, 8080, 0), (7, (8080,), False, 99, None),
    ],
)  # fmt: skip
def test_which_destination_a_sync_message_means(mark, ports, masq, dport, found):
    ipvs = IPVS()
    svc = ipvs.add_service("tcp", None if mark else "10.0.0.1:80", fwmark=mark)
    dests = {port: ipvs.add_dest(svc, ("10.1.0.11", port)) for port in ports}
    addr = next(iter(dests.values())).addr
    assert find_dest(ipvs.ns, AF_INET, AF_INET, addr, dport, 0x0A000001, 80, 6, mark, masq) is dests.get(found)
    assert find_dest(ipvs.ns, AF_INET, AF_INET, addr, dport, 0x0A000002, 80, 6, 0, masq) is None


@pytest.mark.parametrize(
    ("name", "high"),
    [
        ("protocol", 0xFFFF), ("addr", (1 << 128) - 1), ("port", 0xFFFF), ("fwmark", 0xFFFFFFFF), ("flags", 0xFFFFFFFF), ("flags_mask", 0xFFFFFFFF),
        ("timeout", 0xFFFFFFFF), ("netmask", 0xFFFFFFFF),
    ],
)  # fmt: skip
def test_a_request_takes_what_the_kernel_has_room_for(name, high):
    for value in (0, high):
        assert getattr(ServiceUser(**{name: value}), name) == value
    for value in (-1, high + 1):
        with pytest.raises(ValueError, match=name):
            ServiceUser(**{name: value})
    with pytest.raises(TypeError, match=name):
        ServiceUser(**{name: "1"})


def test_what_a_request_leaves_out():
    assert ServiceUser() == ServiceUser(
        af=AF_INET, protocol=6, addr=0, port=0, fwmark=0, sched_name="wlc", pe_name=None, flags=0, flags_mask=0xFFFFFFFF, timeout=0, netmask=0xFFFFFFFF
    )
    with pytest.raises(TypeError, match="sched_name"):
        ServiceUser(sched_name=None)
