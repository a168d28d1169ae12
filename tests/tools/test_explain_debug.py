"""The lines of a debug kernel between the decisions: which, where, and at what level."""

import pytest

from ipvs_model import Packet
from ipvs_model.events import Logged
from ipvs_model.packet.fragment import fragment
from ipvs_model.tools.explain import Explainer, Walk
from ipvs_model.tools.packet_text import parse_packet

NAT = "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.1.0.11:8080 -m\n"
SIX = "-A -t [2001:db8:2::1]:80 -s rr\n-a -t [2001:db8:2::1]:80 -r [2001:db8:1::11]:8080 -m\n"
SYN, ACK = "tcp 203.0.113.5:40000 > 192.0.2.1:80 S", "tcp 203.0.113.5:40000 > 192.0.2.1:80 A"
ENDS = "c:203.0.113.5:40000 v:192.0.2.1:80 d:10.1.0.11:8080"


def lines(walk: Walk) -> list[str]:
    """Level and line, without the prefix that all have."""
    logged = [event for event in walk.events if isinstance(event, Logged) and event.level.startswith("debug ")]
    return [f"{event.level.removeprefix('debug ')} {event.text.removeprefix('IPVS: ')}" for event in logged]


def last(*steps: str, rules: str = NAT, **options) -> list[str]:
    *_, walk = Explainer(rules, kernel_debug=True, **options).steps(steps)
    return lines(walk)


def test_a_new_connection():
    assert last(SYN) == [
        "12 ip_vs_out: packet continues traversal as normal: TCP 203.0.113.5:40000->192.0.2.1:80",
        "11 Incoming packet: TCP 203.0.113.5:40000->192.0.2.1:80",
        f"8 TCP input  [S...] {ENDS} state: NONE->SYN_RECV conn->refcnt:2",
        "10 After DNAT: TCP 203.0.113.5:40000->10.1.0.11:8080",
    ]


def test_a_reply_is_logged_before_and_after_it_is_translated():
    assert last(SYN, "tcp 10.1.0.11:8080 > 203.0.113.5:40000 RA") == [
        "11 Outgoing packet: TCP 10.1.0.11:8080->203.0.113.5:40000",
        "10 After SNAT: TCP 192.0.2.1:80->203.0.113.5:40000",
        f"8 TCP output  [..AR] {ENDS} state: SYN_RECV->CLOSE conn->refcnt:2",
    ]


def test_lines_stand_where_the_kernel_prints_them():
    (walk,) = Explainer(NAT, kernel_debug=True).steps([SYN])
    names = [event.level if isinstance(event, Logged) else type(event).__name__ for event in walk.events]
    assert names[names.index("ConnHashed") :] == [
        "ConnHashed", "CounterMoved", "debug 11", "CounterMoved", "debug 8", "StateChanged", "debug 10", "Transmitted", "TimerArmed", "RefMoved", "Decided",
    ]  # fmt: skip


def test_a_state_that_stays_is_not_logged():
    assert not [line for line in last(SYN, SYN) if "state:" in line]


def test_a_segment_without_flags_says_so():
    bare = "45000028000140004006 0000 cb007105 c0000201 9c400050 00000000 00000000 5000ffff 0000 0000".replace(" ", "")
    assert "8 tcp_state_idx=-1!!!" in last(SYN, bare)


def test_methods_without_translation_have_no_lines_about_it():
    direct = NAT.replace("-m", "-g").replace(":8080", ":80")
    assert last(SYN, ACK, rules=direct)[1:] == [
        "11 Incoming packet: TCP 203.0.113.5:40000->192.0.2.1:80",
        "8 TCP input  [..A.] c:203.0.113.5:40000 v:192.0.2.1:80 d:10.1.0.11:80 state: SYN_RECV->ESTABLISHED conn->refcnt:2",
    ]
    assert last(SYN, "tcp 192.0.2.1:80 > 203.0.113.5:40000 SA", rules=direct, answers="all") == ["11 Outgoing packet: TCP 192.0.2.1:80->203.0.113.5:40000"]


def test_a_packet_of_no_connection_continues_twice():
    goes_on = "packet continues traversal as normal: TCP 203.0.113.5:40000->192.0.2.1:80"
    assert last(ACK) == [f"12 ip_vs_out: {goes_on}", f"12 ip_vs_in: {goes_on}"]


def test_why_nothing_is_scheduled():
    assert last("tcp 203.0.113.5:20 > 192.0.2.1:80 S")[1] == "12 Not scheduling FTPDATA: TCP 203.0.113.5:20->192.0.2.1:80"
    both = NAT + "-A -t 203.0.113.5:40000 -s rr\n-a -t 203.0.113.5:40000 -r 10.1.0.12:81 -m\n"
    local = both.replace("10.1.0.11:8080", "10.1.0.1:81")
    assert last(SYN, "tcp 192.0.2.1:80 > 203.0.113.5:40000 S", rules=local, addresses=["10.1.0.1", "192.0.2.1"])[1:] == [
        "12 Not scheduling reply for existing connection: TCP 192.0.2.1:80->203.0.113.5:40000",
        "12 ip_vs_in: packet continues traversal as normal: TCP 192.0.2.1:80->203.0.113.5:40000",
    ]


def test_an_icmp_error_is_logged_by_the_packet_that_it_quotes():
    assert last(SYN, "icmp 198.51.100.9 > 192.0.2.1 3/4 about tcp 192.0.2.1:80 > 203.0.113.5:40000 A") == [
        "11 Checking outgoing ICMP for: TCP 192.0.2.1:80->203.0.113.5:40000",
        "11 Checking incoming ICMP for: TCP 192.0.2.1:80->203.0.113.5:40000",
        "11 Forwarding altered incoming ICMP: TCP 10.1.0.11:8080->203.0.113.5:40000",
    ]
    assert last(SYN, "icmp 10.1.0.11 > 203.0.113.5 3/3 about tcp 203.0.113.5:40000 > 10.1.0.11:8080 S") == [
        "11 Checking incoming ICMP for: TCP 203.0.113.5:40000->10.1.0.11:8080",
        "11 Checking outgoing ICMP for: TCP 203.0.113.5:40000->10.1.0.11:8080",
        "11 Forwarding altered outgoing ICMP: TCP 203.0.113.5:40000->192.0.2.1:80",
    ]


def test_icmpv6_and_ipv6_addresses():
    syn = "tcp [2001:db8:ffff::5]:40000 > [2001:db8:2::1]:80 S"
    error = "icmp 2001:db8:9::9 > 2001:db8:2::1 2/0 info=1300 about tcp [2001:db8:2::1]:80 > [2001:db8:ffff::5]:40000 A"
    assert last(syn, rules=SIX)[2:] == [
        "8 TCP input  [S...] c:[2001:db8:ffff::5]:40000 v:[2001:db8:2::1]:80 d:[2001:db8:1::11]:8080 state: NONE->SYN_RECV conn->refcnt:2",
        "10 After DNAT: TCP 2001:db8:ffff::5:40000->2001:db8:1::11:8080",
    ]
    assert last(syn, error, rules=SIX) == [
        "11 Checking incoming ICMPv6 for: TCP 2001:db8:2::1:80->2001:db8:ffff::5:40000",
        "11 Forwarding altered incoming ICMPv6: TCP 2001:db8:1::11:8080->2001:db8:ffff::5:40000",
    ]


def test_an_error_about_no_connection_is_only_checked():
    error = "icmp 198.51.100.9 > 192.0.2.1 3/4 about tcp 192.0.2.1:80 > 203.0.113.99:40000 A"
    assert [line.split(":")[0] for line in last(SYN, error)] == ["11 Checking outgoing ICMP for", "11 Checking incoming ICMP for"]


def test_an_error_about_a_tunnel_packet_is_not_taken_for_one_about_a_connection():
    rules = NAT.replace("-m", "-i").replace(":8080", ":80")
    outer = "45000050000140003f04 0000 0a010001 0a01000b".replace(" ", "")
    inner = "45000028000140003f060000cb007105c00002019c40005000000000000000005010ffff00000000"
    error = f"icmp 10.1.0.99 > 192.0.2.1 3/1 about {outer + inner}"
    checked = last(SYN, error, rules=rules)
    assert checked == ["11 Checking outgoing ICMP for: TCP 203.0.113.5:40000->192.0.2.1:80"], "of the error that the director sends to the client"


def test_the_directors_own_error_passes_local_out_with_lines_of_its_own():
    empty = "-A -t 192.0.2.1:80 -s rr\n"
    assert last(SYN, rules=empty) == [
        "12 ip_vs_out: packet continues traversal as normal: TCP 203.0.113.5:40000->192.0.2.1:80",
        "11 Checking outgoing ICMP for: TCP 203.0.113.5:40000->192.0.2.1:80",
        "11 Checking incoming ICMP for: TCP 203.0.113.5:40000->192.0.2.1:80",
    ]


def test_an_unknown_isakmp_exchange():
    esp = "450000240001400040320000cb007105c00002010001000200000001deadbeefdeadbeef"
    assert last(esp, rules=NAT.replace("-t", "-u")) == [
        "12 Unknown ISAKMP entry for inout packet ESP 203.0.113.5->192.0.2.1",
        "12 ip_vs_out: packet continues traversal as normal: ESP 203.0.113.5:1->192.0.2.1:2",
        "12 Unknown ISAKMP entry for outin packet ESP 203.0.113.5->192.0.2.1",
        "12 ip_vs_in: packet continues traversal as normal: ESP 203.0.113.5:1->192.0.2.1:2",
    ]


def test_nat_to_the_loopback_device_is_stopped():
    assert last(SYN, rules=NAT.replace("10.1.0.11", "127.0.0.1"))[-1] == (
        "1 ip_vs_nat_xmit(): stopping DNAT to loopback address: TCP 203.0.113.5:40000->192.0.2.1:80"
    )  # fmt: skip


@pytest.mark.parametrize("where,line", [("client", "tcp 203.0.113.5:40000 > 192.0.2.1:21 PA"), ("server", "tcp 10.1.0.11:21 > 203.0.113.5:40000 PA")])
def test_a_wrong_checksum_is_logged_where_a_helper_looks(where, line):
    raw = bytearray(parse_packet(line + " data=4e4f4f50").raw)
    raw[-1] ^= 1
    rules = NAT.replace(":80 ", ":21 ").replace(":8080", ":21")
    syn, ack = SYN.replace(":80", ":21"), ACK.replace(":80", ":21")
    source = "203.0.113.5:40000->192.0.2.1:21" if where == "client" else "10.1.0.11:21->203.0.113.5:40000"
    assert f"0 Failed checksum for: TCP {source}" in last("modprobe ip_vs_ftp", syn, ack, raw.hex(), rules=rules)


def test_a_bypassed_packet_is_incoming_from_its_second_on():
    rules = "-A -f 7 -s rr\n"
    syn, ack = "tcp 203.0.113.5:40000 > 198.51.100.9:80 S mark=7", "tcp 203.0.113.5:40000 > 198.51.100.9:80 A mark=7"
    incoming = "11 Incoming packet: TCP 203.0.113.5:40000->198.51.100.9:80"
    assert incoming not in last("sysctl cache_bypass=1", syn, rules=rules)
    assert incoming in last("sysctl cache_bypass=1", syn, ack, rules=rules)


def test_an_sctp_state():
    rules = NAT.replace("-t", "--sctp-service")
    assert "8 SCTP input   10.1.0.11:8080->203.0.113.5:40000 state: NONE->INIT1 conn->refcnt:2" in last(
        "sctp 203.0.113.5:40000 > 192.0.2.1:80 INIT", rules=rules
    )


def test_a_later_fragment_is_not_handled():
    later = fragment(Packet.udp("[2001:db8:2::1]:1", "[2001:db8:2::2]:9", bytes(2000)), 1280)[1].raw.hex()
    rules = SIX.replace("-t", "-u") + "-A -u [2001:db8:2::2]:9 -s rr\n"
    ends = "UDP 2001:db8:2::1->2001:db8:2::2 frag"
    assert last(later, rules=rules) == [
        f"12 ip_vs_out: packet continues traversal as normal: {ends}", f"12 ip_vs_in: packet continues traversal as normal: {ends}", f"7 unhandled fragment: {ends}"
    ]  # fmt: skip


def test_timers_have_no_lines():
    *_, wait = Explainer(NAT, kernel_debug=True).steps([SYN, "+100"])
    assert [type(event).__name__ for event in wait.before] == ["TimerFired", "ConnHashed", "CounterMoved", "ConnRemoved"]


def test_without_the_option_nothing_is_added():
    (plain,), (debug,) = (list(Explainer(NAT, kernel_debug=wanted).steps([SYN])) for wanted in (False, True))
    assert plain.events == tuple(event for event in debug.events if not isinstance(event, Logged))
    assert (plain.left, plain.changes) == (debug.left, debug.changes)
