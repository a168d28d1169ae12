"""Two directors on one clock, and the network between them."""

from __future__ import annotations

import pytest
from tests.sync.lab import BACKUP, MASTER, director, start, tcp, udp, web

from ipvs_model.events import Event
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.sync.link import SyncLink
from ipvs_model.timers import Clock


def pair(timers: str = "kernel", threshold: str = "0 1", forward: str = "masq") -> tuple[IPVS, IPVS]:
    """A master and a backup with the same UDP and TCP services."""
    master = director(timers=timers)
    backup = director(master.clock, timers=timers)
    for ipvs, state in ((master, MASTER), (backup, BACKUP)):
        web(ipvs, "10.1.0.11:80", "10.1.0.12:80", protocol="udp", forward=forward)
        web(ipvs, "10.1.0.11:80", "10.1.0.12:80", forward=forward)
        ipvs.sysctl_write("sync_threshold", threshold)
        start(ipvs, state)
    return master, backup


def clients(ipvs: IPVS, count: int, messages: int = 1) -> None:
    """So many clients; every one of them gives a record, and each round of them several messages."""
    for _ in range(messages):
        for port in range(1024, 1024 + count):
            udp(ipvs, port)
        ipvs.clock.advance(seconds=3)


def rows(ipvs: IPVS) -> list[str]:
    """The entries without their expiry."""
    return sorted(" ".join(line.split()[:8]) for line in ipvs.proc("ip_vs_conn").splitlines()[1:])


def test_the_backup_s_table_becomes_the_master_s() -> None:
    master, backup = pair()
    link = SyncLink(master, backup)
    clients(master, 100)
    assert rows(backup) == rows(master) and len(rows(master)) == 100
    assert (link.sent, link.lost, link.delivered, link.applied) == (3, 0, 3, 100)
    check(backup.ns)


def test_after_takeover_connections_stay_with_their_servers() -> None:
    master, backup = pair()
    link = SyncLink(master, backup)
    clients(master, 50)
    link.up = False
    servers = {cp.client: cp.real for cp in master.conns()}
    for port in range(1024, 1074):
        udp(backup, port)
    assert {cp.client: cp.real for cp in backup.conns()} == servers


def test_losses_are_the_same_on_every_run_and_differ_by_seed() -> None:
    def applied(loss: float, seed: int) -> int:
        master, backup = pair()
        link = SyncLink(master, backup, loss=loss, seed=seed)
        clients(master, 40, 30)
        return link.lost

    assert applied(0.5, 1) == applied(0.5, 1)
    assert len({applied(0.5, seed) for seed in range(6)}) > 1
    assert applied(0.0, 1) == 0 and applied(1.0, 1) == 30
    assert 0 < applied(0.05, 1) <= applied(0.5, 1)


@pytest.mark.parametrize("timers", ["kernel", "exact"])
@pytest.mark.parametrize("delay", [1, 5, 60])
def test_delay_in_jiffies(timers: str, delay: int) -> None:
    master, backup = pair(timers)
    link = SyncLink(master, backup, delay=delay)
    udp(master, 4000)
    while not link.sent:
        master.clock.advance(1)
    for _ in range(delay - 1):
        master.clock.advance(1)
        assert link.delivered == 0
    master.clock.advance(1)
    assert link.delivered == 1 and len(backup.conns()) == 1


def test_datagrams_of_different_delay_overtake_each_other() -> None:
    master, backup = pair()
    master.sysctl_write("sync_threshold", "0 1")
    link = SyncLink(master, backup, delay=(1, 60), seed=3)
    clients(master, 400)
    assert link.delivered == link.sent == 10 and len(backup.conns()) == 400


def test_two_backups_hear_one_master() -> None:
    master, backup = pair()
    third = director(master.clock)
    start(third, BACKUP)
    first, second = SyncLink(master, backup), SyncLink(master, third)
    clients(master, 10)
    assert len(backup.conns()) == len(third.conns()) == 10
    with pytest.raises(ValueError, match="another link"):
        first.unplug()
    second.unplug()
    first.unplug()
    clients(master, 10)
    assert first.sent == second.sent == 1 and master.daemons.take()


def test_link_can_work_both_ways() -> None:
    master, backup = pair()
    start(master, BACKUP)
    start(backup, MASTER)
    SyncLink(master, backup)
    SyncLink(backup, master)
    clients(master, 5)
    for port in range(2000, 2005):
        udp(backup, port)
    master.clock.advance(seconds=4)
    assert len(master.conns()) == len(backup.conns()) == 10


def test_group_of_another_backup_does_not_hear() -> None:
    master = director()
    backup = director(master.clock)
    web(master, "10.1.0.11:80", protocol="udp")
    master.sysctl_write("sync_threshold", "0 1")
    start(master, MASTER, mcast_port=9000)
    start(backup, BACKUP)
    link = SyncLink(master, backup)
    clients(master, 5)
    assert link.last is not None and link.last.error == "address" and not backup.conns()


def test_copy_of_a_pair_goes_on_by_itself() -> None:
    master, backup = pair()
    link = SyncLink(master, backup, loss=0.3, delay=3, seed=5)
    clients(master, 200)
    twin = master.fork()
    clients(twin, 200)
    before = link.sent
    clients(master, 200)
    carry = twin.daemons.out.__self__  # type: ignore[union-attr]
    assert (link.sent, link.lost, link.applied) == (carry.sent, carry.lost, carry.applied) and link.sent > before
    assert carry is not link


def test_watching_a_master_changes_nothing() -> None:
    tables = []
    for watched in (False, True):
        master, backup = pair(threshold="3 50")
        SyncLink(master, backup, loss=0.2, seed=1)
        events: list[Event] = []
        if watched:
            master.subscribe(events.append)
            backup.subscribe(events.append)
        for port in range(1024, 1100):
            tcp(master, "S A A A", port)
        master.clock.advance(seconds=4)
        tables.append((master.proc("ip_vs_conn"), backup.proc("ip_vs_conn"), backup.proc("ip_vs")))
    assert tables[0] == tables[1] and events


def test_what_makes_no_sense_is_refused() -> None:
    master, backup = pair()
    for wrong in ({"loss": 1.5}, {"loss": -0.1}, {"delay": -1}, {"delay": (5, 2)}):
        with pytest.raises(ValueError, match="="):
            SyncLink(master, backup, **wrong)  # type: ignore[arg-type]
    other = director(Clock())
    with pytest.raises(ValueError, match="one Clock"):
        SyncLink(master, other)
