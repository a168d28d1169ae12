"""The older control calls: numbers, lengths, order of the checks, and what they do differently (sockopt part of the control specification)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from tests.lab import Lab, endpoint

from ipvs_model import sockopt as S
from ipvs_model.dest import DestUser
from ipvs_model.errors import IPVSError
from ipvs_model.flags import (
    AF_INET6,
    IP_VS_CONN_F_NFCT,
    IP_VS_CONN_F_ONE_PACKET,
    IP_VS_SVC_F_HASHED,
    IP_VS_SVC_F_ONEPACKET,
    IP_VS_SVC_F_PERSISTENT,
    IPPROTO_UDP,
)
from ipvs_model.service import ServiceUser
from ipvs_model.sockopt import Sockopt
from ipvs_model.sync.daemon import DaemonUser

WEB = ServiceUser(addr=endpoint("192.0.2.1:0") >> 16, port=80, sched_name="rr")
OTHER = evolve(WEB, port=81)
MARK = evolve(WEB, fwmark=7, addr=9, port=21)
A = DestUser(addr=endpoint("10.1.0.11:0") >> 16, port=8080)
B = DestUser(addr=endpoint("10.1.0.12:0") >> 16, port=8080)


class OldLab(Lab):
    """A director with the older calls in front."""

    def __init__(self) -> None:
        super().__init__()
        self.old = Sockopt(self.control)
        self.set(S.IP_VS_SO_SET_ADD, WEB)
        self.set(S.IP_VS_SO_SET_ADDDEST, (WEB, A))
        self.svc = self.ipvs.services[0]

    def set(self, command: int, request: Any = None, length: int | None = None) -> None:
        self.old.set(command, request, length)
        self.check()


@pytest.fixture
def lab() -> OldLab:
    return OldLab()


def error_of(call: Callable[[], Any]) -> str:
    with pytest.raises(IPVSError) as error:
        call()
    assert error.value.errno is not None
    return errno.errorcode[error.value.errno]


SET_LENGTHS = {1154: 44, 1155: 44, 1156: 44, 1157: 0, 1159: 68, 1160: 68, 1161: 68, 1162: 12, 1163: 24, 1164: 24, 1167: 44}


@pytest.mark.parametrize(("command", "length"), SET_LENGTHS.items())
def test_set_commands_want_their_exact_length(lab, command, length):
    assert S.SET_LENGTHS[command] == length
    for wrong in (length - 1, length + 1):
        assert error_of(lambda wrong=wrong: lab.old.set(command, None, wrong)) == "EINVAL"


@pytest.mark.parametrize("command", [1152, 1153, 1158, 1165, 1166])
def test_commands_without_meaning(lab, command):
    assert error_of(lambda: lab.old.set(command)) == "EINVAL"
    assert error_of(lambda: lab.old.set(command, WEB, 44)) == "EINVAL"


@pytest.mark.parametrize("command", [0, 1151, 1168, 2000])
def test_numbers_that_are_not_ours(lab, command):
    assert error_of(lambda: lab.old.set(command)) == "ENOPROTOOPT"
    assert error_of(lambda: lab.old.get(command)) == "ENOPROTOOPT"


@pytest.mark.parametrize("command", range(1160, 1168))
def test_numbers_that_can_be_set_but_not_got(lab, command):
    assert error_of(lambda: lab.old.get(command)) == "ENOPROTOOPT"


ERRORS: list[tuple[str, int, Any, str]] = [
    ("protocol 0", S.IP_VS_SO_SET_ADD, evolve(OTHER, protocol=0), "EFAULT"),
    ("protocol of a mark service", S.IP_VS_SO_SET_ADD, evolve(MARK, protocol=50), "EFAULT"),
    ("protocol of a destination command", S.IP_VS_SO_SET_ADDDEST, (evolve(WEB, protocol=1), A), "EFAULT"),
    ("protocol of zero", S.IP_VS_SO_SET_ZERO, evolve(WEB, protocol=1), "EFAULT"),
    ("protocol of a delete", S.IP_VS_SO_SET_DEL, evolve(WEB, protocol=1), "EFAULT"),
    ("scheduler name before protocol", S.IP_VS_SO_SET_ADD, evolve(OTHER, protocol=0, sched_name="x" * 16), "EINVAL"),
    ("scheduler name of an edit", S.IP_VS_SO_SET_EDIT, evolve(OTHER, sched_name="x" * 16), "EINVAL"),
    ("scheduler name does not matter to a delete", S.IP_VS_SO_SET_DEL, evolve(OTHER, sched_name="x" * 16), "ESRCH"),
    ("exists before an unknown scheduler", S.IP_VS_SO_SET_ADD, evolve(WEB, sched_name="nix"), "EEXIST"),
    ("unknown scheduler", S.IP_VS_SO_SET_ADD, evolve(OTHER, sched_name="nix"), "ENOENT"),
    ("edit of a missing service", S.IP_VS_SO_SET_EDIT, evolve(OTHER, sched_name="nix"), "ESRCH"),
    ("edit to an unknown scheduler", S.IP_VS_SO_SET_EDIT, evolve(WEB, sched_name="nix"), "ENOENT"),
    ("delete of a missing service", S.IP_VS_SO_SET_DEL, OTHER, "ESRCH"),
    ("zero of a missing service", S.IP_VS_SO_SET_ZERO, OTHER, "ESRCH"),
    ("service of another protocol", S.IP_VS_SO_SET_DEL, evolve(WEB, protocol=IPPROTO_UDP), "ESRCH"),
    ("missing service of a destination", S.IP_VS_SO_SET_ADDDEST, (OTHER, evolve(A, weight=-1)), "ESRCH"),
    ("weight before exists", S.IP_VS_SO_SET_ADDDEST, (WEB, evolve(A, weight=-1)), "ERANGE"),
    ("exists", S.IP_VS_SO_SET_ADDDEST, (WEB, A), "EEXIST"),
    ("edit of a missing destination", S.IP_VS_SO_SET_EDITDEST, (WEB, B), "ENOENT"),
    ("delete of a missing destination", S.IP_VS_SO_SET_DELDEST, (WEB, B), "ENOENT"),
    ("address of a new destination", S.IP_VS_SO_SET_ADDDEST, (WEB, evolve(A, addr=0)), "EINVAL"),
    ("address wider than 32 bits", S.IP_VS_SO_SET_ADD, evolve(OTHER, addr=1 << 32), "EINVAL"),
    ("server address wider than 32 bits", S.IP_VS_SO_SET_ADDDEST, (WEB, evolve(B, addr=1 << 32)), "EINVAL"),
    ("negative timeout", S.IP_VS_SO_SET_TIMEOUT, (1, 1, -1), "EINVAL"),
    ("daemon without interface", S.IP_VS_SO_SET_STARTDAEMON, DaemonUser(1, ""), "EINVAL"),
    ("daemon with an unterminated interface name", S.IP_VS_SO_SET_STARTDAEMON, DaemonUser(1, "e" * 16), "EINVAL"),
    ("unknown interface before the state", S.IP_VS_SO_SET_STARTDAEMON, DaemonUser(3, "nix"), "ENODEV"),
    ("daemon state 3", S.IP_VS_SO_SET_STARTDAEMON, DaemonUser(3, "eth0"), "EINVAL"),
    ("stop of what does not run", S.IP_VS_SO_SET_STOPDAEMON, DaemonUser(2), "ESRCH"),
    ("stop of state 0", S.IP_VS_SO_SET_STOPDAEMON, DaemonUser(0), "EINVAL"),
]


@pytest.mark.parametrize(("what", "command", "request_", "number"), ERRORS, ids=[row[0] for row in ERRORS])
def test_first_error_wins_and_nothing_changes(lab, what, command, request_, number):
    before = (lab.control.get_services(), lab.control.get_dests(WEB), lab.control.get_config(), lab.control.get_daemons())
    assert error_of(lambda: lab.set(command, request_)) == number
    lab.check()
    assert (lab.control.get_services(), lab.control.get_dests(WEB), lab.control.get_config(), lab.control.get_daemons()) == before


def test_the_family_is_always_ipv4(lab):
    lab.set(S.IP_VS_SO_SET_ADD, evolve(OTHER, af=AF_INET6))
    assert [svc.af for svc in lab.ipvs.services] == [2, 2]
    lab.set(S.IP_VS_SO_SET_ADDDEST, (OTHER, evolve(A, af=AF_INET6)))
    assert lab.old.get(S.IP_VS_SO_GET_DESTS, (OTHER, 1))[0].af == 2


# --- services ---


def test_mark_service_keeps_address_and_port_that_were_given(lab):
    lab.set(S.IP_VS_SO_SET_ADD, MARK)
    svc = lab.ns.services.find_mark(2, 7)
    assert (svc.addr, svc.port, svc.protocol, lab.ns.ftpsvc_counter) == (9, 21, 6, 1)
    entry = lab.old.get(S.IP_VS_SO_GET_SERVICE, evolve(MARK, addr=0, port=0))
    assert (entry.addr, entry.port, entry.fwmark) == (9, 21, 7)
    lab.set(S.IP_VS_SO_SET_DEL, evolve(MARK, addr=0, port=0))
    assert lab.ns.ftpsvc_counter == 0


def test_mark_service_is_found_by_its_mark_but_must_have_the_protocol(lab):
    lab.set(S.IP_VS_SO_SET_ADD, MARK)
    other = evolve(MARK, protocol=IPPROTO_UDP)
    assert error_of(lambda: lab.set(S.IP_VS_SO_SET_ADD, other)) == "EEXIST"
    assert error_of(lambda: lab.set(S.IP_VS_SO_SET_DEL, other)) == "ESRCH"
    assert error_of(lambda: lab.set(S.IP_VS_SO_SET_ADDDEST, (other, A))) == "ESRCH"
    assert lab.old.get(S.IP_VS_SO_GET_SERVICE, other).protocol == 6


def test_flags_are_replaced_as_a_whole_and_the_engine_goes(lab):
    lab.control.set_service(evolve(WEB, flags=IP_VS_SVC_F_PERSISTENT, pe_name="sip"))
    lab.set(S.IP_VS_SO_SET_EDIT, evolve(WEB, flags=IP_VS_SVC_F_ONEPACKET, flags_mask=0, timeout=77))
    assert (lab.svc.flags, lab.svc.pe, lab.svc.timeout) == (IP_VS_SVC_F_ONEPACKET | IP_VS_SVC_F_HASHED, None, 77 * 250)


def test_engine_cannot_be_given(lab):
    lab.set(S.IP_VS_SO_SET_ADD, evolve(OTHER, pe_name="sip"))
    assert [svc.pe for svc in lab.ipvs.services] == [None, None]


def test_zero_of_nothing_zeroes_everything(lab):
    lab.established()
    lab.ns.estimator.estimate_now()
    lab.set(S.IP_VS_SO_SET_ZERO, WEB)
    assert (lab.svc.stats.shown().inpkts, lab.ns.tot_stats.shown().inpkts) == (0, 2)
    lab.set(S.IP_VS_SO_SET_ZERO, ServiceUser(protocol=99, sched_name="x" * 20))
    assert lab.ns.tot_stats.shown().inpkts == 0


def test_flush(lab):
    lab.set(S.IP_VS_SO_SET_FLUSH)
    assert (lab.ipvs.services, len(lab.ns.trash.dests)) == ([], 1)


# --- destinations ---


def test_special_connection_flags_may_be_given(lab):
    lab.set(S.IP_VS_SO_SET_EDITDEST, (WEB, evolve(A, conn_flags=IP_VS_CONN_F_ONE_PACKET | IP_VS_CONN_F_NFCT | 0x40)))
    (entry,) = lab.old.get(S.IP_VS_SO_GET_DESTS, (WEB, 1))
    assert entry.conn_flags == IP_VS_CONN_F_ONE_PACKET | IP_VS_CONN_F_NFCT | 0x100
    assert lab.client("S").conn.flags & IP_VS_CONN_F_NFCT


def test_one_packet_destination_makes_one_packet_udp_connections(lab):
    dns = evolve(WEB, protocol=IPPROTO_UDP, port=53)
    lab.set(S.IP_VS_SO_SET_ADD, dns)
    lab.set(S.IP_VS_SO_SET_ADDDEST, (dns, evolve(A, conn_flags=IP_VS_CONN_F_ONE_PACKET)))
    lab.client(protocol="udp", vport=53, payload=b"q").goes_to("A").no_conn()
    lab.client("S").goes_to("A").state("SYN_RECV")


def test_edit_resets_the_tunnel(lab):
    lab.control.set_dest(WEB, evolve(A, conn_flags=2, tun_type=1, tun_port=6080, tun_flags=1))
    lab.set(S.IP_VS_SO_SET_EDITDEST, (WEB, evolve(A, conn_flags=2, tun_type=2)))
    dest = lab.dest("A")
    assert (dest.method, dest.tun_type, dest.tun_port, dest.tun_flags) == (2, 0, 0, 0)


def test_delete_needs_the_address_only(lab):
    lab.set(S.IP_VS_SO_SET_DELDEST, (WEB, evolve(A, weight=-5)))
    assert lab.control.get_dests(WEB) == []


# --- what can be got ---


def test_version_and_info(lab):
    lab.control.new_service(ServiceUser(af=AF_INET6, addr=1, port=80, netmask=128))
    assert lab.old.get(S.IP_VS_SO_GET_VERSION) == "IP Virtual Server version 1.2.1 (size=4096)"
    assert lab.old.get(S.IP_VS_SO_GET_INFO) == (0x010201, 4096, 1)


@pytest.mark.parametrize(("command", "least"), [(1152, 64), (1153, 12), (1155, 104), (1158, 12), (1159, 48)])
def test_buffers_must_be_large_enough(lab, command, least):
    lab.old.get(command, WEB, least)
    lab.old.get(command, WEB, least + 100)
    assert error_of(lambda: lab.old.get(command, WEB, least - 1)) == "EINVAL"


def test_lists_want_the_exact_size_of_their_buffer(lab):
    lab.old.get(S.IP_VS_SO_GET_SERVICES, 3, 8 + 104 * 3)
    lab.old.get(S.IP_VS_SO_GET_DESTS, (WEB, 2), 24 + 96 * 2)
    for wrong in (8 + 104 * 3 - 1, 8 + 104 * 3 + 1):
        assert error_of(lambda wrong=wrong: lab.old.get(S.IP_VS_SO_GET_SERVICES, 3, wrong)) == "EINVAL"
    assert error_of(lambda: lab.old.get(S.IP_VS_SO_GET_SERVICES, 0, 9)) == "EINVAL"
    assert error_of(lambda: lab.old.get(S.IP_VS_SO_GET_DESTS, (WEB, 0), 25)) == "EINVAL"
    assert error_of(lambda: lab.old.get(S.IP_VS_SO_GET_DEST, WEB, 1000)) == "EINVAL"


def test_services_are_the_ipv4_ones_up_to_the_number_asked_for(lab):
    lab.control.new_service(ServiceUser(af=AF_INET6, addr=1, port=80, netmask=128))
    lab.set(S.IP_VS_SO_SET_ADD, MARK)
    lab.set(S.IP_VS_SO_SET_ADD, OTHER)
    everything = lab.old.get(S.IP_VS_SO_GET_SERVICES, 10)
    assert [(entry.fwmark, entry.port, entry.num_dests) for entry in everything] == [(0, 81, 0), (0, 80, 1), (7, 21, 0)]
    assert lab.old.get(S.IP_VS_SO_GET_SERVICES, 2) == everything[:2]
    assert lab.old.get(S.IP_VS_SO_GET_SERVICES, 0) == []


def test_destinations_of_another_family_are_left_out(lab):
    lab.control.new_dest(WEB, DestUser(af=AF_INET6, addr=endpoint("[2001:db8::1]:0") >> 16, port=80, conn_flags=2))
    lab.set(S.IP_VS_SO_SET_ADDDEST, (WEB, B))
    assert [entry.addr & 0xFF for entry in lab.old.get(S.IP_VS_SO_GET_DESTS, (WEB, 10))] == [12, 11]
    assert [entry.addr & 0xFF for entry in lab.old.get(S.IP_VS_SO_GET_DESTS, (WEB, 1))] == [12]


def test_unknown_service_is_an_error_here(lab):
    assert error_of(lambda: lab.old.get(S.IP_VS_SO_GET_SERVICE, OTHER)) == "ESRCH"
    assert error_of(lambda: lab.old.get(S.IP_VS_SO_GET_DESTS, (OTHER, 1))) == "ESRCH"


def test_counters_are_cut_to_thirty_two_bits_bytes_are_not(lab):
    lab.svc.stats.kstats = (1 << 32 | 5, 1 << 40 | 6, 7, 1 << 40, (1 << 64) - 1)
    stats = lab.old.get(S.IP_VS_SO_GET_SERVICE, WEB).stats
    assert (stats.conns, stats.inpkts, stats.outpkts, stats.inbytes, stats.outbytes) == (5, 6, 7, 1 << 40, (1 << 64) - 1)


def test_timeouts(lab):
    lab.set(S.IP_VS_SO_SET_TIMEOUT, (10, 0, 30))
    assert lab.old.get(S.IP_VS_SO_GET_TIMEOUT) == (10, 120, 30)


def test_daemons_have_two_slots_master_first(lab):
    assert [slot.state for slot in lab.old.get(S.IP_VS_SO_GET_DAEMON)] == [0, 0]
    lab.set(S.IP_VS_SO_SET_STARTDAEMON, DaemonUser(2, "eth0", 9, sync_maxlen=100))
    assert lab.old.get(S.IP_VS_SO_GET_DAEMON) == (DaemonUser(0), DaemonUser(2, "eth0", 9))
    assert lab.control.get_daemons()[0].sync_maxlen == 1472, "no length can be asked for"
    lab.set(S.IP_VS_SO_SET_STARTDAEMON, DaemonUser(1, "eth0", 8))
    lab.set(S.IP_VS_SO_SET_STOPDAEMON, DaemonUser(2, ""))
    assert lab.old.get(S.IP_VS_SO_GET_DAEMON) == (DaemonUser(1, "eth0", 8), DaemonUser(0))


def test_mixed_families_do_not_keep_a_daemon_from_starting_here(lab):
    lab.control.new_dest(WEB, DestUser(af=AF_INET6, addr=endpoint("[2001:db8::1]:0") >> 16, port=80, conn_flags=2))
    lab.set(S.IP_VS_SO_SET_STARTDAEMON, DaemonUser(1, "eth0", 8))
    assert lab.ns.sync_state == 1
