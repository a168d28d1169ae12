"""Starting, stopping and listing daemons: what is refused, in which order, and what is filled in."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from tests.sync.lab import BACKUP, MASTER, VIP, director, start

from ipvs_model.errors import IPVSError
from ipvs_model.ipvs import IPVS
from ipvs_model.sync import DaemonEntry, DaemonUser
from ipvs_model.sync.daemon import IP_VS_SYNC_GROUP

GROUP6 = (10, 0xFF02 << 112 | 0x51)


def refusal(call: Callable[..., object], *args: object) -> int | None:
    """The errno of a call; None if it is accepted."""
    try:
        call(*args)
    except IPVSError as error:
        return error.errno
    return None


@pytest.fixture
def ipvs() -> IPVS:
    return director(interfaces={"eth0": 1500, "jumbo": 9000, "small": 1280, "lo": 65536})


def test_listing_has_everything_filled_in_master_first(ipvs: IPVS) -> None:
    start(ipvs, BACKUP, 9)
    start(ipvs, MASTER, 0x1_0007)
    assert ipvs.control.get_daemons() == [
        DaemonEntry(1, "eth0", 0x1_0007, 1472, IP_VS_SYNC_GROUP, 8848, 1),
        DaemonEntry(2, "eth0", 9, 1472, IP_VS_SYNC_GROUP, 8848, 1),
    ]
    assert ipvs.ns.sync_state == 3


@pytest.mark.parametrize(("state", "device", "error"), [(MASTER, "eth9", errno.ENODEV), (7, "eth0", errno.EINVAL)])
def test_a_refused_start_chooses_no_number_of_threads(ipvs: IPVS, state: int, device: str, error: int) -> None:
    ipvs.sysctl_write("sync_ports", 4)
    assert refusal(ipvs.daemons.start_sync_thread, DaemonUser(state=state, mcast_ifn=device, syncid=7)) == error
    assert ipvs.daemons.threads == 1
    start(ipvs, MASTER)
    assert ipvs.daemons.threads == 4


def test_what_is_given_is_kept(ipvs: IPVS) -> None:
    start(ipvs, MASTER, sync_maxlen=500, mcast_group=GROUP6, mcast_port=9000, mcast_ttl=7)
    assert ipvs.control.get_daemons() == [DaemonEntry(1, "eth0", 7, 500, GROUP6, 9000, 7)]


@pytest.mark.parametrize(
    ("state", "device", "given", "group", "expected"),
    [
        (MASTER, "eth0", 0, None, 1472),
        (MASTER, "jumbo", 0, None, 1472),
        (MASTER, "small", 0, GROUP6, 1452),
        (BACKUP, "eth0", 0, GROUP6, 1452),
        (BACKUP, "jumbo", 0, None, 8972),
        (BACKUP, "small", 0, None, 1472),
        (BACKUP, "lo", 0, None, 65507),
        (MASTER, "eth0", 1, None, 1),
        (BACKUP, "eth0", 1, None, 1024),
        (MASTER, "eth0", 65535, None, 65507),
        (BACKUP, "eth0", 65535, GROUP6, 65487),
    ],
)
def test_message_length(ipvs: IPVS, state: int, device: str, given: int, group: tuple[int, int] | None, expected: int) -> None:
    ipvs.control.new_daemon(DaemonUser(state, device, 0, given, group))
    assert ipvs.control.get_daemons()[0].sync_maxlen == expected


@pytest.mark.parametrize(
    ("user", "code"),
    [
        (DaemonUser(1), errno.EINVAL),
        (DaemonUser(1, "e" * 16), errno.EINVAL),
        (DaemonUser(1, "eth9"), errno.ENODEV),
        (DaemonUser(3, "eth9"), errno.ENODEV),  # the interface is looked at before the state
        (DaemonUser(1, "eth9", mcast_group=(2, 0x0A000001)), errno.EINVAL),  # and the group before the interface
        (DaemonUser(1, "eth0", mcast_group=(10, 0xFE80 << 112)), errno.EINVAL),
        (DaemonUser(1, "eth0", mcast_group=(2, 0xE0000000)), None),
        (DaemonUser(1, "eth0", mcast_group=(2, 0xEFFFFFFF)), None),
        (DaemonUser(1, "eth0", mcast_group=(2, 0xF0000000)), errno.EINVAL),
        (DaemonUser(0, "eth0"), errno.EINVAL),
        (DaemonUser(3, "eth0"), errno.EINVAL),
        (DaemonUser(1, "eth0", 0xFFFFFFFF), None),
        (DaemonUser(1, "eth0", 1 << 32), errno.EINVAL),
    ],
)
def test_what_cannot_be_started(ipvs: IPVS, user: DaemonUser, code: int | None) -> None:
    assert refusal(ipvs.control.new_daemon, user) == code
    assert bool(ipvs.ns.sync_state) == bool(ipvs.control.get_daemons()) == (code is None)


@pytest.mark.parametrize("state", [MASTER, BACKUP])
def test_each_daemon_runs_once(ipvs: IPVS, state: int) -> None:
    start(ipvs, state)
    assert refusal(ipvs.control.new_daemon, DaemonUser(state, "eth0")) == errno.EEXIST
    assert refusal(ipvs.control.new_daemon, DaemonUser(state, "eth9")) == errno.ENODEV
    assert refusal(ipvs.control.new_daemon, DaemonUser(3 - state, "eth0")) is None


@pytest.mark.parametrize("state", [MASTER, BACKUP])
def test_stopping(ipvs: IPVS, state: int) -> None:
    assert refusal(ipvs.control.del_daemon, state) == errno.ESRCH
    start(ipvs, MASTER)
    start(ipvs, BACKUP)
    assert refusal(ipvs.control.del_daemon, state) is None
    assert [entry.state for entry in ipvs.control.get_daemons()] == [3 - state] == [ipvs.ns.sync_state]


@pytest.mark.parametrize("state", [0, 3, 4])
def test_no_such_daemon_to_stop(ipvs: IPVS, state: int) -> None:
    assert refusal(ipvs.control.del_daemon, state) == errno.EINVAL


def test_mixed_destinations_keep_netlink_from_starting_but_not_the_socket_option(ipvs: IPVS) -> None:
    svc = ipvs.add_service("tcp", f"{VIP}:80")
    ipvs.add_dest(svc, "[2001:db8:1::11]:80", forward="tunnel")
    assert refusal(ipvs.control.new_daemon, DaemonUser(MASTER, "eth9")) == errno.EINVAL
    assert refusal(ipvs.daemons.start_sync_thread, DaemonUser(MASTER, "eth0")) is None


def test_thread_count_is_chosen_when_the_first_daemon_starts(ipvs: IPVS) -> None:
    ipvs.sysctl_write("sync_ports", 4)
    start(ipvs, BACKUP)
    ipvs.sysctl_write("sync_ports", 128)
    start(ipvs, MASTER)
    assert ipvs.daemons.threads == 4
    ipvs.control.del_daemon(MASTER)
    ipvs.control.del_daemon(BACKUP)
    start(ipvs, MASTER)
    assert ipvs.daemons.threads == 64 and ipvs.daemons.master is not None and len(ipvs.daemons.master.threads) == 64


def test_log_line(ipvs: IPVS) -> None:
    start(ipvs, BACKUP)
    assert ipvs.log[-1] == ("info", "IPVS: sync thread started: state = BACKUP, mcast_ifn = eth0, syncid = 7, id = 0")
