"""Destinations: thresholds, list order, the trash and its phases, reinstatement, mixed families (worked examples of the specification of services and destinations)."""

from itertools import pairwise

import pytest
from tests.lab import SERVERS, VIP, VIP6, Lab, endpoint

from ipvs_model.dest import DestUser, rs_hashkey
from ipvs_model.errors import IPVSError
from ipvs_model.flags import AF_INET, AF_INET6
from ipvs_model.sync.daemon import DaemonUser

PERIODS = {100: 6144, 250: 15360, 300: 18432, 1000: 61440}


def bound(lab: Lab, count: int, sport: int = 30000) -> None:
    """Connections to the only server."""
    for port in range(sport, sport + count):
        lab.client("S", port)


# --- thresholds ---


@pytest.mark.parametrize(
    ("upper", "lower_in_effect"),
    [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 6), (8, 6), (9, 7), (10, 8), (12, 9), (13, 10), (100, 75), (1001, 751)],
)
def test_default_lower_threshold_is_three_quarters_rounded_up(lab, upper, lower_in_effect):
    lab.service("rr")
    assert lab.add("A", u_threshold=upper).l_threshold_val == lower_in_effect


@pytest.mark.parametrize(
    ("upper", "lower", "on_the_way_up", "on_the_way_down"),
    [
        (4, 0, "00011", "11100"),
        (10, 6, "0000000001", "1111100000"),
        (1, 0, "11", "11"),
        (3, 3, "001", "100"),
    ],
)
def test_overload_on_the_way_up_and_down(lab, upper, lower, on_the_way_up, on_the_way_down):
    """One letter for each connection that is bound, then for each that ends, while others are there; templates fill beyond the threshold."""
    lab.service("rr", "A", u_threshold=upper, l_threshold=lower, persistent=300)
    dest = lab.dest("A")
    seen = ""
    for number in range(len(on_the_way_up)):
        lab.client("S", 30000 + number).goes_to("A")
        seen += str(int(dest.overloaded))
    assert seen == on_the_way_up
    seen = ""
    for number in range(len(on_the_way_up)):
        seen += str(int(dest.overloaded))
        lab.conn(30000 + number).expire_now()
        lab.wait(jiffies=1)
    assert seen == on_the_way_down
    assert not dest.overloaded


def test_overload_changes_by_edits_at_ten_connections(lab):
    lab.service("rr", "A")
    bound(lab, 10)
    dest = lab.dest("A")
    edits = [(20, 0, False), (5, 0, True), (12, 0, True), (20, 0, False), (12, 0, False), (10, 0, True), (12, 11, False), (0, 0, False), (10, 10, True)]
    for upper, lower, overloaded in edits:
        lab.edit("A", u_threshold=upper, l_threshold=lower)
        assert dest.overloaded == overloaded, (upper, lower)


def test_edit_with_the_same_thresholds_leaves_overload_alone(lab):
    lab.service("rr", "A", u_threshold=4)
    bound(lab, 4)
    lab.conn(30000).expire_now()
    lab.wait(jiffies=1).edit("A", weight=7)
    assert lab.dest("A").overloaded, "3 of 4: it would not have been set now"


def test_overloaded_server_gets_nothing_new(lab):
    lab.service("rr", "A", u_threshold=1)
    lab.client("S").goes_to("A")
    lab.client("S", 40001).is_refused(3, 3).dropped("no destination")


def test_persistent_connections_go_beyond_the_threshold(lab):
    lab.service("rr", "A", u_threshold=1, persistent=300)
    bound(lab, 3)
    assert (lab.dest("A").totalconns, lab.dest("A").overloaded) == (3, True)


# --- order, weights ---


def order(lab: Lab) -> str:
    return "".join(name for dest in lab.svc.destinations for name, address in SERVERS.items() if dest.addr == endpoint(f"{address}:0") >> 16)


def test_destinations_are_kept_newest_first(lab):
    lab.service("rr", "A", "B", "C")
    assert order(lab) == "CBA"
    lab.edit("B", weight=3)
    assert order(lab) == "CBA"
    lab.delete("B").add("B")
    assert order(lab) == "BCA"


def test_last_weight_is_the_last_one_that_was_not_zero(lab):
    lab.service("rr", "A", weight=5)
    dest = lab.dest("A")
    lab.edit("A", weight=0)
    assert (dest.weight, dest.last_weight) == (0, 5)
    lab.edit("A", weight=3)
    assert (dest.weight, dest.last_weight) == (3, 3)
    lab.delete("A").add("A", weight=0)
    assert (lab.dest("A") is dest, dest.weight, dest.last_weight) == (True, 0, 0)


@pytest.mark.parametrize(("forward", "conn_flags"), [("masq", 0x0100), ("direct", 0x0183), ("tunnel", 0x0182), ("local", 0x0181), ("bypass", 0x0184)])
def test_connection_flags_of_a_destination(lab, forward, conn_flags):
    lab.service("rr", "A", forward=forward)
    assert lab.dest("A").conn_flags == conn_flags


def test_edit_keeps_counters_and_connections(lab):
    lab.service("rr", "A")
    bound(lab, 3)
    lab.edit("A", weight=9, forward="direct", u_threshold=100)
    lab.stats(lab.dest("A").stats, 3, 3, 0, 120, 0).counts("A", 3, 0)
    assert {cp.method for cp in lab.ipvs.conns()} == {0}


# --- real-server table ---


@pytest.mark.parametrize(
    ("address", "port", "bucket"), [("10.1.0.2", 80, 7), ("10.1.0.3", 80, 6), ("10.1.0.2", 0, 2), ("10.1.0.2", 6080, 14), ("2001:db8::2", 443, 10)]
)
def test_buckets_of_the_real_server_table(address, port, bucket):
    six = ":" in address
    addr = endpoint(f"[{address}]:0" if six else f"{address}:0") >> 16
    assert rs_hashkey(AF_INET6 if six else AF_INET, addr, port) == bucket


@pytest.mark.parametrize(
    ("options", "hashed"),
    [
        ({}, True),
        ({"forward": "tunnel"}, True),
        ({"forward": "tunnel", "tun_type": "gre"}, True),
        ({"forward": "tunnel", "tun_type": "gue", "tun_port": 6080}, True),
        ({"forward": "tunnel", "tun_type": 3}, False),
        ({"forward": "direct"}, False),
        ({"forward": "local"}, False),
        ({"forward": "bypass"}, False),
    ],
)
def test_who_stands_in_the_real_server_table(lab, options, hashed):
    lab.service("rr", "A:80", **options)
    dest = lab.dest("A")
    assert (dest.in_rs_table, dest in list(lab.ns.rs_table)) == (hashed, hashed)
    lab.delete("A")
    assert (dest.in_rs_table, list(lab.ns.rs_table)) == (False, [])


def test_edit_moves_a_destination_to_the_front_of_its_bucket_only_if_its_method_or_tunnel_changes(lab):
    lab.service("rr", "A:80", address="192.0.2.1")
    first = lab.dest("A")
    lab.service("rr", "A:80", address="192.0.2.2")
    second = lab.svc.destinations[0]
    bucket = next(b for b in lab.ns.rs_table.buckets if b)
    assert bucket == [second, first]
    lab.ipvs.edit_dest(first.svc, first, weight=3)
    assert bucket == [second, first]
    lab.ipvs.edit_dest(first.svc, first, forward="direct")
    assert bucket == [second]
    lab.ipvs.edit_dest(first.svc, first, forward="masq")
    assert bucket == [first, second]


# --- trash ---


def trash(lab: Lab) -> list[int]:
    """Jiffies since each trashed destination was seen idle, -1: not yet."""
    return [lab.clock.now - dest.idle_start if dest.idle_start else -1 for dest in lab.ns.trash.dests]


def test_unused_destination_is_freed_after_three_ticks_of_an_exact_timer():
    lab = Lab(timers="exact")
    lab.service("rr", "A").delete("A")
    lab.at(59.996)
    assert trash(lab) == [-1]
    lab.at(60)
    assert trash(lab) == [0]
    lab.at(120)
    assert trash(lab) == [60 * lab.hz]
    lab.at(179.996)
    assert len(trash(lab)) == 1
    lab.at(180)
    assert (trash(lab), lab.ns.trash.timer.pending, lab.svc.refcnt) == ([], False, 1)


def test_referenced_destination_is_idle_from_the_first_tick_without_references():
    lab = Lab(timers="exact")
    lab.service("rr", "A")
    lab.at(100)
    lab.client("S").goes_to("A")
    lab.at(110).delete("A")
    lab.at(160)
    assert lab.dest("A").refcnt == 1, "its connection has ended"
    lab.at(169.996)
    assert trash(lab) == [-1]
    lab.at(170)
    assert trash(lab) == [0]
    lab.at(289.996)
    assert len(trash(lab)) == 1
    lab.at(290)
    assert trash(lab) == []


def test_connection_that_outlives_a_tick_delays_its_destination():
    """Deleted at T with a connection that ends at T+70: idle from T+120, freed at T+240."""
    lab = Lab(timers="exact")
    lab.service("rr", "A")
    lab.at(10).client("S")
    lab.client("FA").state("TIME_WAIT", 120)
    lab.at(60).delete("A")
    lab.at(119.996)
    assert trash(lab) == [-1]
    lab.at(130)
    assert lab.dest("A").refcnt == 1
    lab.at(180)
    assert trash(lab) == [0]
    lab.at(299.996)
    assert len(trash(lab)) == 1
    lab.at(300)
    assert trash(lab) == []


@pytest.mark.parametrize("hz", sorted(PERIODS))
def test_wheel_makes_the_trash_period_longer(hz):
    lab = Lab(hz=hz)
    lab.service("rr", "A", "B").established("B")
    lab.delete("B")
    ticks = []
    while len(ticks) < 4:
        deadline = lab.ns.trash.timer.bucket.tick
        lab.clock.advance_to(deadline)
        ticks.append(deadline)
    assert {after - before for before, after in pairwise(ticks)} == {PERIODS[hz]}
    lab.check()


@pytest.mark.parametrize("hz", sorted(PERIODS))
def test_on_the_wheel_a_destination_is_freed_at_the_second_tick_after_it_was_seen_idle(hz):
    lab = Lab(hz=hz)
    lab.service("rr", "A").delete("A")
    first = lab.ns.trash.timer.bucket.tick
    lab.clock.advance_to(first)
    assert trash(lab) == [0]
    lab.clock.advance_to(first + 2 * PERIODS[hz] - 1)
    assert len(trash(lab)) == 1
    lab.clock.advance(1)
    assert trash(lab) == []
    lab.check()


def test_later_deletions_share_the_phase_of_the_first():
    lab = Lab(timers="exact")
    lab.service("rr", "A", "B").delete("A").at(50).delete("B")
    lab.at(60)
    assert trash(lab) == [0, 0]
    lab.at(180)
    assert trash(lab) == []


def test_newest_deletion_stands_first(lab):
    lab.service("rr", "A", "B", "C").delete("A").delete("C").delete("B")
    assert [dest.addr & 0xFF for dest in lab.ns.trash.dests] == [12, 13, 11]


# --- reinstatement ---


def test_destination_added_again_is_the_same_one_with_its_connections(lab):
    lab.service("rr", "A", weight=5).established()
    dest = lab.dest("A")
    before = dest.stats.live()
    lab.delete("A").wait(5).add("A", weight=2, u_threshold=7)
    assert lab.dest("A") is dest and lab.svc.destinations == [dest] and lab.ns.trash.dests == []
    assert (dest.weight, dest.last_weight, dest.u_threshold, dest.available, dest.refcnt) == (2, 2, 7, True, 2)
    lab.stats(dest.stats, *before).counts("A", 1, 0)
    lab.client("PA").goes_to("A").state("ESTABLISHED", 900)


def test_service_made_again_takes_its_servers_over_with_statistics_at_zero(lab):
    lab.service("rr", "A").established()
    dest, old = lab.dest("A"), lab.svc
    lab.ns.estimator.estimate_now()
    assert dest.stats.shown().inpkts == 2
    lab.ipvs.delete_service(old)
    assert old.refcnt == 1
    lab.service("wlc", "A")
    assert lab.svc.destinations == [dest] and dest.svc is lab.svc is not old
    assert (old.refcnt, lab.svc.refcnt, dest.stats.shown().inpkts) == (0, 2, 0)
    lab.client("PA").goes_to("A")
    lab.stats(lab.svc.stats, 0, 1, 0, 40, 0)


def test_same_service_keeps_the_servers_statistics(lab):
    lab.service("rr", "A").established()
    lab.ns.estimator.estimate_now()
    lab.delete("A").add("A")
    assert lab.dest("A").stats.shown().inpkts == 2


@pytest.mark.parametrize(("other", "found"), [({"port": 80}, True), ({"port": 81}, False), ({"address": "192.0.2.2"}, False), ({"protocol": "udp"}, False)])
def test_trash_is_searched_by_the_identity_of_the_service(lab, other, found):
    lab.service("rr", "A:80")
    dest = lab.dest("A")
    lab.ipvs.delete_service(lab.svc)
    lab.service("rr", "A:80", **other)
    assert (lab.svc.destinations[0] is dest) == found


def test_trash_of_a_mark_service_ignores_its_family(lab):
    lab.service("rr", "10.1.0.11:0", fwmark=7, forward="tunnel")
    (dest,) = lab.svc.destinations
    lab.ipvs.delete_service(lab.svc)
    lab.service("rr", "10.1.0.11:0", fwmark=7, ipv6=True, forward="tunnel")
    assert lab.svc.destinations == [dest]
    lab.check()


def test_overload_is_evaluated_anew_only_if_thresholds_differ(lab):
    lab.service("rr", "A", u_threshold=2)
    bound(lab, 2)
    lab.delete("A").add("A", u_threshold=2)
    assert lab.dest("A").overloaded
    lab.delete("A").add("A", u_threshold=5)
    assert not lab.dest("A").overloaded


def test_address_is_not_looked_at_again_when_a_server_comes_back(lab):
    lab.service("rr", "A").delete("A")
    lab.ns.routing = type("Broadcast", (), {"addr_type": lambda self, af, addr: "broadcast", "static": False})()
    lab.add("A")
    with pytest.raises(IPVSError, match="Invalid argument"):
        lab.add("B")


# --- references ---


def test_references_of_services_and_servers(lab):
    lab.service("sh", "A", "B")
    assert (lab.svc.refcnt, lab.dest("A").refcnt, lab.dest("B").refcnt) == (3, 129, 129)
    lab.ipvs.delete_service(lab.svc)
    assert (lab.svc.refcnt, lab.dest("A").refcnt) == (2, 1)
    lab.at(200)
    assert (lab.svc.refcnt, lab.ns.trash.dests) == (0, [])


# --- mixed families ---


def dest_user(address: str = "[2001:db8:1::11]:80", method: int = 2) -> DestUser:
    six = address.startswith("[")
    value = endpoint(address)
    return DestUser(af=AF_INET6 if six else AF_INET, addr=value >> 16, port=value & 0xFFFF, conn_flags=method)


def test_mixed_server_must_be_a_tunnel(lab):
    lab.service("rr")
    ident = lab.ipvs.service_user(lab.svc)
    for method in (0, 1, 3, 4, 5):
        with pytest.raises(IPVSError, match="Invalid argument"):
            lab.control.new_dest(ident, dest_user(method=method))
    lab.control.new_dest(ident, dest_user())
    assert lab.ns.mixed_address_family_dests == 1
    lab.client("S").verdict("STOLEN", "forwarded")
    assert (lab.conn().daf, str(lab.conn().key())) == (AF_INET6, "TCP 203.0.113.5:40000 -> 192.0.2.1:80 -> [2001:db8:1::11]:80")
    lab.control.del_dest(ident, dest_user())
    lab.check()
    assert lab.ns.mixed_address_family_dests == 0


def test_mixed_servers_and_daemons_exclude_each_other(lab):
    lab.service("rr")
    ident = lab.ipvs.service_user(lab.svc)
    lab.control.new_dest(ident, dest_user())
    with pytest.raises(IPVSError, match="Invalid argument"):
        lab.control.new_daemon(DaemonUser(1, "eth0", 1))
    lab.control.del_dest(ident, dest_user())
    lab.control.new_daemon(DaemonUser(1, "eth0", 1))
    with pytest.raises(IPVSError, match="Invalid argument"):
        lab.control.new_dest(ident, dest_user())
    lab.control.new_dest(ident, dest_user("10.1.0.11:80"))
    lab.check()


def test_ipv6_service_with_an_ipv4_tunnel_server(lab):
    lab.service("rr", "10.1.0.11:80", address=VIP6, forward="tunnel")
    said = lab.client("S").verdict("STOLEN", "forwarded")
    assert (said.left.af, lab.conn().daf) == (AF_INET, AF_INET)
    lab.client("A").state("ESTABLISHED", 900)
    assert VIP not in lab.table[0]
