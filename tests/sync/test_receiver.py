"""What a backup makes of messages: the decisions of the specification, and the entry that is left."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from tests.sync.examples import record
from tests.sync.lab import BACKUP, CLIENT, MASTER, VIP, director, entry, received, start, tcp, web
from tests.sync.test_messages import GOOD, SEQ, with_options, wrap

from ipvs_model import flags as F
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.sync import SyncSeq
from ipvs_model.sync.messages import SyncRecord

HZ = 250


@pytest.fixture
def backup() -> IPVS:
    """A backup of group 7 with a web service and one server."""
    ipvs = director()
    web(ipvs)
    start(ipvs, BACKUP)
    ipvs.daemons.engines = ipvs.engines
    return ipvs


def conn(flags: int = 0, state: int = 1, timeout: int = 900, port: int = 3000, real: str = "10.1.0.11:8080", protocol: int = 6, **more: Any) -> SyncRecord:
    """A record of the web service."""
    return record(protocol, flags, state, f"{CLIENT}:{port}", f"{VIP}:80", real, timeout, **more)


def template(state: int = 1, timeout: int = 100, real: str = "10.1.0.11:8080", **more: Any) -> SyncRecord:
    return conn(0x1100, state, timeout, 0, real, **more)


def left(cp: Any) -> int:
    """Jiffies until its expiry."""
    return int(cp.expires - cp.ipvs.clock.now)


def counters(ipvs: IPVS) -> tuple[int, int, int]:
    (dest,) = ipvs.services[0].destinations
    return dest.activeconns, dest.totalconns, dest.persistconns


# --- the table of decisions ---


@pytest.mark.parametrize("syncid", [8, 0])
def test_message_of_another_group_is_ignored(backup: IPVS, syncid: int) -> None:
    assert received(backup, conn(), syncid=syncid).error == "syncid"
    assert not backup.conns()


@pytest.mark.parametrize(("mine", "theirs", "taken"), [(0, 7, True), (0, 255, True), (263, 7, False), (255, 255, True)])
def test_syncid_0_takes_every_group_and_one_above_255_none(mine: int, theirs: int, taken: bool) -> None:
    ipvs = director()
    start(ipvs, BACKUP, mine)
    assert received(ipvs, conn(), syncid=theirs).applied == taken


def test_method_and_nooutput_come_from_the_destination(backup: IPVS) -> None:
    received(backup, conn(0x07EF))
    assert entry(backup).flags == 0x0760


def test_without_destination_the_bits_are_the_record_s() -> None:
    ipvs = director()
    start(ipvs, BACKUP)
    received(ipvs, conn(0x07EF))
    assert entry(ipvs).flags == 0x07E7


def test_upper_flag_bits_are_dropped(backup: IPVS) -> None:
    received(backup, conn(0xFFFF0000))
    assert entry(backup).flags == F.IP_VS_CONN_F_SYNC | F.IP_VS_CONN_F_HASHED


def test_sysctl_conntrack_adds_nfct(backup: IPVS) -> None:
    backup.sysctl_write("conntrack", 1)
    received(backup, conn())
    assert entry(backup).flags & F.IP_VS_CONN_F_NFCT


@pytest.mark.parametrize(("state", "name"), [(11, None), (10, "SYNACK"), (0, "NONE"), (9, "LISTEN")])
def test_state_is_stored_or_the_record_skipped(backup: IPVS, state: int, name: str | None) -> None:
    (found,) = received(backup, conn(state=state)).records
    if name is None:
        assert (found.code, found.fate, backup.conns()) == (40, "skipped", [])
    else:
        assert entry(backup).state_name == name
        assert (entry(backup).old_state, entry(backup).in_pkts) == (state, 3)


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        ({}, 900),
        ({"state": 7}, 60),
        ({"flags": 0x1100, "state": 0, "client": 0xAC100005 << 16}, 180),
        ({"protocol": 17, "state": 0}, 300),
        ({"protocol": 132, "state": 8}, 900),
        ({"protocol": 51, "state": 0}, 180),
        ({"protocol": 50, "state": 0}, 180),
        ({"timeout": 5}, 5),
    ],
)
def test_timeout_of_the_record_or_of_the_state(backup: IPVS, change: dict[str, Any], seconds: int) -> None:
    received(backup, evolve(conn(timeout=0), **change))
    (cp,) = backup.conns()
    assert left(cp) == cp.timeout == seconds * HZ


def test_the_longest_timeout_is_taken(backup: IPVS) -> None:
    received(backup, conn(timeout=0xFFFFFFFF))
    assert backup.proc("ip_vs_conn_sync").splitlines()[1].split()[-1] == "4294966"


@pytest.mark.parametrize(
    ("payload", "clients"),
    [
        (wrap(with_options(b"\5\1x"), GOOD), [3000]),
        (wrap(with_options(b"\x45\1x")), [3000]),
        (wrap(with_options(b"\1\0"), GOOD), []),
        (wrap(with_options(b"\1\27" + bytes(23)), GOOD), []),
        (wrap(b"\2" + GOOD[1:], GOOD), []),
        (wrap(GOOD[:2] + b"\0\24" + GOOD[4:], GOOD), []),
        (wrap(GOOD, nr_conns=3), [3000]),
        (wrap(GOOD) + b"\0\0\0\0", []),
        (wrap(GOOD)[:-1], []),
        (wrap(GOOD)[:7] + b"\1" + GOOD, []),
        (wrap(GOOD, GOOD[:10] + b"\x0b\xb9" + GOOD[12:], nr_conns=1), [3000]),
        (wrap(with_options(b"\x02\x03xyz")), []),
        (wrap(with_options(b"\x02\x03xyz\x03\x03abc")), []),
        (wrap(with_options(b"\x03\x03abc")), [3000]),
        (wrap(with_options(b"\x03\x03sip\x02\x03xyz")), [3000]),
        (wrap(with_options(b"\1")), []),
    ],
)
def test_tolerance_of_malformed_messages(backup: IPVS, payload: bytes, clients: list[int]) -> None:
    backup.receive_sync(payload)
    assert [cp.cport for cp in backup.conns()] == clients
    check(backup.ns)


def test_engine_data_of_a_plain_connection_is_thrown_away(backup: IPVS) -> None:
    backup.receive_sync(wrap(with_options(b"\x03\x03sip\x02\x03xyz")))
    assert (entry(backup).pe, entry(backup).pe_data) == (None, b"")


def test_engine_data_without_known_engines_is_refused(backup: IPVS) -> None:
    backup.daemons.engines = None
    (found,) = received(backup, template(pe_data=b"xyz", pe_name=b"sip")).records
    assert (found.code, found.why) == (50, "engine data without name, or engine not registered")


def test_message_longer_than_sync_maxlen_is_cut_and_so_refused() -> None:
    ipvs = director()
    start(ipvs, BACKUP, sync_maxlen=1)  # at least 1024
    assert received(ipvs, *[conn(port=port) for port in range(28)]).applied == 28
    assert received(ipvs, *[conn(port=port) for port in range(29)]).error == "size"


def test_nobody_receives_without_a_backup_daemon(backup: IPVS) -> None:
    backup.control.del_daemon(BACKUP)
    assert received(backup, conn()).why == "no backup daemon runs"
    assert not backup.conns()


def test_group_and_port_must_be_the_backup_s(backup: IPVS) -> None:
    daemons = backup.daemons
    assert daemons.receive(wrap(GOOD), port=8849).error == "address"
    assert daemons.receive(wrap(GOOD), group=0xE0000052).error == "address"
    assert daemons.receive(wrap(GOOD), af=10, group=0xE0000051).error == "address"
    assert daemons.receive(wrap(GOOD), af=2, group=0xE0000051, port=8848).applied == 1


# --- making entries ---


def test_new_active_connection_counts_at_its_destination(backup: IPVS) -> None:
    (found,) = received(backup, conn()).records
    assert (found.fate, found.conn) == ("created", entry(backup).key())
    assert counters(backup) == (1, 1, 0)
    assert (entry(backup).refcnt, backup.ns.conn_count, backup.ns.tot_stats.conns) == (1, 1, 0)


def test_new_inactive_connection_and_template(backup: IPVS) -> None:
    received(backup, conn(0x100, 7), template())
    assert counters(backup) == (0, 1, 1)
    assert (entry(backup, f"{CLIENT}:0").state_name, entry(backup, f"{CLIENT}:0").flags) == ("ASSURED", 0x1160)


def test_threshold_is_looked_at(backup: IPVS) -> None:
    (dest,) = backup.services[0].destinations
    backup.edit_dest(backup.services[0], dest, u_threshold=1)
    received(backup, conn())
    assert dest.overloaded


def test_nothing_controls_anything(backup: IPVS) -> None:
    received(backup, template(), conn())
    assert entry(backup).control is None and entry(backup, f"{CLIENT}:0").n_control == 0


def test_template_keeps_its_engine_data(backup: IPVS) -> None:
    sip = record(17, 0x1100, 0, f"{CLIENT}:0", f"{VIP}:5060", "10.1.0.12:5060", 60, pe_data=b"xyz", pe_name=b"sip")
    received(backup, sip)
    assert backup.proc("ip_vs_conn").splitlines()[1].endswith("sip xyz")
    (found,) = received(backup, evolve(sip, client=0xAC100006 << 16, pe_data=b"other"), sip).records[1:]
    assert found.fate == "updated" and len(backup.conns()) == 2


def test_no_cport_record_is_made_anew_at_each_repetition(backup: IPVS) -> None:
    received(backup, conn(0x800))
    received(backup, conn(0x800))
    assert len(backup.conns()) == 2 and backup.ns.no_cport_count == 2
    check(backup.ns)


def test_mark_of_the_record_finds_the_fwmark_service() -> None:
    ipvs = director()
    svc = ipvs.add_service("tcp", fwmark=7, scheduler="rr")
    ipvs.add_dest(svc, "10.1.0.11:0", forward="direct")
    start(ipvs, BACKUP)
    received(ipvs, conn(0x83, real="10.1.0.11:80", fwmark=7), conn(0x83, port=3001, real="10.1.0.11:80"))
    assert [entry(ipvs, f"{CLIENT}:{port}").dest is not None for port in (3000, 3001)] == [True, False]


def test_version_0_makes_an_entry_with_the_state_s_timeout_and_no_mark(backup: IPVS) -> None:
    received(backup, conn(timeout=0, state=5), version=0)
    assert (left(entry(backup)), entry(backup).fwmark) == (120 * HZ, 0)


def test_version_0_skips_bad_records_one_by_one(backup: IPVS) -> None:
    report = received(backup, conn(state=99), conn(0x2000), conn(protocol=1), conn(), version=0)
    assert [found.code for found in report.records] == [40, 25, 30, 0]


@pytest.mark.parametrize("version", [0, 1])
def test_sequence_data_replaces_the_entry_s(backup: IPVS, version: int) -> None:
    seq = {"in_seq": SyncSeq(1, 2, 3), "out_seq": SyncSeq(4, 5, 6)}
    received(backup, conn(timeout=0), version=version)
    received(backup, conn(0x600, timeout=0, **seq), version=version)
    cp = entry(backup)
    assert [(s.init_seq, s.delta, s.previous_delta) for s in (cp.in_seq, cp.out_seq)] == [(1, 2, 3), (4, 5, 6)]
    assert cp.flags & F.IP_VS_CONN_F_SEQ_MASK == 0x600


def test_sequence_flags_without_the_option_leave_the_data(backup: IPVS) -> None:
    backup.receive_sync(wrap(with_options(SEQ[:2] + bytes(range(24)))))
    before = entry(backup).in_seq
    received(backup, conn(0x600))
    assert entry(backup).in_seq == before and before.init_seq == 0x00010203
    assert entry(backup).flags & 0x600 == 0x600


# --- updating entries ---


def test_update_restarts_the_timer_and_moves_the_active_counter(backup: IPVS) -> None:
    received(backup, conn())
    backup.clock.advance(1000)
    (found,) = received(backup, conn(0x100, 7, 60)).records
    assert (found.fate, counters(backup), left(entry(backup)), entry(backup).state_name) == ("updated", (0, 1, 0), 60 * HZ, "CLOSE_WAIT")
    received(backup, conn())
    assert counters(backup) == (1, 1, 0)
    check(backup.ns)


def test_update_takes_only_activity_and_sequence_flags() -> None:
    ipvs = director()
    web(ipvs)
    start(ipvs, BACKUP)
    tcp(ipvs, "S")
    received(ipvs, conn(0x0783))
    assert entry(ipvs).flags == 0x740  # a locally made entry does not become a synced one
    check(ipvs.ns)


def test_other_server_replaces_an_entry_at_the_next_tick(backup: IPVS) -> None:
    received(backup, conn())
    (found,) = received(backup, conn(real="10.1.0.99:80")).records
    assert found.fate == "replaced" and len(backup.conns()) == 2
    backup.clock.advance(1)
    assert [cp.dport for cp in backup.conns()] == [80]
    assert counters(backup) == (0, 0, 0)


def test_end_of_a_replaced_connection_is_ignored(backup: IPVS) -> None:
    received(backup, conn())
    (found,) = received(backup, conn(0x100, 5, 120, real="10.1.0.99:80")).records
    assert (found.fate, found.conn, entry(backup).dport, entry(backup).refcnt) == ("ignored", None, 8080, 1)


def test_template_that_moved_keeps_its_server(backup: IPVS) -> None:
    received(backup, template())
    (found,) = received(backup, template(state=0, real="10.1.0.99:80")).records
    assert (found.fate, entry(backup, f"{CLIENT}:0").dport, entry(backup, f"{CLIENT}:0").state_name) == ("updated", 8080, "NONE")


def test_entry_is_bound_when_its_destination_has_come() -> None:
    ipvs = director()
    svc = ipvs.add_service("tcp", f"{VIP}:80", scheduler="rr")
    start(ipvs, BACKUP)
    received(ipvs, conn())
    dest = ipvs.add_dest(svc, "10.1.0.11:8080", forward="direct")
    assert entry(ipvs).dest is None
    received(ipvs, conn(0x100))
    assert entry(ipvs).dest is dest
    assert (dest.activeconns, dest.totalconns, entry(ipvs).flags) == (0, 1, 0x1E3)
    check(ipvs.ns)


def test_copy_on_the_backup_expires_by_its_own_timer(backup: IPVS) -> None:
    received(backup, conn(timeout=3))
    backup.clock.advance(seconds=4)
    assert not backup.conns() and counters(backup) == (0, 0, 0)


def test_backup_only_leaves_client_packets_alone(backup: IPVS) -> None:
    backup.sysctl_write("backup_only", 1)
    tcp(backup, "S")
    assert not backup.conns()
    backup.control.del_daemon(BACKUP)
    tcp(backup, "S")
    assert len(backup.conns()) == 1


def test_a_new_master_sends_a_taken_over_entry_with_flag_sync(backup: IPVS) -> None:
    received(backup, conn())
    start(backup, MASTER)
    backup.sysctl_write("sync_threshold", "0 1")
    tcp(backup, "A")
    backup.clock.advance(seconds=4)
    (datagram,) = backup.daemons.take()
    assert datagram.payload[12:16].hex() == "00000020"


def test_record_of_a_connection_that_finds_a_template_with_a_port_counts_it_as_active(backup: IPVS) -> None:
    """No kernel sends such a template. Whether the counter moves is decided by the record's TEMPLATE flag, not by the entry's."""
    received(backup, conn(0x1100))
    (found,) = received(backup, conn()).records
    assert (found.fate, entry(backup).is_template, counters(backup)) == ("updated", True, (1, 0, 1))
