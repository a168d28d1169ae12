"""Destinations by themselves: limits of a request, the overload rule as a table, and the table of real servers."""

import random
import struct

import pytest
from tests.lab import Lab

from ipvs_model.dest import MUCH, Dest, DestUser, RealServerTable, rs_hashkey
from ipvs_model.events import OverloadChanged
from ipvs_model.flags import AF_INET, AF_INET6, IP_VS_DEST_CF_AVAILABLE, IP_VS_DEST_F_OVERLOAD
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment

# --- requests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("addr", 0, (1 << 128) - 1), ("port", 0, 0xFFFF), ("conn_flags", 0, 0xFFFFFFFF), ("weight", -(1 << 31), (1 << 31) - 1), ("u_threshold", 0, 0xFFFFFFFF),
        ("l_threshold", 0, 0xFFFFFFFF), ("tun_type", 0, 0xFFFF), ("tun_port", 0, 0xFFFF), ("tun_flags", 0, 0xFFFF),
    ],
)  # fmt: skip
def test_a_request_takes_what_the_kernel_has_room_for(name, low, high):
    for value in (low, high):
        assert getattr(DestUser(**{name: value}), name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=name):
            DestUser(**{name: value})
    with pytest.raises(TypeError, match=name):
        DestUser(**{name: "1"})


def test_what_a_request_leaves_out():
    assert DestUser() == DestUser(addr=0, port=0, conn_flags=0, weight=1, u_threshold=0, l_threshold=0, af=0, tun_type=0, tun_port=0, tun_flags=0)


# --- overload -----------------------------------------------------------------------------------------------------------

BIND, EDIT, UNBIND = 1, 0, -1


@pytest.mark.parametrize(
    ("mode", "total", "upper", "lower", "before", "after"),
    [
        # no upper threshold: never
        (BIND, 9, 0, 0, True, False), (EDIT, 9, 0, 5, True, False), (UNBIND, 9, 0, 0, False, False), (BIND, 1, 1, 1, False, True),
        # a bind, asked at the upper threshold only: from the lower one up
        (BIND, 4, 4, 2, False, True), (BIND, 2, 4, 2, False, True), (BIND, 1, 4, 2, True, False),
        # an unbind, asked at the lower one only: from the upper one up
        (UNBIND, 4, 4, 2, False, True), (UNBIND, 5, 4, 2, False, True), (UNBIND, 3, 4, 2, True, False),
        # an edit: from the upper one up, and between the two if it was so before
        (EDIT, 4, 4, 2, False, True), (EDIT, 5, 4, 2, False, True), (EDIT, 3, 4, 2, True, True), (EDIT, 3, 4, 2, False, False), (EDIT, 2, 4, 2, True, True),
        (EDIT, 1, 4, 2, True, False),
        # connections are counted in 32 bits
        (EDIT, (1 << 32) + 3, 4, 2, False, False), (EDIT, 0xFFFFFFFF, 0xFFFFFFFF, 2, False, True), (EDIT, -1, 4, 2, False, True),
    ],
)  # fmt: skip
def test_overload(mode, total, upper, lower, before, after):
    lab = Lab().service("rr", "A")
    dest = lab.dest("A")
    changes = []
    lab.ipvs.subscribe(changes.append)
    other = 0x100
    dest.totalconns, dest.u_threshold, dest.l_threshold_val, dest.flags = total, upper, lower, other | (IP_VS_DEST_F_OVERLOAD if before else 0)
    dest.update_overload(mode)
    assert (dest.overloaded, dest.flags & other) == (after, other)
    said = OverloadChanged("__ip_vs_dest_update_overload", dest.key(), after, total & 0xFFFFFFFF)
    assert changes == ([] if before == after else [said])


def test_inactive_connections_are_never_below_none():
    dest = Lab().service("rr", "A").dest("A")
    dest.totalconns, dest.activeconns = 5, 2
    assert (dest.inactconns, repr(dest)) == (3, "<Dest 10.1.0.11:8080 w1 2/3>")
    dest.activeconns = 6
    assert dest.inactconns == 0


@pytest.mark.parametrize("active, total", [(0, 0), (2, 5), (-1, 0), (6, 5), (1 << 24, (1 << 24) + 3)])
def test_counts_of_connections_are_kept_in_two_sums(active, total):
    dest = Lab().service("rr", "A").dest("A")
    dest.totalconns, dest.activeconns = total, active
    assert (dest.activeconns, dest.totalconns, dest.overhead) == (active, total, 256 * active + total)
    dest.totalconns += 1
    assert (dest.activeconns, dest.totalconns, dest.refcnt) == (active, total + 1, 1 + total + 1)
    assert dest.ipvs.overheads_wrap == (active >= 1 << 21)


LOST, TAKEN, KEPT = "lost", "taken", "kept"


@pytest.mark.parametrize(
    ("overhead", "available", "becomes"),
    [
        (501, True, KEPT), (501, False, KEPT), (MUCH - 1, True, KEPT), (MUCH, True, LOST), (MUCH + 1, True, LOST), (500, True, LOST), (500, False, LOST),
        (499, True, TAKEN), (499, False, LOST), (-3, True, TAKEN), (1 - MUCH, True, TAKEN), (-MUCH, True, LOST),
        (-MUCH - 1, True, LOST),
    ],
)  # fmt: skip
def test_what_its_service_knows_of_overheads_when_that_of_one_has_changed(overhead, available, becomes):
    lab = Lab().service("wlc", "A", "B")
    svc, dest, other = lab.svc, lab.dest("A"), lab.dest("B")
    svc.ebb, svc.least, svc.candidate, svc.candidates = 7, 500, other, iter([other])
    flag = 0x100
    dest.cflags = flag | (IP_VS_DEST_CF_AVAILABLE if available else 0)
    dest.totalconns = overhead
    if becomes == TAKEN:  # it alone has the least
        assert (svc.ebb, svc.least, svc.candidate, list(svc.candidates)) == (7, overhead, dest, [])
    else:
        assert (svc.ebb, svc.least, svc.candidate, list(svc.candidates)) == (7 if becomes == KEPT else -1, 500, other, [other])


def test_one_that_belongs_to_no_service_has_nobody_to_tell():
    svc = Lab().service("wlc", "A").svc
    dest = Dest(svc, AF_INET, 1, 80)
    dest.weight = 3
    dest.totalconns = -1
    assert (dest.weight, dest.overhead) == (3, -1)


def test_putting_what_was_not_held_is_loud():
    dest = Lab().service("rr", "A").dest("A")
    held = dest.refcnt
    dest.hold()
    assert dest.refcnt == held + 1
    for _ in range(held):
        dest.put()
    with pytest.raises(AssertionError, match="once too often"):
        dest.put()


# --- the table of real servers ------------------------------------------------------------------------------------------


def test_buckets_fold_every_word_of_an_address():
    rng = random.Random(1)
    for _ in range(50):
        addr, port = rng.getrandbits(128), rng.getrandbits(16)
        one, two, three, four = struct.unpack(">4I", addr.to_bytes(16))
        assert rs_hashkey(AF_INET6, addr, port) == (one ^ two ^ three ^ four ^ port >> 4 ^ port) % 16
        assert rs_hashkey(AF_INET, four, port) == (four ^ port >> 4 ^ port) % 16


def bare(**values):
    """A destination that is in no table yet, a NAT one of a TCP service unless said otherwise."""
    ipvs = IPVS()
    dest = ipvs.add_dest(ipvs.add_service("tcp", "192.0.2.1:80"), "10.1.0.11:8080")
    dest.in_rs_table = False
    for name, value in values.items():
        setattr(dest, name, value)
    return dest


@pytest.mark.parametrize(
    ("values", "port"),
    [
        ({"conn_flags": 0}, 8080), ({"conn_flags": 1}, None), ({"conn_flags": 3}, None), ({"conn_flags": 4}, None), ({"conn_flags": 5}, None),
        ({"conn_flags": 2, "tun_port": 6080}, 0), ({"conn_flags": 2, "tun_type": 2, "tun_port": 6080}, 0), ({"conn_flags": 2, "tun_type": 1, "tun_port": 6080}, 6080),
        ({"conn_flags": 2, "tun_type": 3}, None),
    ],
)  # fmt: skip
def test_under_which_port_a_destination_is_found(values, port):
    table, dest = RealServerTable(), bare(**values)
    table.hash(dest)
    assert [number for number, bucket in enumerate(table.buckets) if bucket] == ([] if port is None else [rs_hashkey(AF_INET, dest.addr, port)])
    assert dest.in_rs_table is (port is not None)
    table.hash(dest)
    assert list(table) == ([] if port is None else [dest])
    table.unhash(dest)
    assert (list(table), dest.in_rs_table) == ([], False)
    table.unhash(dest)
    assert dest.in_rs_table is False


def in_one_bucket(port: int) -> list[int]:
    """Ports whose bucket is that of a port."""
    return [other for other in range(1, 200) if rs_hashkey(AF_INET, 0, other) == rs_hashkey(AF_INET, 0, port) and other != port]


def alone(dest: Dest) -> RealServerTable:
    """A table of this destination alone."""
    table = RealServerTable()
    dest.in_rs_table = False  # it has been in another table
    table.hash(dest)
    assert list(table) == [dest]
    return table


def found(dest: Dest, **other):
    wanted = {"af": dest.af, "protocol": dest.protocol, "addr": dest.addr, "port": dest.port} | other
    return alone(dest).find_real_service(**wanted) is dest


def test_a_real_server_is_found_by_all_that_it_is():
    dest = bare(port=80)
    assert found(dest)
    ports = in_one_bucket(80)
    assert min(ports) < 80 < max(ports)
    assert not any(found(dest, port=port) for port in ports)
    for other in ({"addr": dest.addr + 16}, {"addr": dest.addr - 16}, {"af": AF_INET6}, {"af": 1}, {"protocol": 5}, {"protocol": 17}):
        assert not found(dest, **other), other
    assert found(bare(port=80, vfwmark=7), protocol=17)
    assert not found(bare(port=0, conn_flags=2))


def ends(dest: Dest, **other):
    wanted = {"af": dest.af, "addr": dest.addr, "tun_port": dest.tun_port} | other
    return alone(dest).find_tunnel(**wanted) is dest


def test_the_end_of_a_tunnel_is_found_by_all_that_it_is():
    dest = bare(conn_flags=2, tun_type=1, tun_port=80)
    assert ends(dest)
    assert not any(ends(dest, tun_port=port) for port in in_one_bucket(80))
    for other in ({"addr": dest.addr + 16}, {"addr": dest.addr - 16}, {"af": AF_INET6}, {"af": 1}):
        assert not ends(dest, **other), other
    assert not ends(bare(port=80, tun_port=80))


def test_the_last_that_was_hashed_is_found_first():
    table, hashed = RealServerTable(), [bare() for _ in range(3)]
    for dest in hashed:
        table.hash(dest)
    for dest in reversed(hashed):
        assert table.find_real_service(AF_INET, 6, dest.addr, 8080) is dest
        table.unhash(dest)


# --- beginning and end --------------------------------------------------------------------------------------------------


def test_a_new_destination_is_idle_and_without_limits():
    ipvs = IPVS()
    svc = ipvs.add_service("tcp", "192.0.2.1:80")
    dest = Dest(svc, AF_INET, 0x0A01000B, 8080)
    assert (dest.protocol, dest.vaddr, dest.vport, dest.vfwmark, dest.svc, dest.refcnt) == (6, 0xC0000201, 80, 0, None, 1)
    nothing = (
        "flags", "cflags", "conn_flags", "weight", "last_weight", "tun_type", "tun_port", "tun_flags", "idle_start", "activeconns", "totalconns", "persistconns",
        "u_threshold", "l_threshold", "l_threshold_val",
    )  # fmt: skip
    assert {name: getattr(dest, name) for name in nothing} == dict.fromkeys(nothing, 0)
    assert (dest.in_rs_table, dest.available, dest.overloaded) == (False, False, False)
    dest.cflags = IP_VS_DEST_CF_AVAILABLE
    assert dest.available


def test_the_trash_gives_back_only_what_the_same_service_threw_away():
    ipvs = IPVS()
    services = {endpoint: ipvs.add_service("tcp", endpoint) for endpoint in ("192.0.2.2:80", "192.0.2.1:80", "192.0.2.3:80", "192.0.2.2:79", "192.0.2.2:81")}
    marked = ipvs.add_service("tcp", fwmark=7)
    other_mark = ipvs.add_service("tcp", fwmark=8)
    udp = ipvs.add_service("udp", "192.0.2.2:80")
    own = services["192.0.2.2:80"]
    for svc, others in ((own, [*services.values(), udp, marked][1:]), (marked, [own, other_mark])):
        dest = ipvs.add_dest(svc, "10.1.0.11:80")
        ipvs.delete_dest(svc, dest)
        trash = ipvs.ns.trash
        assert [trash.get(other, AF_INET, dest.addr, 80) for other in others] == [None] * len(others)
        for af, addr, port in ((AF_INET6, dest.addr, 80), (AF_INET, dest.addr + 1, 80), (AF_INET, dest.addr - 1, 80), (AF_INET, dest.addr, 79), (AF_INET, dest.addr, 81)):
            assert trash.get(svc, af, addr, port) is None
        assert trash.get(svc, AF_INET, dest.addr, 80) is dest
        assert trash.dests == []


@pytest.mark.parametrize(("now", "seen"), [(0, 1), (1, 1), (2, 2)])
def test_idleness_that_begins_in_jiffy_0_is_noted_as_1(now, seen):
    ipvs = IPVS(Environment(start_jiffies=now))
    svc = ipvs.add_service("tcp", "192.0.2.1:80")
    dest = ipvs.add_dest(svc, "10.1.0.11:80")
    ipvs.delete_dest(svc, dest)
    assert (dest.idle_start, ipvs.ns.trash.timer.expires) == (0, now + 60 * 250)
    ipvs.ns.trash.expire()
    assert (dest.idle_start, ipvs.ns.trash.timer.expires) == (seen, now + 60 * 250)
