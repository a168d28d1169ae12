"""Listings: the recorded samples, widths, numbers, names (spec/70 sections 10, 11, 13, 14, 16)."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.control import DestEntry, ServiceEntry
from ipvs_model.flags import AF_INET, AF_INET6, IPPROTO_TCP
from ipvs_model.ipvsadm import TableResolver, run
from ipvs_model.ipvsadm.grammar import Option
from ipvs_model.ipvsadm.listing import Style, connection_lines, daemon_line, large_number, service_lines, tunnel_info
from ipvs_model.packet import Packet
from ipvs_model.stats import StatsEntry
from ipvs_model.sync.daemon import DaemonEntry

SERVICES = """\
-A -t 10.0.0.1:0 -s rr -p
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g
-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 5
-a -t 10.0.0.1:80 -r 10.0.0.3:80 -i -w 0
-A -t 10.0.0.1:85 -s none
-A -t 10.0.0.1:8443 -s sh -b sh-fallback,sh-port
-A -t 10.0.0.1:8445 -s wrr -b flag-1,flag-3
-A -u 10.0.0.1:53 -o
-A -u 10.0.0.1:5060 -p 60 -M 255.255.255.0 --pe sip -o
-A --sctp-service 10.0.0.1:9 -s lc
-A -t [2001:db8::1]:80 -s rr -p 1000 -M 96
-a -t [2001:db8::1]:80 -r 10.0.0.44:80 -i
-a -t [2001:db8::1]:80 -r [2001:db8:1111:2222:3333:4444:5555:6666]:65535 -m
-A -f 100 -p 300
-a -f 100 -r 10.0.0.9 -m
-A -f 100 -6 -p 300 -M 64
-a -f 100 -6 -r 2001:db8::99 -m
"""
PLAIN = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.1:0 rr persistent 360
TCP  10.0.0.1:80 rr
  -> 10.0.0.2:80                  Route   1      0          0·········
  -> 10.0.0.2:8080                Masq    5      0          0·········
  -> 10.0.0.3:80                  Tunnel  0      0          0·········
TCP  10.0.0.1:85 none
TCP  10.0.0.1:8443 sh (sh-fallback,sh-port)
TCP  10.0.0.1:8445 wrr (flag-1,flag-3)
UDP  10.0.0.1:53 wlc ops
UDP  10.0.0.1:5060 wlc persistent 60 mask 255.255.255.0 pe sip ops
SCTP 10.0.0.1:9 lc
TCP  [2001:db8::1]:80 rr persistent 1000 mask 96
  -> 10.0.0.44:80                 Tunnel  1      0          0·········
  -> [2001:db8:1111:2222:3333:4444:5555:6666]:65535 Masq    1      0          0·········
FWM  100 wlc persistent 300
  -> 10.0.0.9:0                   Masq    1      0          0·········
FWM  100 IPv6 wlc persistent 300 mask 64
  -> [2001:db8::99]:0             Masq    1      0          0·········
"""


def dots(text: str) -> str:
    """Blanks at the ends of lines made visible."""
    return "\n".join(line.rstrip(" ") + "·" * (len(line) - len(line.rstrip(" "))) for line in text.split("\n"))


@pytest.fixture
def filled(ipvs, ipvsadm):
    assert ipvsadm("-R", SERVICES).lines == []
    return ipvs


def test_everything(filled, ipvsadm) -> None:
    assert dots(ipvsadm("-Ln").out) == PLAIN
    assert ipvsadm("-Ln").out == ipvsadm("-ln").out == ipvsadm("--list --numeric").out == str(filled)


def test_no_arguments_list_everything_with_names(filled, ipvsadm) -> None:
    assert ipvsadm("").out == ipvsadm("-L").out
    lines = ipvsadm("").lines
    assert "TCP  10.0.0.1:http rr" in lines
    assert "  -> 10.0.0.2:http-alt            Masq    5      0          0         " in lines
    assert "UDP  10.0.0.1:domain wlc ops" in lines
    assert "  -> 10.0.0.9:0                   Masq    1      0          0         " in lines


def test_one_service_has_no_version_line(filled, ipvsadm) -> None:
    assert dots(ipvsadm("-Ln -t 10.0.0.1:80").out).split("\n") == PLAIN.split("\n")[1:3] + PLAIN.split("\n")[4:8] + [""]
    assert ipvsadm("-Ln -f 100 -6").lines[2:] == [
        "FWM  100 IPv6 wlc persistent 300 mask 64",
        "  -> [2001:db8::99]:0             Masq    1      0          0         ",
    ]


def test_thresholds(ipvsadm) -> None:
    ipvsadm("-A -t 10.0.0.1:80 -s rr")
    ipvsadm("-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -x 100 -y 50")
    assert ipvsadm("-Ln --thresholds").lines == [
        "IP Virtual Server version 1.2.1 (size=4096)",
        "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn ",
        "  -> RemoteAddress:Port",
        "TCP  10.0.0.1:80 rr",
        "  -> 10.0.0.2:8080                100        50         0          0         ",
    ]


def test_tunnels(ipvsadm) -> None:
    ipvsadm("-A -t 10.0.0.1:80 -s rr")
    for options in (
        "2",
        "3 -i -w 0",
        "4 -i --tun-type gue --tun-port 6080 --tun-csum",
        "5 -i --tun-type gue --tun-port 6080 --tun-remcsum",
        "6 -i --tun-type gre",
    ):
        assert ipvsadm("-a -t 10.0.0.1:80 -r 10.0.0." + options).status == 0
    assert ipvsadm("-Ln --tun-info").lines[1:] == [
        "Prot LocalAddress:Port Scheduler Flags",
        "  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn",
        "TCP  10.0.0.1:80 rr",
        "  -> 10.0.0.2:80                  Route   n/a           1      0          0         ",
        "  -> 10.0.0.3:80                  Tunnel  ipip          0      0          0         ",
        "  -> 10.0.0.4:80                  Tunnel  gue:6080:+c   1      0          0         ",
        "  -> 10.0.0.5:80                  Tunnel  gue:6080:r+c  1      0          0         ",
        "  -> 10.0.0.6:80                  Tunnel  gre:-c        1      0          0         ",
    ]


# --- numbers -----------------------------------------------------------------------------------------------------------
SERVICE = ServiceEntry(AF_INET, IPPROTO_TCP, 0xC0A86401, 21, 0, "rr", 2, 0, 0xFFFFFFFF, None, StatsEntry(4, 13, 10, 556, 554))
DEST = DestEntry(AF_INET, 0x0A01000B, 21, 0, 1, 0, 0, 0, 10, 2, 0, 0, 0, StatsEntry(4, 13, 10, 556, 554))


def lines(service: ServiceEntry, dest: DestEntry, *options: Option) -> list[str]:
    return list(service_lines(service, [dest], Style.of([Option.NUMERIC, *options], TableResolver())))


def test_counters() -> None:
    assert lines(SERVICE, DEST, Option.STATS) == [
        "TCP  192.168.100.1:21                    4       13       10      556      554",
        "  -> 10.1.0.11:21                        4       13       10      556      554",
    ]


def test_rates() -> None:
    service = evolve(SERVICE, port=5060, protocol=17, stats=StatsEntry(cps=1, inpps=1, inbps=93, outbps=32))
    dest = evolve(DEST, port=5060, stats=StatsEntry(cps=1, inpps=1, inbps=62, outbps=21))
    assert lines(service, dest, Option.RATE) == [
        "UDP  192.168.100.1:5060                  1        1        0       93       32",
        "  -> 10.1.0.11:5060                      1        1        0       62       21",
    ]


def test_titles_of_counters_and_rates(ipvsadm) -> None:
    assert ipvsadm("-Ln --stats").lines[1:] == ["Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes", "  -> RemoteAddress:Port"]
    assert ipvsadm("-Ln --rate").lines[1:] == ["Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS", "  -> RemoteAddress:Port"]


def test_persistent_connections() -> None:
    service = evolve(SERVICE, protocol=17, port=5060, flags=3, timeout=60, pe_name="sip")
    assert lines(service, evolve(DEST, port=5060), Option.PERSISTENTCONN) == [
        "UDP  192.168.100.1:5060 rr persistent 60 pe sip",
        "  -> 10.1.0.11:5060               1         2           0          10        ",
    ]


def test_title_of_persistent_connections(ipvsadm) -> None:
    assert ipvsadm("-Ln --persistent-conn").lines[1:] == [
        "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn ",
        "  -> RemoteAddress:Port",
    ]


def test_destinations_read_all_but_bytes_as_32_bits() -> None:
    big = 1 << 32
    stats = StatsEntry(big + 1, big + 2, big + 3, big + 4, big + 5, big + 6, big + 7, big + 8, big + 9, big + 10)
    service, dest = evolve(SERVICE, stats=stats), evolve(DEST, stats=stats)
    assert lines(service, dest, Option.STATS, Option.EXACT) == [
        "TCP  192.168.100.1:21             4294967297 4294967298 4294967299 4294967300 4294967301",
        "  -> 10.1.0.11:21                        1        2        3 4294967300 4294967301",
    ]
    assert lines(service, dest, Option.RATE) == [
        "TCP  192.168.100.1:21                4294M    4294M    4294M    4294M    4294M",
        "  -> 10.1.0.11:21                        6        7        8        9       10",
    ]


def test_destination_rates_are_never_scaled() -> None:
    dest = evolve(DEST, stats=StatsEntry(cps=123456789, inpps=4294967295, inbps=123456789))
    assert lines(SERVICE, dest, Option.RATE)[1] == "  -> 10.1.0.11:21                 123456789 4294967295        0  123456K        0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "        0"),
        (99999999, " 99999999"),
        (100000000, "  100000K"),
        (999999999, "  999999K"),
        (1000000000, "    1000M"),
        (99999999999, "   99999M"),
        (10**11, "     100G"),
        (99999999999999, "   99999G"),
        (10**14, "     100T"),
        ((1 << 64) - 1, "18446744T"),
    ],
)
def test_large_numbers_are_scaled(value: int, text: str) -> None:
    assert large_number(value) == text


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_keep_their_width_and_round_down(value: int) -> None:
    text = large_number(value)
    unit = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}.get(text[-1], 1)
    assert len(text) == 9
    assert int(text.strip("KMGT")) * unit <= value < (int(text.strip("KMGT")) + 1) * unit
    assert large_number(value, exact=True) == (f"{value:>9}" if value < 10**8 else f" {value}")


# --- names ------------------------------------------------------------------------------------------------------------------
def test_only_ipv4_names_are_cut() -> None:
    hosts = TableResolver(hosts={"v" * 40: (AF_INET, SERVICE.addr), "d" * 40: (AF_INET, DEST.addr), "s" * 40: (AF_INET6, 1)})
    style = Style(resolver=hosts)
    assert list(service_lines(SERVICE, [DEST], style)) == [
        f"TCP  {'v' * 28} rr",
        f"  -> {'d' * 28} Masq    1      0          10        ",
    ]
    six = evolve(SERVICE, af=AF_INET6, addr=1, netmask=128)
    assert list(service_lines(six, [evolve(DEST, af=AF_INET6, addr=1)], style)) == [
        f"TCP  [{'s' * 40}]:ftp rr",
        f"  -> [{'s' * 40}]:ftp Masq    1      0          10        ",
    ]


def test_unknown_protocols_have_a_question_mark() -> None:
    assert lines(evolve(SERVICE, protocol=47), DEST)[0] == "?    192.168.100.1:21 rr"


def test_marks_are_signed() -> None:
    assert [lines(evolve(SERVICE, fwmark=mark), DEST)[0] for mark in (4294967295, 1 << 31, (1 << 31) - 1)] == [
        "FWM  -1 rr",
        "FWM  -2147483648 rr",
        "FWM  2147483647 rr",
    ]


@pytest.mark.parametrize(
    ("scheduler", "flags", "text"),
    [
        ("rr", 0x38, " (flag-1,flag-2,flag-3)"),
        ("sh", 0x38, " (sh-fallback,sh-port)"),
        ("mh", 0x10, " (mh-port)"),
        ("mh", 0x20, " ()"),
        ("sh", 0x00, ""),
    ],
)
def test_scheduler_flags(scheduler: str, flags: int, text: str) -> None:
    assert lines(evolve(SERVICE, sched_name=scheduler, flags=flags), DEST)[0] == f"TCP  192.168.100.1:21 {scheduler}{text}"


def test_an_engine_without_persistence_is_not_shown() -> None:
    assert lines(evolve(SERVICE, pe_name="sip", netmask=0), DEST)[0] == "TCP  192.168.100.1:21 rr"


@pytest.mark.parametrize(
    ("tun_type", "tun_port", "tun_flags", "text"), [(0, 0, 0, "ipip"), (1, 65535, 2, "gue:65535:r+c"), (1, 1, 0, "gue:1:-c"), (2, 0, 1, "gre:+c")]
)
def test_tunnel_information(tun_type: int, tun_port: int, tun_flags: int, text: str) -> None:
    assert tunnel_info(evolve(DEST, conn_flags=2, tun_type=tun_type, tun_port=tun_port, tun_flags=tun_flags)) == text


def test_the_first_format_in_the_order_of_the_list_wins(ipvsadm) -> None:
    assert ipvsadm("-L --rate --stats --exact").out == ipvsadm("-L --stats -X").out
    assert ipvsadm("-L --thresholds --rate").out == ipvsadm("-L --rate").out
    assert ipvsadm("-L --tun-info --persistent-conn").out == ipvsadm("-L --persistent-conn").out
    assert ipvsadm("-L --syncid 7").out == ipvsadm("-L").out


# --- connections ------------------------------------------------------------------------------------------------------------
FILE = """\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 2001:0db8:0016:0000:0000:0000:0000:0005 0BB8 2001:0db8:0100:0000:0000:0000:0000:0001 0015 2001:0db8:0001:0000:0000:0000:0000:0011 0015 ESTABLISHED     899
TCP AC100005 0000 C0A86401 C351 0A01000C C351 LISTEN          119
IP  03030303 0000 00000005 0000 0A01000D 0000 NONE             37
"""
FILE_PE = """\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
UDP 01010103 040E C0A86401 13C4 0A01000B 13C4 UDP              27
UDP 01010100 0000 C0A86401 13C4 0A01000B 13C4 NONE             23 sip abd
"""


def test_connections(ipvs) -> None:
    assert run(ipvs.control, lambda name: FILE, "-Lnc").lines == [
        "IPVS connection entries",
        "pro expire state       source             virtual            destination",
        "TCP 14:59  ESTABLISHED [2001:db8:16::5]:3000 [2001:db8:100::1]:21 [2001:db8:1::11]:21",
        "TCP 01:59  LISTEN      172.16.0.5:0       192.168.100.1:50001 10.1.0.12:50001",
        "IP  00:37  NONE        3.3.3.3:0          0.0.0.5:0          10.1.0.13:0",
    ]


def test_connections_with_engine_data(ipvs) -> None:
    assert run(ipvs.control, lambda name: FILE_PE, "-Lnc --persistent-conn").lines == [
        "IPVS connection entries",
        "pro expire state       source             virtual            destination        pe name          pe_data",
        "UDP 00:27  UDP         1.1.1.3:1038       192.168.100.1:5060 10.1.0.11:5060",
        "UDP 00:23  NONE        1.1.1.0:0          192.168.100.1:5060 10.1.0.11:5060   sip                abd",
    ]
    assert run(ipvs.control, lambda name: FILE_PE, "-Lnc").lines[-1] == "UDP 00:23  NONE        1.1.1.0:0          192.168.100.1:5060 10.1.0.11:5060"


def test_connections_with_names() -> None:
    row = "UDP 01010103 040E C0A86401 13C4 0A01000B 13C4 UDP         4294903"
    assert list(connection_lines(f"\n{row}\n", persistent=False, resolver=TableResolver()))[2] == (
        "UDP 71581:43 UDP         1.1.1.3:1038       192.168.100.1:sip  10.1.0.11:sip"
    )


def test_connections_as_the_model_has_them(ipvs, ipvsadm) -> None:
    ipvsadm("-A -t 192.0.2.1:80 -s rr")
    ipvsadm("-a -t 192.0.2.1:80 -r 10.0.0.2:8080 -m")
    assert ipvsadm("-Lnc").lines[2:] == []
    ipvs.receive(Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "S"))
    assert ipvsadm("-Lnc").lines[2:] == ["TCP 01:00  SYN_RECV    203.0.113.7:40000  192.0.2.1:80       10.0.0.2:8080"]
    assert ipvsadm("-Lnc").out == ipvsadm("-L -c -n --sort --nosort --tun-info").out


# --- timeouts, daemons, the rest --------------------------------------------------------------------------------------------
def test_timeouts(ipvsadm) -> None:
    assert ipvsadm("-L --timeout").lines == ["Timeout (tcp tcpfin udp): 900 120 300"]
    assert ipvsadm("--set 0 5 2678400").status == 0
    assert ipvsadm("-L --timeout").lines == ["Timeout (tcp tcpfin udp): 900 5 2678400"]


def test_daemons(ipvsadm) -> None:
    assert ipvsadm("-L --daemon").lines == []
    assert ipvsadm("--start-daemon backup --syncid 9 --mcast-group ff02::81 --mcast-port 9000 --mcast-ttl 3 --sync-maxlen 1200").lines == []
    assert ipvsadm("--start-daemon master --syncid 255").lines == []
    assert ipvsadm("-L --daemon").lines == [
        "master sync daemon (mcast=eth0, syncid=255, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)",
        "backup sync daemon (mcast=eth0, syncid=9, maxlen=1200, group=ff02::81, port=9000, ttl=3)",
    ]
    assert ipvsadm("--stop-daemon master --syncid 1").lines == []
    assert len(ipvsadm("-L --daemon").lines) == 1


def test_a_daemons_zeros_are_left_out() -> None:
    assert daemon_line(DaemonEntry(2, "eth0", 0, 0, (AF_INET, 0xE0000051), 0, 0)) == "backup sync daemon (mcast=eth0, syncid=0, group=224.0.0.81)"


def test_version_and_help(ipvsadm) -> None:
    version = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)"
    assert (ipvsadm("-v").status, ipvsadm("-v --bogus x").lines) == (0, [version])
    assert (ipvsadm("--help").status, ipvsadm("-h").lines[:2]) == (0, [version, "Usage:"])
