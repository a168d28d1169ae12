"""What leaves the master, byte for byte and tick by tick."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sync.examples import EXAMPLES, TCP_CONN, flat, record
from tests.sync.lab import BACKUP, CLIENT, MASTER, VIP, director, entry, received, reply, sent, start, tcp, udp, web

from ipvs_model.apps import Ftp
from ipvs_model.events import SyncDecision
from ipvs_model.flags import Hook
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.packet import Packet
from ipvs_model.sync import DaemonUser
from ipvs_model.sync.messages import SyncSeq, decode_message


def burst(ipvs: IPVS, count: int, first: int = 1024) -> None:
    """Datagrams of so many clients in one tick; with sync_threshold "0 1" each gives a record."""
    for port in range(first, first + count):
        udp(ipvs, port)


def dns(start_jiffies: int | None = None, maxlen: int = 0) -> IPVS:
    """A master that sends every datagram of a UDP service."""
    ipvs = director(start_jiffies=start_jiffies)
    web(ipvs, "10.1.0.11:80", protocol="udp")
    ipvs.sysctl_write("sync_threshold", "0 1")
    start(ipvs, MASTER, sync_maxlen=maxlen)
    return ipvs


def leaves(ipvs: IPVS, jiffies: int) -> list[tuple[int, int]]:
    """What leaves within so many jiffies from now: (jiffies from now, records)."""
    found = []
    begin = ipvs.clock.now
    while ipvs.clock.now <= begin + jiffies:
        found += [(ipvs.clock.now - begin, len(decode_message(datagram.payload).entries)) for datagram in ipvs.daemons.take()]
        ipvs.clock.advance(1)
    return found


# --- the examples of the specification ---


def test_nat_connection_at_its_third_packet_then_at_its_ends() -> None:
    ipvs = director()
    web(ipvs)
    start(ipvs, MASTER)
    tcp(ipvs, "S")
    reply(ipvs, "SA")
    tcp(ipvs, "A A")
    assert sent(ipvs) == [flat(EXAMPLES["v1 NAT"][0]).hex()]
    tcp(ipvs, "FA")
    reply(ipvs, "FA")
    tcp(ipvs, "A")
    (message,) = sent(ipvs)
    records = decode_message(bytes.fromhex(message)).records
    assert [(r.flags, r.state, r.timeout) for r in records] == [(0x100, 7, 60), (0x100, 5, 120)]


def test_sip_template_and_its_connection() -> None:
    ipvs = director()
    web(ipvs, "10.1.0.12:5060", port=5060, protocol="udp", persistent=60, engine="sip")
    start(ipvs, MASTER)
    for _ in range(3):
        udp(ipvs, 4000, 5060, b"INVITE sip:a SIP/2.0\r\nCall-ID: xyz\r\n\r\n")
    assert sent(ipvs) == [flat(EXAMPLES["v1 SIP template with padding"][0]).hex()]


def test_sip_template_alone_with_sync_persist_mode() -> None:
    ipvs = director()
    web(ipvs, "10.1.0.12:5060", port=5060, protocol="udp", persistent=60, engine="sip")
    ipvs.sysctl_write("sync_persist_mode", 1)
    start(ipvs, MASTER)
    for _ in range(3):
        udp(ipvs, 4000, 5060, b"INVITE sip:a SIP/2.0\r\nCall-ID: xyz\r\n\r\n")
    (message,) = sent(ipvs)
    assert len(message) // 2 == 150
    assert [r.flags for r in decode_message(bytes.fromhex(message)).records] == [0x1100] * 3


def test_persistent_direct_routing() -> None:
    ipvs = director()
    web(ipvs, "10.1.0.13:443", port=443, forward="direct", persistent=100)
    start(ipvs, MASTER)
    tcp(ipvs, "S A A", 3100, 443)
    assert sent(ipvs) == [flat(EXAMPLES["v1 persistent direct routing"][0]).hex()]


def test_ipv6_connection() -> None:
    ipvs = director()
    svc = ipvs.add_service("tcp", "[2001:db8:100::1]:80")
    ipvs.add_dest(svc, "[2001:db8:1::11]:80")
    start(ipvs, MASTER)
    client, virtual = "[2001:db8:16::5]:3000", "[2001:db8:100::1]:80"
    ipvs.receive(Packet.tcp(client, virtual, "S"))
    ipvs.receive(Packet.tcp("[2001:db8:1::11]:80", client, "SA"), hook="FORWARD")
    for _ in range(2):
        ipvs.receive(Packet.tcp(client, virtual, "A"))
    assert sent(ipvs) == [flat(EXAMPLES["v1 IPv6"][0]).hex()]


def test_version_0_sends_a_template_with_its_connection_only() -> None:
    ipvs = director()
    web(ipvs)
    web(ipvs, "10.1.0.13:443", port=443, forward="direct", persistent=100)
    ipvs.sysctl_write("sync_version", 0)
    start(ipvs, MASTER)
    tcp(ipvs, "S", 3200)
    reply(ipvs, "SA", client=f"{CLIENT}:3200")
    tcp(ipvs, "A A", 3200)
    tcp(ipvs, "S A A", 3201, 443)
    assert sent(ipvs) == [flat(EXAMPLES["v0"][0]).hex()]
    assert entry(ipvs, f"{CLIENT}:0").in_pkts == 1


def test_version_0_sends_no_ipv6() -> None:
    ipvs = director()
    svc = ipvs.add_service("udp", "[2001:db8:100::1]:80")
    ipvs.add_dest(svc, "[2001:db8:1::11]:80")
    ipvs.sysctl_write("sync_version", 0)
    ipvs.sysctl_write("sync_threshold", "0 1")
    start(ipvs, MASTER)
    ipvs.receive(Packet.udp("[2001:db8:16::5]:3000", "[2001:db8:100::1]:80"))
    assert sent(ipvs) == []


@pytest.mark.parametrize("version", [1, 0])
def test_sequence_data_is_sent_on(version: int) -> None:
    ipvs = director()
    start(ipvs, MASTER, 9)
    start(ipvs, BACKUP, 0)
    web(ipvs)
    seq = {"in_seq": SyncSeq(0x11111111, 4, 0), "out_seq": SyncSeq(0x22222222, 0xFFFFFFFC, 1)}
    received(ipvs, record(6, 0x600, 1, f"{CLIENT}:3000", f"{VIP}:80", "10.1.0.11:8080", 900, **seq))
    ipvs.sysctl_write("sync_version", version)
    ipvs.sysctl_write("sync_threshold", "0 1")
    tcp(ipvs, "A")
    assert sent(ipvs) == [flat(EXAMPLES[f"v{version} sequence data"][0]).hex()]


def test_ftp_data_connection_is_followed_by_its_control_connection() -> None:
    ipvs = director(plugins=(Ftp,))
    web(ipvs, "10.1.0.11:21", port=21)
    tcp(ipvs, "S", 3001, 21)
    reply(ipvs, "SA", "10.1.0.11:21", f"{CLIENT}:3001")
    tcp(ipvs, "A", 3001, 21)
    ipvs.process(Packet.tcp(f"{CLIENT}:3001", f"{VIP}:21", "A", payload=b"PASV\r\n"))
    ipvs.process(Packet.tcp("10.1.0.11:21", f"{CLIENT}:3001", "A", payload=b"227 Entering Passive Mode (10,1,0,11,195,80).\r\n"), Hook.FORWARD)
    tcp(ipvs, "S", 3002, 50000)
    reply(ipvs, "SA", "10.1.0.11:50000", f"{CLIENT}:3002")
    ipvs.sysctl_write("sync_threshold", "0 1")
    start(ipvs, MASTER)
    tcp(ipvs, "A", 3002, 50000)
    (message,) = sent(ipvs)
    records = decode_message(bytes.fromhex(message)).records
    assert [(r.flags, r.client & 0xFFFF, r.virt & 0xFFFF, r.real & 0xFFFF) for r in records] == [
        (0x10000, 3002, 50000, 50000),
        (0x10000, 3001, 21, 21),
    ]


# --- controllers, one-packet entries, odd entries ---


def test_each_packet_of_a_connection_counts_on_its_template() -> None:
    ipvs = director()
    web(ipvs, persistent=100)
    start(ipvs, MASTER)
    tcp(ipvs, "S A A A")
    assert (entry(ipvs).in_pkts, entry(ipvs, f"{CLIENT}:0").in_pkts) == (4, 4)


def test_count_of_a_template_wraps_to_below_0() -> None:
    ipvs = director()
    web(ipvs, persistent=100)
    start(ipvs, MASTER)
    tcp(ipvs, "S")
    template = entry(ipvs, f"{CLIENT}:0")
    template.in_pkts = (1 << 31) - 1
    tcp(ipvs, "A")
    assert template.in_pkts == -(1 << 31)


def test_one_packet_entry_sends_its_template_only() -> None:
    ipvs = director()
    web(ipvs, "10.1.0.11:80", protocol="udp", persistent=60, one_packet=True)
    start(ipvs, MASTER)
    udp(ipvs, 4000)
    (message,) = sent(ipvs)
    assert [r.flags for r in decode_message(bytes.fromhex(message)).records] == [0x1100]


def test_one_packet_entry_sends_nothing_in_version_0() -> None:
    ipvs = director()
    web(ipvs, "10.1.0.11:80", protocol="udp", persistent=60, one_packet=True)
    ipvs.sysctl_write("sync_version", 0)
    start(ipvs, MASTER)
    udp(ipvs, 4000)
    assert sent(ipvs) == []


def test_engine_data_without_destination_ends_the_walk_with_a_log_line() -> None:
    ipvs = director()
    start(ipvs, MASTER)
    start(ipvs, BACKUP)
    ipvs.daemons.engines = ipvs.engines
    received(ipvs, record(17, 0x1100, 0, f"{CLIENT}:0", f"{VIP}:5060", "10.1.0.12:5060", 60, pe_data=b"xyz", pe_name=b"sip"))
    ipvs.ns.sync_conn(entry(ipvs, f"{CLIENT}:0"), 3)
    assert ipvs.log[-1] == ("err", "IPVS: SYNC, connection pe_data invalid")
    assert sent(ipvs) == []


def test_postponed_template_is_sent_at_its_expiry() -> None:
    ipvs = director()
    web(ipvs, persistent=100)
    tcp(ipvs, "S")
    reply(ipvs, "SA")
    tcp(ipvs, "A")
    start(ipvs, MASTER)
    (message,) = sent(ipvs, 110)
    assert [(r.flags, r.state, r.timeout) for r in decode_message(bytes.fromhex(message)).records] == [(0x1100, 1, 60)]


def test_the_end_of_a_connection_is_not_announced() -> None:
    ipvs = director()
    web(ipvs, "10.1.0.11:80", protocol="udp")
    start(ipvs, MASTER)
    udp(ipvs, 4000)
    assert sent(ipvs, 400) == [] and not ipvs.conns()


def test_watchers_hear_why() -> None:
    ipvs = director()
    web(ipvs)
    start(ipvs, MASTER)
    events: list[object] = []
    ipvs.subscribe(events.append)
    tcp(ipvs, "S")
    assert [event.why for event in events if isinstance(event, SyncDecision)] == ["its state is not synchronised"]


# --- buffers and times ---


def test_a_lonely_record_leaves_when_the_sleeping_thread_finds_it_two_seconds_old() -> None:
    ipvs = dns(start_jiffies=4294892296)  # a multiple of 8: the thread sleeps to 4294892552, then every 256 jiffies
    ipvs.clock.advance(100)
    burst(ipvs, 1)
    assert leaves(ipvs, 1000) == [(4294892296 + 256 * 3 - 4294892396, 1)]


@pytest.mark.parametrize("offset", [0, 1, 100, 255])
def test_wait_of_a_lonely_record_lies_within_500_and_755_jiffies(offset: int) -> None:
    ipvs = dns()
    ipvs.clock.advance(1000 + offset)
    burst(ipvs, 1)
    ((waited, count),) = leaves(ipvs, 1000)
    assert 500 <= waited <= 755 and count == 1


def test_forty_records_fill_a_message_which_leaves_after_20_ms() -> None:
    ipvs = dns()
    ipvs.clock.advance(1000)
    burst(ipvs, 45)
    (first, forty), (second, five) = leaves(ipvs, 1000)
    assert (forty, five) == (40, 5)
    assert first == 6  # a delay of 5 jiffies fires at the sixth
    assert 500 <= second <= 755


def test_eight_waiting_buffers_wake_the_thread_at_once() -> None:
    ipvs = dns()
    burst(ipvs, 8 * 40)
    assert not ipvs.daemons.take()  # seven wait, the eighth is full but was not pushed out
    burst(ipvs, 1, 9000)
    assert [len(d.payload) for d in ipvs.daemons.take()] == [8 + 40 * 36] * 8


def test_four_hundred_records_in_a_burst() -> None:
    ipvs = dns()
    burst(ipvs, 400)
    found = leaves(ipvs, 1000)
    assert [count for _, count in found] == [40] * 10
    assert [at for at, _ in found][:8] == [0] * 8 and found[8][0] == 6 and 500 <= found[9][0] <= 755


def test_full_queue_loses_buffers() -> None:
    ipvs = dns()
    ipvs.sysctl_write("sync_qlen_max", 1)
    burst(ipvs, 400)
    assert [count for _, count in leaves(ipvs, 1000)] == [40, 40]
    assert ipvs.daemons.master is not None and ipvs.daemons.master.threads[0].dropped == 8


def test_queue_of_length_0_loses_everything_but_the_last() -> None:
    ipvs = dns()
    ipvs.sysctl_write("sync_qlen_max", 0)
    burst(ipvs, 41)
    assert [count for _, count in leaves(ipvs, 1000)] == [1]


def test_wakeup_that_finds_an_empty_queue_does_nothing() -> None:
    ipvs = dns()
    burst(ipvs, 321)
    assert len(ipvs.daemons.take()) == 8
    ipvs.clock.advance(10)
    assert not ipvs.daemons.take()


def test_a_pending_wakeup_keeps_its_first_expiry() -> None:
    ipvs = dns()
    burst(ipvs, 321)  # queued at 0, sent at once; the wake-up for the sixth jiffy stays
    ipvs.daemons.take()
    ipvs.clock.advance(4)
    burst(ipvs, 40, 9000)
    assert leaves(ipvs, 20) == [(2, 40)]


def test_change_of_version_ends_a_buffer() -> None:
    ipvs = dns()
    burst(ipvs, 2)
    ipvs.sysctl_write("sync_version", 0)
    burst(ipvs, 3, 2000)
    ipvs.sysctl_write("sync_version", 1)
    burst(ipvs, 1, 3000)
    messages = [decode_message(bytes.fromhex(message)) for message in sent(ipvs)]
    assert [(m.version, len(m.records)) for m in messages] == [(1, 2), (0, 3), (1, 1)]


def test_a_record_longer_than_the_message_gets_a_message_of_its_own() -> None:
    ipvs = dns(maxlen=1)
    burst(ipvs, 3)
    assert [len(message) // 2 for message in sent(ipvs)] == [44, 44, 44]


def test_count_of_records_wraps_in_a_long_message() -> None:
    ipvs = dns(maxlen=8 + 257 * 36)
    burst(ipvs, 258)
    first, _ = [decode_message(bytes.fromhex(message)) for message in sent(ipvs)]
    assert len(first.entries) == 1


def test_version_0_buffer_whose_count_wraps_is_ended_and_read_as_empty() -> None:
    ipvs = dns(maxlen=65000)
    ipvs.sysctl_write("sync_version", 0)
    burst(ipvs, 258)
    first, second = sent(ipvs)
    assert len(first) // 2 == 4 + 256 * 24 and decode_message(bytes.fromhex(first)).entries == ()
    assert len(decode_message(bytes.fromhex(second)).records) == 2


def test_stopping_throws_away_what_waits() -> None:
    ipvs = dns()
    burst(ipvs, 100)
    ipvs.control.del_daemon(MASTER)
    assert sent(ipvs) == [] and ipvs.clock.next_deadline() is not None
    start(ipvs, MASTER)
    assert sent(ipvs) == []


def test_datagram_says_where_it_goes() -> None:
    ipvs = director()
    web(ipvs, "10.1.0.11:80", protocol="udp")
    ipvs.sysctl_write("sync_threshold", "0 1")
    ipvs.sysctl_write("sync_ports", 4)
    ipvs.control.new_daemon(DaemonUser(MASTER, "eth0", 7, 0, (2, 0xEF010203), 9000, 3))
    burst(ipvs, 64)
    ipvs.clock.advance(seconds=4)
    datagrams = ipvs.daemons.take()
    assert {d.thread for d in datagrams} == {0, 1, 2, 3}
    assert {(d.device, d.af, d.group, d.port - d.thread, d.ttl) for d in datagrams} == {("eth0", 2, 0xEF010203, 9000, 3)}
    assert sum(len(decode_message(d.payload).records) for d in datagrams) == 64


def test_an_entry_keeps_its_thread() -> None:
    ipvs = director()
    web(ipvs)
    ipvs.sysctl_write("sync_ports", 8)
    ipvs.sysctl_write("sync_threshold", "0 1")
    start(ipvs, MASTER)
    tcp(ipvs, "S A A A FA")
    ipvs.clock.advance(seconds=4)
    assert len({d.thread for d in ipvs.daemons.take()}) == 1


def test_a_copied_master_goes_on_as_the_original() -> None:
    ipvs = dns()
    burst(ipvs, 330)
    twins = [ipvs.fork(), copy.deepcopy(ipvs), pickle.loads(pickle.dumps(ipvs))]
    expected = sent(ipvs)
    assert expected and all(sent(twin) == expected for twin in twins)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 700), st.integers(1, 50)), min_size=1, max_size=12),
    st.sampled_from([0, 100, 300]),
    st.sampled_from(["kernel", "exact"]),
    st.sampled_from([100, 250, 1000]),
)
def test_every_record_leaves_once_in_order_and_never_late(bursts: list[tuple[int, int]], maxlen: int, timers: str, hz: int) -> None:
    ipvs = director(timers=timers, hz=hz)
    web(ipvs, "10.1.0.11:80", protocol="udp")
    ipvs.sysctl_write("sync_threshold", "0 1")
    start(ipvs, MASTER, sync_maxlen=maxlen)
    made: dict[int, int] = {}
    left: list[tuple[int, int]] = []
    ipvs.daemons.out = lambda d: left.extend((ipvs.clock.now, r.client & 0xFFFF) for r in decode_message(d.payload).records)
    port = 1024
    for wait, count in bursts:
        ipvs.clock.advance(wait)
        for _ in range(count):
            udp(ipvs, port)
            made[port] = ipvs.clock.now
            port += 1
    ipvs.clock.advance(seconds=5)
    check(ipvs.ns)
    assert [p for _, p in left] == sorted(made)
    # two seconds of waiting, one second of sleep, both rounded up by an eighth at most, and a tick each
    assert all(at - made[p] <= 3 * hz * 9 // 8 + 2 for at, p in left)


def test_example_record_is_the_entry() -> None:
    assert decode_message(flat(EXAMPLES["v1 NAT"][0])).records == (TCP_CONN,)
