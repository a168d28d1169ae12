"""Control calls: which errno comes first, what a refused call leaves, add, edit and delete (operations and errno of the control specification)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from tests.host import Host
from tests.lab import Lab, endpoint

from ipvs_model.dest import DestUser
from ipvs_model.errors import IPVSError
from ipvs_model.flags import AF_INET6, IP_VS_SVC_F_HASHED, IP_VS_SVC_F_ONEPACKET, IP_VS_SVC_F_PERSISTENT
from ipvs_model.schedulers import Scheduler
from ipvs_model.service import ServiceUser
from ipvs_model.sync.daemon import DaemonUser

WEB = ServiceUser(addr=endpoint("192.0.2.1:0") >> 16, port=80, sched_name="rr")
OTHER = ServiceUser(addr=endpoint("192.0.2.1:0") >> 16, port=81, sched_name="rr")
WEB6 = ServiceUser(af=AF_INET6, addr=endpoint("[2001:db8:2::1]:0") >> 16, port=80, sched_name="rr", netmask=128)
A = DestUser(addr=endpoint("10.1.0.11:0") >> 16, port=8080)
B = DestUser(addr=endpoint("10.1.0.12:0") >> 16, port=8080)


@pytest.fixture
def lab() -> Lab:
    """A director with the service WEB and its destination A."""
    lab = Lab()
    lab.control.new_service(WEB)
    lab.control.new_dest(WEB, A)
    return lab


def error_of(call: Callable[[], Any]) -> str:
    """The name of the errno with which a call is refused."""
    with pytest.raises(IPVSError) as error:
        call()
    assert error.value.errno is not None
    return errno.errorcode[error.value.errno]


ERRORS: list[tuple[str, str, tuple[Any, ...], str]] = [
    # worked orderings
    ("existing service with an unknown scheduler", "new_service", (evolve(WEB, sched_name="nix"),), "EEXIST"),
    ("missing service with an unknown scheduler", "set_service", (evolve(OTHER, sched_name="nix"),), "ESRCH"),
    ("destination of weight -1 for a missing service", "new_dest", (OTHER, evolve(A, weight=-1)), "ESRCH"),
    ("existing destination with a lower threshold only", "new_dest", (WEB, evolve(A, l_threshold=5)), "ERANGE"),
    ("missing destination of weight -1", "set_dest", (WEB, evolve(B, weight=-1)), "ERANGE"),
    # services
    ("unknown scheduler", "new_service", (evolve(OTHER, sched_name="nix"),), "ENOENT"),
    ("unknown scheduler before unknown engine", "new_service", (evolve(OTHER, sched_name="nix", pe_name="nix"),), "ENOENT"),
    ("unknown engine", "new_service", (evolve(OTHER, pe_name="nix"),), "ENOENT"),
    ("unknown engine before a wrong prefix", "new_service", (evolve(WEB6, pe_name="nix", netmask=0),), "ENOENT"),
    ("prefix 0", "new_service", (evolve(WEB6, netmask=0),), "EINVAL"),
    ("prefix 129", "new_service", (evolve(WEB6, netmask=129),), "EINVAL"),
    ("family 0", "new_service", (evolve(OTHER, af=0),), "EAFNOSUPPORT"),
    ("family 0 before exists", "set_service", (evolve(WEB, af=1),), "EAFNOSUPPORT"),
    ("scheduler name of 16 characters", "new_service", (evolve(OTHER, sched_name="x" * 16),), "EINVAL"),
    ("scheduler name of 16 characters before the family", "new_service", (evolve(OTHER, af=0, sched_name="x" * 16),), "EINVAL"),
    ("scheduler name of 16 characters for a missing service", "set_service", (evolve(OTHER, sched_name="x" * 16),), "EINVAL"),
    ("empty scheduler name", "new_service", (evolve(OTHER, sched_name=""),), "ENOENT"),
    ("edit to an unknown scheduler", "set_service", (evolve(WEB, sched_name="nix"),), "ENOENT"),
    ("edit to an unknown engine", "set_service", (evolve(WEB, pe_name="nix"),), "ENOENT"),
    ("edit of a missing service", "set_service", (OTHER,), "ESRCH"),
    ("delete of a missing service", "del_service", (OTHER,), "ESRCH"),
    ("delete with family 0", "del_service", (evolve(WEB, af=0),), "EAFNOSUPPORT"),
    ("get of a missing service", "get_service", (OTHER,), "ESRCH"),
    ("zero of a missing service", "zero", (OTHER,), "ESRCH"),
    ("other protocol is another service", "get_service", (evolve(WEB, protocol=17),), "ESRCH"),
    ("mark that no service has", "get_service", (evolve(WEB, fwmark=7),), "ESRCH"),
    # destinations
    ("missing service", "new_dest", (OTHER, A), "ESRCH"),
    ("missing service of an edit", "set_dest", (OTHER, A), "ESRCH"),
    ("missing service of a delete", "del_dest", (OTHER, A), "ESRCH"),
    ("family 1", "new_dest", (WEB, evolve(A, af=1)), "EAFNOSUPPORT"),
    ("family 1 of a delete", "del_dest", (WEB, evolve(A, af=1)), "EAFNOSUPPORT"),
    ("family before weight", "new_dest", (WEB, evolve(A, af=1, weight=-1)), "EAFNOSUPPORT"),
    ("mixed family without tunnel", "new_dest", (WEB, evolve(A, af=AF_INET6)), "EINVAL"),
    ("mixed family before weight", "new_dest", (WEB, evolve(A, af=AF_INET6, weight=-1)), "EINVAL"),
    ("weight before thresholds and tunnel", "new_dest", (WEB, evolve(B, weight=-1, l_threshold=1, tun_type=1)), "ERANGE"),
    ("lower above upper threshold", "new_dest", (WEB, evolve(B, u_threshold=4, l_threshold=5)), "ERANGE"),
    ("thresholds before the size of the upper one", "new_dest", (WEB, evolve(B, u_threshold=1 << 31, l_threshold=0xFFFFFFFF)), "ERANGE"),
    ("upper threshold beyond INT_MAX", "new_dest", (WEB, evolve(B, u_threshold=1 << 31)), "EINVAL"),
    ("GUE without port", "new_dest", (WEB, evolve(B, tun_type=1)), "EINVAL"),
    ("GUE without port before exists", "new_dest", (WEB, evolve(A, tun_type=1)), "EINVAL"),
    ("exists before the address", "new_dest", (WEB, A), "EEXIST"),
    ("address 0.0.0.0", "new_dest", (WEB, evolve(A, addr=0)), "EINVAL"),
    ("broadcast address", "new_dest", (WEB, evolve(A, addr=0xFFFFFFFF)), "EINVAL"),
    ("multicast address", "new_dest", (WEB, evolve(A, addr=0xE0000001)), "EINVAL"),
    ("edit of a missing destination", "set_dest", (WEB, B), "ENOENT"),
    ("edit to GUE without port of a missing destination", "set_dest", (WEB, evolve(B, tun_type=1)), "EINVAL"),
    ("delete of a missing destination", "del_dest", (WEB, B), "ENOENT"),
    # the rest
    ("negative timeout", "set_config", (-1, 0, 0), "EINVAL"),
    ("timeout beyond INT_MAX / HZ", "set_config", (0, 8589935, 0), "EINVAL"),
    ("daemon state 0", "new_daemon", (DaemonUser(0, "eth0", 1),), "EINVAL"),
    ("daemon state 3", "new_daemon", (DaemonUser(3, "eth0", 1),), "EINVAL"),
    ("unknown device before the state", "new_daemon", (DaemonUser(3, "nix", 1),), "ENODEV"),
    ("unknown device", "new_daemon", (DaemonUser(1, "nix", 1),), "ENODEV"),
    ("group that is not multicast", "new_daemon", (DaemonUser(1, "nix", 1, mcast_group=(2, 0x0A000001)),), "EINVAL"),
    ("stop of what does not run", "del_daemon", (1,), "ESRCH"),
    ("stop of both", "del_daemon", (3,), "EINVAL"),
]


def snapshot(lab: Lab) -> str:
    """Everything that a refused call could have changed."""
    control = lab.control
    services = [
        (entry, control.get_dests(ServiceUser(af=entry.af, protocol=entry.protocol, addr=entry.addr, port=entry.port, fwmark=entry.fwmark)))
        for entry in control.get_services()
    ]
    counters = {name: value for name, value in vars(lab.ns).items() if isinstance(value, int)}
    return repr((services, counters, control.get_config(), control.get_daemons(), lab.ipvs.proc("ip_vs"), lab.ipvs.proc("ip_vs_conn")))


@pytest.mark.parametrize(("what", "call", "arguments", "number"), ERRORS, ids=[row[0] for row in ERRORS])
def test_first_error_wins_and_nothing_changes(lab, what, call, arguments, number):
    before = snapshot(lab)
    assert error_of(lambda: getattr(lab.control, call)(*arguments)) == number
    lab.check()
    assert snapshot(lab) == before


# --- what is not validated ---


def test_what_nobody_looks_at_in_a_service(lab):
    control = lab.control
    for user in (
        evolve(WEB, addr=0, port=0),
        evolve(WEB, addr=0xE0000001),
        evolve(WEB, port=0),
        evolve(WEB, protocol=99),
        evolve(WEB, flags=0xFFFFFF00 | IP_VS_SVC_F_ONEPACKET, port=90),
        evolve(WEB, netmask=0x00FF00FF, port=91),
        evolve(WEB, pe_name="sip", port=92),
        evolve(WEB, sched_name="none", port=93),
        evolve(WEB6, timeout=0xFFFFFFFF),
    ):
        control.new_service(user)
        lab.check()
    assert len(control.get_services()) == 10


def test_unusual_destinations_that_are_accepted(lab):
    for user in (
        evolve(B, port=0),
        evolve(B, port=1, weight=(1 << 31) - 1),
        evolve(B, port=2, tun_type=3),
        evolve(B, port=3, conn_flags=5),
        evolve(B, port=4, u_threshold=(1 << 31) - 1, l_threshold=(1 << 31) - 1),
        evolve(B, addr=1),
        evolve(B, addr=0xF0000001),
    ):
        lab.control.new_dest(WEB, user)
        lab.check()


@pytest.mark.parametrize(
    ("address", "accepted"),
    [
        ("2001:db8::1", True), ("fc00::1", True), ("fec0::1", True), ("::1", True), ("::10.0.0.1", True), ("64:ff9b::1", True), ("4000::1", True),
        ("fe80::1", False), ("ff02::1", False), ("::", False), ("::ffff:10.0.0.1", False),
    ],
)  # fmt: skip
def test_ipv6_addresses_of_servers(lab, address, accepted):
    lab.control.new_service(WEB6)
    user = DestUser(addr=endpoint(f"[{address}]:0") >> 16, port=80)
    if accepted:
        lab.control.new_dest(WEB6, user)
    else:
        assert error_of(lambda: lab.control.new_dest(WEB6, user)) == "EINVAL"


def test_own_addresses_of_any_kind_may_be_servers():
    lab = Lab(routing=Host("fe80::7"))
    lab.control.new_service(WEB6)
    lab.control.new_dest(WEB6, DestUser(addr=endpoint("[fe80::7]:0") >> 16, port=80))


# --- services ---


def test_mark_services_ignore_protocol_address_and_port(lab):
    svc = lab.control.new_service(evolve(WEB, fwmark=7, protocol=17))
    assert (svc.protocol, svc.addr, svc.port, lab.ns.nullsvc_counter) == (6, 0, 0, 1)
    assert error_of(lambda: lab.control.new_service(evolve(OTHER, fwmark=7))) == "EEXIST"
    lab.control.new_service(evolve(WEB6, fwmark=7))


def test_flags_are_changed_under_their_mask(lab):
    control = lab.control
    svc = control.set_service(evolve(WEB, flags=0xFF, flags_mask=IP_VS_SVC_F_PERSISTENT))
    assert svc.flags == IP_VS_SVC_F_PERSISTENT | IP_VS_SVC_F_HASHED
    control.set_service(evolve(WEB, flags=IP_VS_SVC_F_ONEPACKET, flags_mask=IP_VS_SVC_F_ONEPACKET))
    assert svc.flags == IP_VS_SVC_F_PERSISTENT | IP_VS_SVC_F_ONEPACKET | IP_VS_SVC_F_HASHED
    control.set_service(evolve(WEB, flags=0))
    assert svc.flags == IP_VS_SVC_F_HASHED


@pytest.mark.parametrize(("seconds", "jiffies", "shown"), [(300, 75000, 300), (17179869, 4294967250, 17179869), (17179870, 204, 0)])
def test_persistence_timeout_is_kept_in_thirty_two_bits(lab, seconds, jiffies, shown):
    svc = lab.control.new_service(evolve(OTHER, timeout=seconds))
    assert (svc.timeout, lab.control.get_service(OTHER).timeout) == (jiffies, shown)


def test_edit_without_engine_removes_it(lab):
    svc = lab.control.new_service(evolve(OTHER, pe_name="sip"))
    assert (svc.pe.name, lab.ns.conn_out_counter) == ("sip", 1)
    lab.control.set_service(OTHER)
    assert (svc.pe, lab.ns.conn_out_counter) == (None, 0)
    lab.control.set_service(evolve(OTHER, pe_name="sip"))
    lab.check()
    lab.control.del_service(OTHER)
    assert lab.ns.conn_out_counter == 0


def test_edit_with_the_same_scheduler_keeps_its_position():
    lab = Lab()
    lab.service("rr", "A", "B")
    lab.client("S").goes_to("B")
    lab.ipvs.edit_service(lab.svc, persistent=None)
    lab.client("S", 40001).goes_to("A")


def test_edit_keeps_statistics_destinations_and_connections():
    lab = Lab()
    lab.service("rr", "A").established()
    lab.ipvs.edit_service(lab.svc, scheduler="wlc", persistent=300)
    lab.stats(lab.svc.stats, 1, 2, 1, 80, 40).counts("A", 1, 0)
    lab.client("A").goes_to("A").state("ESTABLISHED", 900)


def test_service_may_lose_its_scheduler():
    lab = Lab()
    lab.service("rr", "A")
    lab.ipvs.edit_service(lab.svc, scheduler="none")
    assert lab.svc.scheduler is None
    lab.client("S").dropped("no destination")
    lab.ipvs.edit_service(lab.svc, scheduler="sh")
    lab.client("S").goes_to("A")


def test_failed_scheduler_change_keeps_the_old_one_and_everything_else():
    class Refusing(Scheduler):
        name = "refusing"

        def init_service(self, svc):
            raise IPVSError(errno.ENOMEM)

        def schedule(self, svc, pkt, iph):
            return None

    lab = Lab(plugins=(Refusing,))
    lab.service("sh", "A")
    assert error_of(lambda: lab.ipvs.edit_service(lab.svc, scheduler="refusing", persistent=77)) == "ENOMEM"
    assert (lab.svc.scheduler.name, lab.svc.flags & IP_VS_SVC_F_PERSISTENT, lab.svc.timeout) == ("sh", 0, 0)
    lab.check()
    lab.client("S").goes_to("A")
    assert error_of(lambda: lab.ipvs.add_service("tcp", "192.0.2.1:81", scheduler="refusing")) == "ENOMEM"
    lab.check()
    assert len(lab.ipvs.services) == 1


def test_hooks_follow_the_services_of_each_family():
    lab = Lab()
    assert lab.ns.hooks_afmask == 0
    lab.control.new_service(WEB6)
    assert (lab.ns.hooks_afmask, lab.ns.defrag6) == (2, True)
    lab.control.new_service(evolve(WEB, fwmark=7))
    assert lab.ns.hooks_afmask == 3
    lab.control.flush()
    assert (lab.ns.hooks_afmask, lab.ns.enable, lab.ns.defrag6) == (0, True, True)
    lab.check()


def test_flush_deletes_in_dump_order_and_trashes_destinations(lab):
    lab.control.new_service(OTHER)
    lab.control.new_dest(OTHER, B)
    lab.control.flush()
    assert (lab.control.get_services(), len(lab.ns.trash.dests)) == ([], 2)
    lab.check()


# --- destinations ---


def test_method_is_masked_and_special_flags_are_for_the_older_calls(lab):
    dest = lab.control.new_dest(WEB, evolve(B, conn_flags=0x12007 | 0xF0 | 3))
    assert dest.conn_flags & 0x12007 == 7


def test_every_value_of_a_destination_is_replaced(lab):
    lab.control.set_dest(WEB, evolve(A, conn_flags=2, weight=5, u_threshold=9, l_threshold=4, tun_type=1, tun_port=6080, tun_flags=1))
    lab.control.set_dest(WEB, A)
    (entry,) = lab.control.get_dests(WEB)
    assert (entry.conn_flags, entry.weight, entry.u_threshold, entry.l_threshold, entry.tun_type, entry.tun_port, entry.tun_flags) == (0, 1, 0, 0, 0, 0, 0)


def test_destinations_of_an_unknown_service_are_none_at_all(lab):
    assert lab.control.get_dests(OTHER) == []
    assert lab.control.get_dests(evolve(WEB, af=0)) == []


# --- timeouts, zero, info, daemons ---


def test_timeouts_are_set_together_or_not_at_all(lab):
    control = lab.control
    assert control.get_config() == (900, 120, 300)
    control.set_config(0, 0, 60)
    control.set_config(10, 0, 0)
    assert control.get_config() == (10, 120, 60)
    assert error_of(lambda: control.set_config(11, 12, -1)) == "EINVAL"
    assert control.get_config() == (10, 120, 60)
    control.set_config(8589934, 8589934, 8589934)
    assert control.get_config() == (8589934,) * 3


@pytest.mark.parametrize(("hz", "most"), [(100, 21474836), (250, 8589934), (1000, 2147483)])
def test_largest_timeout_by_hz(hz, most):
    control = Lab(hz=hz).control
    control.set_config(most)
    assert error_of(lambda: control.set_config(most + 1)) == "EINVAL"


def test_new_timeout_acts_at_the_next_packet():
    lab = Lab()
    lab.service("rr", "A").established()
    cp = lab.conn()
    expires = cp.expires
    lab.control.set_config(30)
    assert cp.expires == expires
    lab.client("A").state("ESTABLISHED", 30)


def test_zero_of_one_service_leaves_the_totals():
    lab = Lab()
    lab.service("rr", "A").established()
    lab.ns.estimator.estimate_now()
    lab.control.zero(lab.ipvs.service_user(lab.svc))
    assert (lab.svc.stats.shown().inpkts, lab.dest("A").stats.shown().inpkts, lab.ns.tot_stats.shown().inpkts) == (0, 0, 2)
    lab.control.zero()
    assert lab.ns.tot_stats.shown().inpkts == 0


def test_info(lab):
    assert lab.control.get_info() == (0x010201, 4096)


def test_daemons_are_independent(lab):
    control = lab.control
    control.new_daemon(DaemonUser(1, "eth0", 3))
    assert error_of(lambda: control.new_daemon(DaemonUser(1, "eth0", 3))) == "EEXIST"
    control.new_daemon(DaemonUser(2, "eth0", 4))
    assert [(entry.state, entry.mcast_ifn, entry.syncid) for entry in control.get_daemons()] == [(1, "eth0", 3), (2, "eth0", 4)]
    control.del_daemon(1)
    assert [entry.state for entry in control.get_daemons()] == [2]
    assert error_of(lambda: control.del_daemon(1)) == "ESRCH"
