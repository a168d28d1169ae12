"""Sysctls: what may be written, what is read back, errno (the sysctl table of the control specification)."""

import errno

import pytest

from ipvs_model.errors import IPVSError
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.sysctl import VARS

DEFAULTS = {
    "amemthresh": "1024", "am_droprate": "10", "drop_entry": "0", "drop_packet": "0", "conntrack": "0", "secure_tcp": "0", "snat_reroute": "1",
    "sync_version": "1", "sync_ports": "1", "sync_persist_mode": "0", "sync_sock_size": "0", "cache_bypass": "0", "expire_nodest_conn": "0",
    "sloppy_tcp": "0", "sloppy_sctp": "0", "expire_quiescent_template": "0", "sync_threshold": "3\t50", "sync_refresh_period": "0", "sync_retries": "0",
    "nat_icmp_send": "0", "pmtu_disc": "1", "backup_only": "0", "conn_reuse_mode": "1", "schedule_icmp": "0", "ignore_tunneled": "0",
    "run_estimation": "1", "est_cpulist": "0", "est_nice": "0", "lblc_expiration": "86400", "lblcr_expiration": "86400",
}  # fmt: skip
ANY_INT = [
    "amemthresh", "am_droprate", "conntrack", "snat_reroute", "sync_persist_mode", "sync_sock_size", "cache_bypass", "expire_nodest_conn", "sloppy_tcp",
    "sloppy_sctp", "expire_quiescent_template", "nat_icmp_send", "pmtu_disc", "backup_only", "conn_reuse_mode", "schedule_icmp", "ignore_tunneled",
    "run_estimation",
]  # fmt: skip
RANGES = {"drop_entry": (0, 3), "drop_packet": (0, 3), "secure_tcp": (0, 3), "sync_version": (0, 1), "sync_retries": (0, 3), "est_nice": (-20, 19)}
SECONDS = ["sync_refresh_period", "lblc_expiration", "lblcr_expiration"]
INT_MAX = 2**31 - 1


@pytest.fixture
def ipvs() -> IPVS:
    return IPVS()


def refused(ipvs: IPVS, name: str, value: str, number: int = errno.EINVAL) -> None:
    """A write is refused and the old value stays."""
    before = ipvs.sysctl_read(name)
    with pytest.raises(IPVSError) as error:
        ipvs.sysctl_write(name, value)
    assert (error.value.errno, ipvs.sysctl_read(name)) == (number, before)


def test_defaults(ipvs):
    assert {var.name: ipvs.sysctl_read(var.name) for var in VARS if var.name != "sync_qlen_max"} == DEFAULTS


def test_unknown_names(ipvs):
    for call in (lambda: ipvs.sysctl_read("timeout_close"), lambda: ipvs.sysctl_write("net.ipv4.vs.timeout_close", 1)):
        with pytest.raises(IPVSError) as error:
            call()
        assert error.value.errno == errno.ENOENT


@pytest.mark.parametrize("name", ANY_INT)
def test_any_int_is_permitted(ipvs, name):
    for value in ("0", "-1", "7", str(INT_MAX), str(-INT_MAX - 1)):
        ipvs.sysctl_write(name, value)
        assert ipvs.sysctl_read(name) == value
    refused(ipvs, name, str(INT_MAX + 1))
    refused(ipvs, name, str(-INT_MAX - 2))


@pytest.mark.parametrize("name", sorted(RANGES))
def test_ranges(ipvs, name):
    low, high = RANGES[name]
    for value in (low, high):
        ipvs.sysctl_write(name, value)
        assert ipvs.sysctl_read(name) in (str(value), "1"), "the defence turns a 2 into a 1 while there is memory"
    refused(ipvs, name, str(low - 1))
    refused(ipvs, name, str(high + 1))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", "5"), ("-5", "-5"), ("0x10", "16"), ("0X1f", "31"), ("-0x10", "-16"), ("010", "8"), ("0", "0"), ("00", "0"), ("  7", "7"), ("7  ", "7"),
        ("7\n", "7"), ("\t7\n", "7"), ("7 8", "7"), ("7 x", "7"), ("7\n8", "7"),
    ],
)  # fmt: skip
def test_how_an_int_may_be_written(ipvs, text, value):
    ipvs.sysctl_write("amemthresh", text)
    assert ipvs.sysctl_read("amemthresh") == value


@pytest.mark.parametrize("text", ["", " ", "\n", "x", "7x", "7,8", "+7", "- 7", "--7", "0x", "08", "1.5", "-", "7-", "0xg"])
def test_how_an_int_may_not_be_written(ipvs, text):
    refused(ipvs, "amemthresh", text)


@pytest.mark.parametrize("value", [1, 2, 4, 64, 1 << 20, 1 << 30])
def test_sync_ports_is_a_power_of_two(ipvs, value):
    ipvs.sysctl_write("sync_ports", value)
    assert ipvs.sysctl_read("sync_ports") == str(value)


@pytest.mark.parametrize("value", ["0", "-1", "3", "6", "100", "-2"])
def test_sync_ports_is_nothing_else(ipvs, value):
    refused(ipvs, "sync_ports", value)


def test_sync_qlen_max_is_an_unsigned_long(ipvs):
    for value in (0, 2**64 - 1, 15000):
        ipvs.sysctl_write("sync_qlen_max", value)
        assert ipvs.sysctl_read("sync_qlen_max") == str(value)
    refused(ipvs, "sync_qlen_max", "-1")
    refused(ipvs, "sync_qlen_max", str(2**64))


@pytest.mark.parametrize("hz", [100, 250, 1000])
@pytest.mark.parametrize("name", SECONDS)
def test_seconds_are_kept_in_jiffies(name, hz):
    ipvs = IPVS(Environment(hz=hz))
    most = INT_MAX // hz
    for value in (0, 1, 90, most, -1, -most):
        ipvs.sysctl_write(name, value)
        assert (ipvs.sysctl_read(name), getattr(ipvs.ns.sysctl, name)) == (str(value), value * hz)
    refused(ipvs, name, str(most + 1))
    refused(ipvs, name, str(-most - 1))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("49", "49\t50"),
        ("0 0", "0\t0"),
        ("7 0", "7\t0"),
        ("1 2", "1\t2"),
        ("5\t9", "5\t9"),
        ("0 1", "0\t1"),
        (f"{INT_MAX - 1} {INT_MAX}", f"{INT_MAX - 1}\t{INT_MAX}"),
    ],
)
def test_sync_threshold_that_is_permitted(ipvs, text, value):
    ipvs.sysctl_write("sync_threshold", text)
    assert ipvs.sysctl_read("sync_threshold") == value


@pytest.mark.parametrize("text", ["50", "-1 5", "5 5", "6 5", "3 -1", "", "x", "x 50", f"{INT_MAX + 1} 0"])
def test_sync_threshold_that_is_not(ipvs, text):
    refused(ipvs, "sync_threshold", text)


@pytest.mark.parametrize("text", ["7 x", "7 50x", f"7 {INT_MAX + 1}"])
def test_malformed_second_number_is_refused_although_the_first_is_stored(ipvs, text):
    with pytest.raises(IPVSError) as error:
        ipvs.sysctl_write("sync_threshold", text)
    assert (error.value.errno, ipvs.sysctl_read("sync_threshold")) == (errno.EINVAL, "7\t50")


def test_cpu_list():
    ipvs = IPVS(Environment(cpus=4))
    assert ipvs.sysctl_read("est_cpulist") == "0-3"
    for text in ("2", "0-1", "0,2-3", "1,3"):
        ipvs.sysctl_write("est_cpulist", text)
        assert ipvs.sysctl_read("est_cpulist") == text
    for text in ("a", "1-", "3-1", "1;2"):
        refused(ipvs, "est_cpulist", text)
    refused(ipvs, "est_cpulist", "4", errno.ERANGE)
    refused(ipvs, "est_cpulist", "0-4", errno.ERANGE)


def test_empty_cpu_list_stops_estimation_and_nothing_at_all_changes_nothing():
    ipvs = IPVS()
    ipvs.add_service("tcp", "192.0.2.1:80")
    ipvs.sysctl_write("est_cpulist", "")
    assert (ipvs.sysctl_read("est_cpulist"), ipvs.ns.estimator.running) == ("0", True)
    ipvs.sysctl_write("est_cpulist", "\n")
    assert (ipvs.sysctl_read("est_cpulist"), ipvs.ns.estimator.running) == ("", False)
    ipvs.sysctl_write("est_cpulist", "0")
    assert ipvs.ns.estimator.running


@pytest.mark.parametrize(("value", "running"), [("0", False), ("-1", True), ("5", True)])
def test_run_estimation_is_tested_for_non_zero(ipvs, value, running):
    ipvs.add_service("tcp", "192.0.2.1:80")
    ipvs.sysctl_write("run_estimation", value)
    assert ipvs.ns.estimator.running == running
