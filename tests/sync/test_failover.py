"""The fail-over study of docs/failover.md: its table is recomputed, and each reason that the page gives is a test."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sync.failover import DEATHS, LOSSES, SEEDS, SETTINGS, Setting, result, run, table, traffic
from tests.sync.lab import BACKUP, MASTER, VIP, director, entry, received, start, tcp, web

from ipvs_model.addresses import format_endpoint
from ipvs_model.events import Event, SyncDecision
from ipvs_model.flags import AF_INET
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.packet import Packet
from ipvs_model.sync.link import SyncLink
from ipvs_model.sync.messages import decode_message

PAGE = Path(__file__).parents[2] / "docs" / "failover.md"
SYNCED = [setting for setting in SETTINGS if setting.daemons]


# --- the study ----------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_table_as_it_comes_out() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", SYNCED, ids=str)
def test_a_connection_survives_if_and_only_if_the_backup_knows_it(setting: Setting) -> None:
    found = result(setting)
    assert found.established == sum(visit.is_open(DEATHS[-1]) for visit in traffic())
    for backup in found.backups:
        assert backup.fate.survived == round(backup.known[-1] * found.established)
        assert backup.fate.survived + backup.fate.refused == found.established and backup.fate.moved == 0


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_new_connections_are_served_whatever_was_lost(setting: Setting) -> None:
    began = sum(visit.packets[0][0] > DEATHS[-1] for visit in traffic())
    assert {backup.fate.newcomers for backup in result(setting).backups} == {began}


@pytest.mark.parametrize("setting", SYNCED, ids=str)
def test_a_link_that_loses_more_never_does_better(setting: Setting) -> None:
    found = result(setting)
    (none,), few, many = (found.of(loss) for loss in LOSSES)
    assert len(few) == len(many) == len(SEEDS)
    for worse, better in zip(many, few, strict=True):
        for shares in zip(worse.known, better.known, none.known, strict=True):
            assert list(shares) == sorted(shares)


def test_the_study_repeats_itself() -> None:
    some = traffic()[::5]
    assert run(Setting("0 1"), some) == run(Setting("0 1"), some)


# --- the reasons --------------------------------------------------------------------------------------------------------


def pair(threshold: str, loss: float = 0.0, **sysctls: int) -> tuple[IPVS, IPVS, SyncLink]:
    """A master and a backup with one server each, and the link between them."""
    master = director()
    backup = director(master.clock)
    for ipvs, state in ((master, MASTER), (backup, BACKUP)):
        web(ipvs)
        ipvs.sysctl_write("sync_threshold", threshold)
        for name, value in sysctls.items():
            ipvs.sysctl_write(name, value)
        start(ipvs, state)
    return master, backup, SyncLink(master, backup, loss=loss)


FIRST_SENT = {"3 50": 3, "2 50": 2, "1 5": 6, "2 5": 2, "0 1": 2, "3 0": 3, "1 0": None, "0 50": 50}


@pytest.mark.parametrize(("threshold", "packet"), FIRST_SENT.items(), ids=FIRST_SENT)
def test_packet_with_which_a_connection_is_first_sent(threshold: str, packet: int | None) -> None:
    """Packet 1 is the SYN: in SYN_RECV nothing is sent, so a threshold of 1 waits for the next round, or for ever."""
    master, backup, _ = pair(threshold)
    known_at = None
    for number in range(1, 61):
        tcp(master, "S" if number == 1 else "A")
        master.clock.advance(seconds=4)
        if known_at is None and backup.conns():
            known_at = number
    assert known_at == packet


def test_answers_of_the_server_do_not_count() -> None:
    master, backup, _ = pair("3 50")
    tcp(master, "S A")
    for _ in range(100):
        master.process(Packet.tcp("10.1.0.11:8080", "172.16.0.5:3000", "PA"))
    master.clock.advance(seconds=10)
    assert not backup.conns()


def test_records_of_the_last_two_to_three_seconds_die_with_the_master() -> None:
    seconds = []
    for begin in range(0, 256, 16):
        master, _, link = pair("2 50")
        master.clock.advance(2000 + begin)
        tcp(master, "S A")
        since = master.clock.now
        while not link.delivered:
            master.clock.advance(1)
        seconds.append((master.clock.now - since) / 250)
    assert 2 <= min(seconds) < 2.1 and 2.9 < max(seconds) <= 3.02


def test_busy_masters_send_sooner_because_their_buffers_fill() -> None:
    master, backup, link = pair("2 50")
    for port in range(2000, 2041):
        tcp(master, "S A", port)
    master.clock.advance(seconds=0.1)
    assert link.delivered == 1 and len(backup.conns()) == 40  # the 41st record begins the next buffer


def test_one_lost_datagram_is_forty_connections() -> None:
    master, backup, link = pair("2 50")
    link.up = False
    for port in range(2000, 2041):
        tcp(master, "S A", port)
    master.clock.advance(seconds=0.1)
    link.up = True
    master.clock.advance(seconds=4)
    assert link.lost == 1 and len(backup.conns()) == 1


#: what is set → the packets that send a connection whose client sends one a second: the first 30, or the first 60 for a period of 50
REPEATED = {
    "3 50": ({}, [3, 53]),
    "2 5": ({}, [2, 7, 12, 17, 22, 27]),
    "0 1": ({}, list(range(2, 31))),
    "3 0": ({}, [3]),
    "3 0, refresh": ({"sync_refresh_period": 10}, [2, 12, 22]),
    "3 0, refresh, retries": ({"sync_refresh_period": 10, "sync_retries": 3}, [2, 4, 6, 8, 19, 21, 23, 25]),
}


@pytest.mark.parametrize(("threshold", "sysctls", "packets"), [(name.split(",")[0], *value) for name, value in REPEATED.items()], ids=REPEATED)
def test_packets_with_which_a_connection_is_sent_again(threshold: str, sysctls: dict[str, int], packets: list[int]) -> None:
    master, _, _ = pair(threshold, **sysctls)
    events: list[Event] = []
    master.subscribe(events.append)
    tcp(master, "S")
    for _ in range(59 if threshold == "3 50" else 29):
        master.clock.advance(250)
        tcp(master, "A")
    decisions = [event for event in events if isinstance(event, SyncDecision)]
    assert [number for number, event in enumerate(decisions, 1) if event.needed] == packets


@pytest.mark.parametrize(("threshold", "known"), [("2 5", True), ("3 50", False), ("3 0", False)])
def test_only_a_record_that_comes_again_makes_good_for_a_lost_one(threshold: str, known: bool) -> None:
    master, backup, link = pair(threshold)
    link.up = False
    tcp(master, "S A A")
    master.clock.advance(seconds=4)
    link.up = True
    for _ in range(10):
        tcp(master, "A")
    master.clock.advance(seconds=4)
    assert link.lost == 1 and bool(backup.conns()) == known


def test_a_lost_end_leaves_a_ghost_for_a_quarter_of_an_hour() -> None:
    master, backup, link = pair("2 50")
    tcp(master, "S A")
    master.clock.advance(seconds=4)
    link.up = False
    tcp(master, "FA")
    master.clock.advance(seconds=200)
    (dest,) = backup.services[0].destinations
    assert not master.conns() and entry(backup).state_name == "ESTABLISHED" and dest.activeconns == 1
    master.clock.advance(seconds=750)
    assert not backup.conns() and dest.activeconns == 0


def test_with_persistence_the_template_goes_along_with_every_packet() -> None:
    """So a client's next connection finds its server even where the connection itself was too short to be sent."""
    master = director()
    backup = director(master.clock)
    for ipvs, state in ((master, MASTER), (backup, BACKUP)):
        web(ipvs, "10.1.0.11:80", "10.1.0.12:80", "10.1.0.13:80", persistent=300)
        start(ipvs, state)
    SyncLink(master, backup)
    for number in range(1, 10):
        tcp(master, "S A", client=f"172.16.0.{number}")
    master.clock.advance(seconds=4)
    assert not backup.conns(templates=False)
    chosen = {cp.caddr: cp.daddr for cp in master.conns(templates=False)}
    for number in reversed(range(1, 10)):
        tcp(backup, "S", 5000, client=f"172.16.0.{number}")
    assert {cp.caddr: cp.daddr for cp in backup.conns(templates=False)} == chosen
    check(backup.ns)


def test_after_the_takeover_the_new_master_goes_on_counting_from_the_threshold() -> None:
    """The old master, back as a backup, is told of an entry after a whole period."""
    master, backup, link = pair("3 50")
    tcp(master, "S A A")
    master.clock.advance(seconds=4)
    link.unplug()
    start(backup, MASTER)
    for number in range(1, 51):
        tcp(backup, "A")
        buffered = backup.daemons.master is not None and backup.daemons.master.threads[0].buffer is not None
        assert buffered == (number == 50)


CLIENTS = [f"203.0.113.{number}:40000" for number in range(1, 13)]


def standby(sloppy: int) -> tuple[dict[str, str], IPVS]:
    """The servers that a director with mh gives to twelve clients' SYNs, and a second one, set up alike, that knows of nothing."""
    first, second = director(), director()
    for ipvs in (first, second):
        service = ipvs.add_service("tcp", f"{VIP}:80", scheduler="mh")
        for number in range(11, 16):
            ipvs.add_dest(service, f"10.1.0.{number}:80")
        ipvs.sysctl_write("sloppy_tcp", sloppy)
    servers = {}
    for client in CLIENTS:
        out = first.receive(Packet.tcp(client, f"{VIP}:80", "S"))
        servers[client] = format_endpoint(AF_INET, out.emitted[0].dst)
    return servers, second


def test_without_synchronisation_and_sloppy_tcp_everybody_gets_a_reset() -> None:
    _, second = standby(0)
    outcomes = [second.receive(Packet.tcp(client, f"{VIP}:80", "A")) for client in CLIENTS]
    assert {out.reason.code for out in outcomes} == {"not a starter"}  # delivered to the host, which has no such socket
    assert all(out.delivered is not None and not out.emitted for out in outcomes) and not second.conns()


def test_with_mh_and_sloppy_tcp_everybody_keeps_the_server() -> None:
    servers, second = standby(1)
    assert len(set(servers.values())) > 2
    for client in CLIENTS:
        out = second.receive(Packet.tcp(client, f"{VIP}:80", "A"))
        assert format_endpoint(AF_INET, out.emitted[0].dst) == servers[client]
    assert {(cp.state_name, cp.timeout) for cp in second.conns()} == {("ESTABLISHED", 900 * 250)}


def test_what_is_on_the_wire_is_what_the_page_says() -> None:
    master, _, link = pair("2 50")
    tcp(master, "S A")
    master.clock.advance(seconds=4)
    payloads: list[bytes] = []
    link.unplug()
    master.daemons.out = lambda datagram: payloads.append(datagram.payload)
    for number in range(40):
        tcp(master, "S A", 2000 + number)
    master.clock.advance(seconds=4)
    (payload,) = payloads
    assert len(payload) == 8 + 40 * 36 <= 1472 < 8 + 41 * 36
    records = [item.record for item in decode_message(payload).entries]
    assert {record.timeout for record in records if record is not None} == {900}
    third = director()
    start(third, BACKUP)
    assert received(third, *(record for record in records if record is not None)).applied == 40
