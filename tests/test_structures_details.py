"""Entries, destinations and services where near misses count: large numbers, odd flags, neighbours in one bucket, what is told."""

import pytest
from tests.lab import VIP6, Lab
from tests.test_conn import OneBucket, entry, listening
from tests.test_dest import bare

from ipvs_model.addresses import parse_endpoint
from ipvs_model.apps import Ftp
from ipvs_model.conn import ConnParam, Seq, bind_dest, del_conn, expire, fill_cport, new_conn, try_bind_dest, unbind_dest
from ipvs_model.dest import Dest, DestUser, RealServerTable, rs_hashkey
from ipvs_model.events import ConnCreated, CounterMoved, DestChanged, ServiceLookup, TimerStopped
from ipvs_model.flags import (
    AF_INET,
    AF_INET6,
    IP_VS_CONN_F_HASHED,
    IP_VS_CONN_F_INACTIVE,
    IP_VS_CONN_F_NFCT,
    IP_VS_CONN_F_ONE_PACKET,
    IP_VS_CONN_F_OUT_SEQ,
    IP_VS_CONN_F_SYNC,
    IP_VS_CONN_F_TEMPLATE,
    IP_VS_DEST_F_OVERLOAD,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
)
from ipvs_model.ipvs import IPVS
from ipvs_model.packet import Packet
from ipvs_model.protocol import TEMPLATE_NONE
from ipvs_model.service import Service, ServiceUser, svc_hashkey


@pytest.fixture
def lab():
    return Lab().service("rr", "A")


# --- entries: what they say and keep ------------------------------------------------------------------------------------


def test_an_overdue_entry_has_no_seconds_left(lab):
    lab.client("S")
    cp = lab.conn()
    lab.wait(60.2)  # the wheel is late
    assert (lab.clock.now > cp.expires, cp.pending) == (True, True)
    assert " SYN_RECV 0 [" in repr(cp)


def test_equal_to_the_default_is_nothing_to_keep(lab):
    cp = entry(lab)
    cp.in_seq = Seq(0, 0, 0)
    assert cp.ext is None


@pytest.mark.parametrize("mark", [0, 7])
def test_an_entry_keeps_the_mark_of_its_packet(lab, mark):
    cp = new_conn(lab.ns, ConnParam(AF_INET, IPPROTO_TCP, 5 << 16 | 40000, 7 << 16 | 80), AF_INET, 9 << 16 | 80, 0, None, mark)
    assert (cp.fwmark, cp.ext is None) == (mark, not mark)


@pytest.mark.parametrize("flags", [IP_VS_CONN_F_ONE_PACKET, IP_VS_CONN_F_INACTIVE, IP_VS_CONN_F_NFCT, IP_VS_CONN_F_SYNC])
def test_other_flags_make_no_template(lab, flags):
    cp = entry(lab, IPPROTO_UDP, flags)
    assert (cp.state is TEMPLATE_NONE, cp.state is lab.ns.protocols[IPPROTO_UDP].states[0]) == (False, True)
    param = ConnParam(AF_INET, IPPROTO_UDP, 6 << 16, 7 << 16 | 80, OneBucket(), b"call")
    assert new_conn(lab.ns, param, AF_INET, 9 << 16 | 80, flags, None, 0).pe is None


def test_the_beginning_of_an_entry_is_told(lab):
    events = listening(lab, ConnCreated)
    cp = entry(lab)
    alone = entry(lab, sport=40001, dest=None)
    # it is told before it is in the table
    assert events == [
        ConnCreated("ip_vs_conn_new", cp.key(), cp.flags & ~IP_VS_CONN_F_HASHED, lab.dest("A").key()),
        ConnCreated("ip_vs_conn_new", alone.key(), alone.flags & ~IP_VS_CONN_F_HASHED, None),
    ]


def test_a_removed_entry_is_told_to_have_lost_its_timer(lab):
    lab.client("S")
    cp = lab.conn()
    events = listening(lab, TimerStopped)
    del_conn(cp)
    assert events == [TimerStopped("ip_vs_conn_del", cp.key(), "timer deleted")]


@pytest.mark.parametrize(("addr", "quick"), [(1, 0), (0x7F000001, 0), (0x01000001, 1), (0x7E000001, 1), (0x80000001, 1), (0x20010DB8 << 96 | 1, 1)])
def test_what_comes_from_loopback_is_looked_at(lab, addr, quick):
    cp = entry(lab)
    cp.client = addr << 16 | 40000
    cp.update_quick()
    assert cp.quick == quick


# --- entries: timers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [59, 61])
def test_an_entry_with_a_timeout_of_its_own_does_not_take_that_of_its_state(lab, seconds):
    lab.client("S").state("SYN_RECV", 60)
    cp = lab.conn()
    cp.get("a test")
    cp.timeout = seconds * lab.hz  # in the jiffy and the bucket of its state
    cp.put()
    assert cp.expires == lab.clock.now + seconds * lab.hz


def test_a_pending_timer_goes_with_its_entry(lab):
    lab.client("S")
    cp = lab.conn()
    expire(cp)
    assert (cp.pending, lab.ipvs.conns(), lab.ns.conn_count) == (False, [], 0)
    lab.wait(70)
    assert lab.ns.conn_count == 0


def test_entries_of_several_tables_leave_one_bucket(lab):
    lab.service("rr", "A", address=VIP6)
    for sport in (40000, 40001):
        lab.client("S", sport)
        lab.says(Packet.tcp(("203.0.113.5", sport), ("192.0.2.1", 80), "S", device="cli"))
    lab.client("S", 40002)
    assert len({cp.bucket for cp in lab.ipvs.conns()}) == 1
    assert sorted(cp.af for cp in lab.ipvs.conns()) == [AF_INET, AF_INET, AF_INET6, AF_INET6, AF_INET6]
    lab.wait(70)
    assert (lab.ipvs.conns(), lab.ns.conn_count) == ([], 0)
    assert [dest.refcnt for svc in lab.ipvs.services for dest in svc.destinations] == [1, 1]


def test_an_entry_in_use_by_another_stays_whatever_it_was_before(lab):
    lab.client("S")
    lab.client("S", 40001)
    parent, child = lab.conn(), lab.conn(40001)
    child.control_add(parent)
    child.timeout = 200 * lab.hz
    child.get("a test")
    child.put()
    assert parent.quick
    lab.wait(65)
    assert (parent.is_hashed, parent.timeout, child.is_hashed) == (True, 60 * lab.hz, True)
    lab.wait(500)
    assert lab.ns.conn_count == 0


def test_an_entry_that_has_left_keeps_all_other_flags(lab):
    lab.client("S")
    cp = lab.conn()
    cp.flags |= IP_VS_CONN_F_OUT_SEQ
    flags = cp.flags
    lab.wait(70)
    assert cp.flags == flags & ~IP_VS_CONN_F_HASHED


def test_an_active_entry_with_a_higher_flag_leaves_as_active(lab):
    lab.established()
    cp, dest = lab.conn(), lab.dest("A")
    cp.flags |= IP_VS_CONN_F_OUT_SEQ  # as a sync message without sequence numbers makes it
    assert (cp.quick, dest.activeconns, dest.totalconns) == (1, 1, 1)
    lab.wait(1100)
    assert (dest.activeconns, dest.totalconns) == (0, 0)


@pytest.mark.parametrize("watched", [False, True])
def test_an_entry_leaves_its_helper(watched):
    lab = Lab(plugins=(Ftp,)).service("rr", "A:21", port=21)
    if watched:
        listening(lab)
    lab.client("S")
    helper = lab.conn().app
    assert helper.usecnt == 1
    lab.wait(70)
    assert (lab.ns.conn_count, helper.usecnt) == (0, 0)


# --- entries and destinations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("watched", [False, True])
def test_overload_of_many_connections_ends_with_one(lab, watched):
    if watched:
        listening(lab)
    lab.client("S")
    dest = lab.dest("A")
    dest.totalconns, dest.u_threshold, dest.l_threshold_val = 1000, 2000, int("1000")  # equal, and not the same object
    dest.flags |= IP_VS_DEST_F_OVERLOAD
    lab.clock.advance(seconds=70)
    assert (dest.totalconns, dest.overloaded) == (999, False)


def test_overload_of_many_connections_begins_with_one(lab):
    dest = lab.dest("A")
    dest.totalconns, dest.u_threshold, dest.l_threshold_val = 1998, 2000, 1000
    entry(lab)
    assert (dest.totalconns, dest.overloaded) == (1999, False)
    entry(lab, sport=40001)
    assert (dest.totalconns, dest.overloaded) == (2000, True)


TAKEN = IP_VS_CONN_F_ONE_PACKET | IP_VS_CONN_F_INACTIVE


@pytest.mark.parametrize(
    ("protocol", "flags", "taken"),
    [
        # neither 32 nor 0 in the method bits hides SYNC, no higher flag stands for TEMPLATE, no higher protocol for UDP
        (IPPROTO_UDP, IP_VS_CONN_F_SYNC, 0), (IPPROTO_UDP, IP_VS_CONN_F_SYNC | IP_VS_CONN_F_NFCT, 0), (IPPROTO_UDP, IP_VS_CONN_F_NFCT, TAKEN), (IPPROTO_UDP, 3, TAKEN),
        (IPPROTO_SCTP, 0, IP_VS_CONN_F_INACTIVE), (IPPROTO_TCP, 0, IP_VS_CONN_F_INACTIVE),
    ],
)  # fmt: skip
def test_which_flags_an_entry_takes_over(lab, protocol, flags, taken):
    dest = lab.dest("A")
    dest.conn_flags = 3 | TAKEN
    cp = entry(lab, protocol, 0, dest=None)
    cp.flags |= flags
    bind_dest(cp, dest)
    assert cp.flags & (TAKEN | 7) == 3 | taken


@pytest.mark.parametrize("flags", [IP_VS_CONN_F_ONE_PACKET, IP_VS_CONN_F_NFCT])
def test_the_name_of_the_counter_is_told_by_the_template_flag_alone(lab, flags):
    events = listening(lab, CounterMoved)
    cp = entry(lab, IPPROTO_UDP, flags)
    unbind_dest(cp)
    key = str(lab.dest("A").key())
    assert events == [CounterMoved("ip_vs_bind_dest", key, "totalconns", 1, 1), CounterMoved("ip_vs_unbind_dest", key, "totalconns", -1, 0)]


def test_an_entry_of_a_method_without_transmitter_may_be_unbound(lab):
    dest = lab.dest("A")
    dest.conn_flags = 5
    cp = entry(lab)
    assert (cp.dest, cp.xmit) == (dest, None)
    unbind_dest(cp)
    assert (cp.dest, dest.refcnt) == (None, 1)


def test_a_transmitter_knows_how_many_use_it():
    lab = Lab().service("rr", "A:8080", fwmark=7)
    for sport in range(40000, 40003):
        lab.client("S", sport, mark=7)
    xmit = lab.conn(40002).xmit
    assert (xmit.counted, xmit.users) == (True, 3)
    del_conn(lab.conn(40000))
    assert xmit.users == 2
    lab.wait(70)
    assert xmit.users == 0


@pytest.mark.parametrize(
    ("flags", "dport", "port"),
    [
        # a NAT entry of a mark goes to the port of the message first, one of another method to port 0
        (0, 8080, 8080), (IP_VS_CONN_F_INACTIVE, 8080, 8080), (IP_VS_CONN_F_SYNC, 8080, 8080), (1, 8080, 0), (2, 8080, 0), (3, 8080, 0), (4, 8080, 0),
        (IP_VS_CONN_F_SYNC | 3, 8080, 0), (IP_VS_CONN_F_TEMPLATE, 0, 0), (IP_VS_CONN_F_TEMPLATE | 3, 0, 0), (0, 99, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("protocol", [IPPROTO_TCP, 0])
def test_which_destination_an_entry_of_a_mark_finds_late(flags, dport, port, protocol):
    lab = Lab().service("rr", "A:8080", "A:0" if port is not None else "B", fwmark=7)
    found = {dest.port: dest for dest in lab.svc.destinations}
    param = ConnParam(AF_INET, protocol, 5 << 16 | 40000, 7 << 16)
    addr = found[8080].addr
    cp = new_conn(lab.ns, param, AF_INET, addr << 16 | dport, flags, None, 7)
    try_bind_dest(cp)
    assert cp.dest is (None if port is None else found[port])


def test_an_entry_that_is_bound_late_is_sent_as_its_destination_wants():
    lab = Lab().service("rr", "A:80", forward="direct")
    (dest,) = lab.svc.destinations
    param = ConnParam(AF_INET, IPPROTO_TCP, 5 << 16 | 40000, lab.svc.endpoint)
    cp = new_conn(lab.ns, param, AF_INET, dest.addr << 16 | 80, IP_VS_CONN_F_SYNC, None, 0)
    assert (cp.method, cp.xmit.method, cp.xmit.dest) == (0, "nat", None)
    try_bind_dest(cp)
    assert (cp.method, cp.xmit.method, cp.xmit.dest) == (3, "dr", dest)


def test_a_client_port_is_filled_in_only_where_it_is_missing(lab):
    lab.sysctl(conntrack=1)
    cp = entry(lab)
    assert cp.flags & IP_VS_CONN_F_NFCT
    fill_cport(cp, 5)
    assert (cp.cport, lab.ns.no_cport_count) == (40000, 0)


# --- destinations -------------------------------------------------------------------------------------------------------


def test_a_new_destination_has_no_load():
    ipvs = IPVS()
    svc = ipvs.add_service("tcp", "192.0.2.1:80")
    assert Dest(svc, AF_INET, 0x0A01000B, 8080).overhead == 0


def test_more_inactive_connections_than_255_are_no_active_ones(lab):
    dest = lab.dest("A")
    dest.totalconns, dest.activeconns = 300, 1
    assert (dest.overhead, dest.activeconns, dest.totalconns) == (556, 1, 300)


@pytest.mark.parametrize(("active", "wraps"), [(1 << 21, True), ((1 << 21) - 1, False), (-(1 << 21), True), (1 - (1 << 21), False), (-(1 << 22), True)])
def test_a_load_near_the_end_of_an_int_is_noted_on_both_sides(lab, active, wraps):
    lab.dest("A").activeconns = active
    assert lab.ns.overheads_wrap is wraps


def test_putting_once_too_often_stays_loud(lab):
    dest = lab.dest("A")
    for _ in range(3):
        with pytest.raises(AssertionError, match="once too often"):
            dest.put()


def test_each_destination_is_hashed_at_the_head():
    table, dests = RealServerTable(), [bare() for _ in range(4)]
    for dest in dests:
        table.hash(dest)
    assert table.buckets[rs_hashkey(AF_INET, dests[0].addr, 8080)] == dests[::-1]


@pytest.mark.parametrize("start", [0, 100, None])
def test_a_deleted_destination_is_freed_after_three_minutes_whenever_time_began(start):
    ipvs = Lab(start_jiffies=start, timers="exact").ipvs
    svc = ipvs.add_service("tcp", "192.0.2.1:80")
    dest = ipvs.add_dest(svc, "10.1.0.11:80")
    ipvs.delete_dest(svc, dest)
    told = []
    ipvs.subscribe(lambda event: told.append(event) if isinstance(event, DestChanged) else None)
    ipvs.clock.advance(180 * 250 - 1)
    assert (ipvs.ns.trash.dests, svc.refcnt, told) == ([dest], 2, [])
    ipvs.clock.advance(1)
    assert (ipvs.ns.trash.dests, svc.refcnt, told) == ([], 1, [DestChanged("ip_vs_dest_free", dest.key(), "freed")])
    assert not ipvs.ns.trash.timer.pending


@pytest.mark.parametrize("kind", [DestUser, ServiceUser])
def test_what_a_request_gives_has_a_name(kind):
    with pytest.raises(TypeError, match="positional argument"):
        kind(1)


# --- services -----------------------------------------------------------------------------------------------------------


def test_services_of_one_bucket_are_dumped_newest_first():
    ipvs = IPVS()
    made = [ipvs.add_service("tcp", f"10.0.0.{last}:{80 ^ last}") for last in (1, 2, 3)]
    assert len({svc_hashkey(AF_INET, IPPROTO_TCP, svc.addr, svc.port) for svc in made}) == 1
    assert list(ipvs.services) == made[::-1]


def test_services_of_both_tables_are_counted():
    ipvs = IPVS()
    for last in (1, 2, 3):
        ipvs.add_service("tcp", f"10.0.0.{last}:80")
    ipvs.add_service(fwmark=1)
    assert len(ipvs.ns.services) == 4


def test_an_address_is_virtual_as_long_as_some_service_has_it():
    ipvs = IPVS()
    one, other = ipvs.add_service("tcp", "10.0.0.1:80"), ipvs.add_service("tcp", "10.0.0.1:81")
    services = ipvs.ns.services
    services.unhash(one)
    assert services.has_vip(AF_INET, one.addr, 0)
    services.unhash(other)
    assert not services.has_vip(AF_INET, one.addr, 0)


def test_a_mark_is_a_services_or_not():
    ipvs = IPVS()
    ipvs.add_service(fwmark=7)
    services = ipvs.ns.services
    assert [services.has_vip(AF_INET, 0x0A000001, mark) for mark in (0, 6, 7, 8)] == [False, False, True, False]
    assert not services.has_vip(AF_INET6, 0x0A000001, 7)


def find(ipvs, endpoint, mark=0, protocol=IPPROTO_TCP):
    af, addr, port = parse_endpoint(endpoint)
    return ipvs.ns.services.find(af, mark, protocol, addr, port)


@pytest.mark.parametrize(("port", "ftp"), [(1, False), (19, False), (20, True), (22, False), (1023, False), (1024, True), (1025, True), (65535, True)])
def test_which_ports_are_for_the_ftp_service(port, ftp):
    ipvs = IPVS()
    services = {True: ipvs.add_service("tcp", "10.0.0.1:21"), False: ipvs.add_service("tcp", "10.0.0.1:0")}
    assert find(ipvs, f"10.0.0.1:{port}") is services[ftp]


@pytest.mark.parametrize("protocol", [1, 5, 7, IPPROTO_UDP, IPPROTO_SCTP])
def test_only_tcp_has_ftp(protocol):
    ipvs = IPVS()
    ipvs.add_service("tcp", "10.0.0.1:21")
    ipvs.ns.services.hash(Service(ipvs.ns, ServiceUser(protocol=protocol, addr=0x0A000001, port=21)))
    assert find(ipvs, "10.0.0.1:5000", protocol=protocol) is None
    assert find(ipvs, "10.0.0.1:21", protocol=protocol).protocol == protocol


def test_an_odd_number_of_jiffies_is_a_timeout_too():
    ipvs = Lab(hz=25).ipvs
    assert ipvs.add_service("tcp", "10.0.0.1:80", persistent=1).timeout == 25


def test_each_lookup_is_told_with_its_rule():
    ipvs = IPVS()
    mark, exact, ftp, null = ipvs.add_service(fwmark=7), *(ipvs.add_service("tcp", f"10.0.0.1:{port}") for port in (80, 21, 0))
    events = []
    ipvs.subscribe(events.append)
    found = [find(ipvs, "10.0.0.1:80", 7), *(find(ipvs, f"10.0.0.{last}:{port}") for last, port in ((1, 80), (1, 5000), (1, 90), (2, 80)))]
    rules = ("fwmark", "exact", "ftp", "port zero", "none")
    assert found == [mark, exact, ftp, null, None]
    assert events == [ServiceLookup("ip_vs_service_find", svc and svc.key(), rule) for svc, rule in zip(found, rules, strict=True)]
