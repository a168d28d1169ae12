"""The files in /proc/net, column by column (spec/10 section 17, spec/21, spec/22, spec/60 section 5)."""

from __future__ import annotations

import errno

import pytest
from attrs import evolve

from ipvs_model.addresses import parse_addr, parse_endpoint
from ipvs_model.apps import Ftp
from ipvs_model.conn import ConnParam, new_conn
from ipvs_model.errors import IPVSError
from ipvs_model.flags import (
    AF_INET,
    AF_INET6,
    IP_VS_CONN_F_DROUTE,
    IP_VS_CONN_F_SYNC,
    IP_VS_CONN_F_TEMPLATE,
    IP_VS_CONN_F_TUNNEL,
    IPPROTO_IP,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
)
from ipvs_model.ipvs import IPVS, Environment
from ipvs_model.packet import Packet
from ipvs_model.procfs import FILES, hex_addr
from ipvs_model.protocol import TEMPLATE_ASSURED
from ipvs_model.stats import Stats

HZ = 250


@pytest.fixture
def ipvs() -> IPVS:
    return IPVS()


# --- ip_vs ---------------------------------------------------------------------------------------------------------------
SERVICES = """\
-A -f 1 -s rr
-a -f 1 -r 10.1.0.2 -i
-A -t [2001:db8::1]:80 -s wrr -p 300
-a -t [2001:db8::1]:80 -r 2001:db8::2 -i -w 5
-A -t 10.0.0.1:8080 -s sh -p 300 -M 255.255.255.0
-a -t 10.0.0.1:8080 -r 10.1.0.2
-A -t 10.0.0.1:80 -s wlc
-a -t 10.0.0.1:80 -r 10.1.0.2 -m -w 0
-a -t 10.0.0.1:80 -r 10.1.0.3 -m -w 100
-A -u 10.0.0.1:53 -s rr -o
-a -u 10.0.0.1:53 -r 10.1.0.2 -m
-a -u 10.0.0.1:53 -r 10.1.0.3 -m
"""
IP_VS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
UDP  0A000001:0035 rr ops··
  -> 0A010003:0035      Masq    1      0          0·········
  -> 0A010002:0035      Masq    1      0          0·········
TCP  0A000001:0050 wlc··
  -> 0A010003:0050      Masq    100    12         345·······
  -> 0A010002:0050      Masq    0      1          7·········
TCP  0A000001:1F90 sh  persistent 75000 FFFFFF00
  -> 0A010002:1F90      Route   1      0          2·········
TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 wrr persistent 75000 80000000
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0050      Tunnel  5      3          4·········
FWM  00000001 rr·
  -> 0A010002:0000      Tunnel  1      0          0·········
"""


def dots(text: str) -> str:
    """Blanks at the ends of lines made visible."""
    return "\n".join(line.rstrip(" ") + "·" * (len(line) - len(line.rstrip(" "))) for line in text.split("\n"))


def test_services_and_destinations(ipvs: IPVS) -> None:
    assert ipvs.ipvsadm("-R", SERVICES).lines == []
    wlc, sh, wrr = (svc for svc in ipvs.services if svc.scheduler.name in ("wlc", "sh", "wrr"))
    for svc, counts in ((wlc, [(12, 357), (1, 8)]), (sh, [(0, 2)]), (wrr, [(3, 7)])):
        for dest, (active, total) in zip(svc.destinations, counts, strict=True):
            dest.activeconns, dest.totalconns = active, total
    assert dots(ipvs.proc("ip_vs")) == IP_VS


def test_an_empty_namespace_has_the_titles(ipvs: IPVS) -> None:
    assert ipvs.proc("ip_vs") == "\n".join(IP_VS.split("\n")[:3]) + "\n"
    assert IPVS(Environment(tab_bits=20)).proc("ip_vs").startswith("IP Virtual Server version 1.2.1 (size=1048576)\n")


def service_row(ipvs: IPVS) -> str:
    return ipvs.proc("ip_vs").split("\n")[3]


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("-A -f 255 -s rr -p 1", "FWM  000000FF rr persistent 250 FFFFFFFF"),
        ("-A -f 255 -6 -s rr -p 1 -M 64", "FWM  000000FF rr persistent 250 40000000"),
        ("-A -f 255 -s rr -o -p 1", "FWM  000000FF rr ops persistent 250 FFFFFFFF"),
        ("-A -u 10.0.0.1:1 -s rr -o -p 1", "UDP  0A000001:0001 rr ops  persistent 250 FFFFFFFF"),
        ("-A -u [::1]:1 -s rr -o", "UDP  [0000:0000:0000:0000:0000:0000:0000:0001]:0001 rr "),
        ("-A --sctp-service 10.0.0.1:9 -s none", "SCTP  0A000001:0009 none  "),
    ],
)
def test_a_service(ipvs: IPVS, line: str, row: str) -> None:
    assert ipvs.ipvsadm(line).status == 0
    assert service_row(ipvs) == row


@pytest.mark.parametrize(("protocol", "name"), [(0, "IP"), (1, "ICMP"), (58, "ICMPv6"), (47, "IP_47")])
def test_protocols_that_only_control_calls_can_give(ipvs: IPVS, protocol: int, name: str) -> None:
    ipvs.add_service(protocol, "10.0.0.1:80", scheduler="rr")
    assert service_row(ipvs) == f"{name}  0A000001:0050 rr  "


def test_a_timeout_of_32_bits_is_printed_signed(ipvs: IPVS) -> None:
    ipvs.add_service("tcp", "10.0.0.1:80", scheduler="rr", persistent=(1 << 31) // HZ + 1)
    assert service_row(ipvs).split()[-2] == str(((1 << 31) // HZ + 1) * HZ - (1 << 32))


@pytest.mark.parametrize(("method", "name"), list(enumerate(("Masq", "Local", "Tunnel", "Route", "Masq", "Masq", "Masq", "Masq"))))
def test_forwarding_methods(ipvs: IPVS, method: int, name: str) -> None:
    ipvs.add_dest(ipvs.add_service("tcp", "10.0.0.1:80"), "10.1.0.2", forward=method)
    assert ipvs.proc("ip_vs").split("\n")[4] == f"  -> 0A010002:0050      {name:<7} 1      0          0         "


# --- ip_vs_conn ------------------------------------------------------------------------------------------------------------
def entry(ipvs: IPVS, protocol: int, client: str, virtual: str, server: str, flags: int = 0, state: int = 0, seconds: float = 0, pe_data: bytes = b""):
    """An entry with its timer ``seconds`` from now, hashed."""
    ends = [parse_endpoint(text) for text in (client, virtual, server)]
    af, daf = ends[0][0], ends[2][0]
    caddr, vaddr, daddr = (addr << 16 | port for _, addr, port in ends)
    param = ConnParam(af, protocol, caddr, vaddr)
    if pe_data:
        param = evolve(param, pe=ipvs.engines.get("sip"), pe_data=pe_data)
    cp = new_conn(ipvs.ns, param, daf, daddr, flags, None, 0)
    if state:
        cp.state = TEMPLATE_ASSURED if flags & IP_VS_CONN_F_TEMPLATE else ipvs.ns.protocols[protocol].states[state]
    cp.expires = ipvs.clock.now + round(seconds * HZ)
    return cp


V6 = "2001:0db8:0000:0000:0000:0000:0000:0001 8707 2001:0db8:0000:0000:0000:0000:0000:0080 0050"
ROWS = [
    ((IPPROTO_TCP, "10.0.0.1:34567", "192.168.1.1:80", "10.1.0.5:8080", 0, 1, 899), "TCP 0A000001 8707 C0A80101 0050 0A010005 1F90 ESTABLISHED     899"),
    ((IPPROTO_UDP, "192.168.1.100:5060", "192.168.1.1:53", "10.1.0.6:53", 0, 0, 300), "UDP C0A80164 13C4 C0A80101 0035 0A010006 0035 UDP             300"),
    ((IPPROTO_SCTP, "10.0.0.1:34567", "192.168.1.1:80", "10.1.0.5:8080", 0, 7, 60), "SCTP 0A000001 8707 C0A80101 0050 0A010005 1F90 C-ECHOED         60"),
    (
        (IPPROTO_TCP, "10.0.0.0:0", "192.168.1.1:80", "10.1.0.5:8080", IP_VS_CONN_F_TEMPLATE, 0, 359.996),
        "TCP 0A000000 0000 C0A80101 0050 0A010005 1F90 NONE            359",
    ),
    ((IPPROTO_IP, "10.0.0.1:0", "0.0.0.5:0", "10.1.0.5:0", IP_VS_CONN_F_TEMPLATE, 1, 299), "IP  0A000001 0000 00000005 0000 0A010005 0000 ASSURED         299"),
    (
        (IPPROTO_TCP, "10.0.0.1:0", "192.168.1.1:65535", "10.1.0.5:65535", IP_VS_CONN_F_TEMPLATE, 0, 123),
        "TCP 0A000001 0000 C0A80101 FFFF 0A010005 FFFF NONE            123",
    ),
    (
        (IPPROTO_UDP, "10.0.0.1:0", "192.168.1.1:5060", "10.1.0.5:5060", IP_VS_CONN_F_TEMPLATE, 1, 299, b"a84b4c76e66710@pc33.example.com"),
        "UDP 0A000001 0000 C0A80101 13C4 0A010005 13C4 ASSURED         299 sip a84b4c76e66710@pc33.example.com",
    ),
    (
        (IPPROTO_UDP, "10.0.0.1:0", "192.168.1.1:5060", "10.1.0.5:5060", IP_VS_CONN_F_TEMPLATE, 0, 299, b"a\0b"),
        "UDP 0A000001 0000 C0A80101 13C4 0A010005 13C4 NONE            299 sip a",
    ),
    (
        (IPPROTO_TCP, "[2001:db8::1]:34567", "[2001:db8::80]:80", "[2001:db8:1::5]:8080", 0, 1, 899),
        f"TCP {V6} 2001:0db8:0001:0000:0000:0000:0000:0005 1F90 ESTABLISHED     899",
    ),
    ((IPPROTO_TCP, "[2001:db8::1]:34567", "[2001:db8::80]:80", "10.1.0.5:80", IP_VS_CONN_F_TUNNEL, 3, 59), f"TCP {V6} 0A010005 0050 SYN_RECV         59"),
    (
        (IPPROTO_IP, "[2001:db8::]:0", "[0:5::]:0", "[2001:db8:1::5]:0", IP_VS_CONN_F_TEMPLATE, 0, 299),
        (
            "IP  2001:0db8:0000:0000:0000:0000:0000:0000 0000 0000:0005:0000:0000:0000:0000:0000:0000 0000 2001:0db8:0001:0000:0000:0000:0000:0005 0000"
            " NONE            299"
        ),
    ),
    ((50, "10.0.0.1:500", "192.168.1.1:500", "10.1.0.5:500", 0, 0, 1), "IP_50 0A000001 01F4 C0A80101 01F4 0A010005 01F4 ERR!              1"),
]


@pytest.mark.parametrize(("values", "row"), ROWS, ids=[row.split()[0] + str(number) for number, (_, row) in enumerate(ROWS)])
def test_an_entry(ipvs: IPVS, values: tuple, row: str) -> None:
    entry(ipvs, *values)
    assert ipvs.proc("ip_vs_conn").split("\n") == ["Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData", row, ""]


def test_an_entry_in_the_sync_file(ipvs: IPVS) -> None:
    entry(ipvs, IPPROTO_TCP, "10.0.0.1:34567", "192.168.1.1:80", "10.1.0.5:8080", state=1, seconds=899)
    entry(ipvs, IPPROTO_UDP, "192.168.1.100:5060", "192.168.1.1:53", "10.1.0.6:53", IP_VS_CONN_F_SYNC | IP_VS_CONN_F_DROUTE, seconds=179)
    title, *rows = ipvs.proc("ip_vs_conn_sync").splitlines()
    assert title == "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires"
    assert sorted(rows) == [
        "TCP 0A000001 8707 C0A80101 0050 0A010005 1F90 ESTABLISHED LOCAL      899",
        "UDP C0A80164 13C4 C0A80101 0035 0A010006 0035 UDP         SYNC       179",
    ]


@pytest.mark.parametrize(
    ("jiffies", "seconds"), [(225000, 900), (224999, 899), (250, 1), (249, 0), (0, 0), (-1, 0), (-100000, 0), (1073741823, 4294967), (1073741824, 0)]
)
def test_seconds_left(ipvs: IPVS, jiffies: int, seconds: int) -> None:
    entry(ipvs, IPPROTO_TCP, "10.0.0.1:1", "192.168.1.1:80", "10.1.0.5:80", state=1, seconds=jiffies / HZ)
    assert ipvs.proc("ip_vs_conn").splitlines()[1].endswith(f" ESTABLISHED {seconds:7}")
    assert ipvs.proc("ip_vs_conn_sync").splitlines()[1].endswith(f" ESTABLISHED LOCAL  {seconds:7}")


def test_entries_by_bucket_youngest_first(ipvs: IPVS) -> None:
    for port in range(1, 200):
        entry(ipvs, IPPROTO_TCP, f"10.0.0.1:{port}", "192.168.1.1:80", "10.1.0.5:80")
    ports = [int(row.split()[2], 16) for row in ipvs.proc("ip_vs_conn").splitlines()[1:]]
    assert ports == [cp.cport for cp in ipvs.ns.conns.walk()]
    buckets = [ipvs.ns.conns.bucket(cp) for cp in ipvs.ns.conns.walk()]
    assert buckets == sorted(buckets)


def test_one_packet_entries_never_appear(ipvs: IPVS) -> None:
    ipvs.ipvsadm("-A -u 192.0.2.1:53 -o -s rr")
    ipvs.ipvsadm("-a -u 192.0.2.1:53 -r 10.1.0.2 -m")
    assert ipvs.receive(Packet.udp("203.0.113.7:4000", "192.0.2.1:53")).emitted
    assert len(ipvs.proc("ip_vs_conn").splitlines()) == 1


# --- ip_vs_stats -------------------------------------------------------------------------------------------------------------
def count(ipvs: IPVS, *values: int) -> None:
    """Let the totals go up, as by a service that is deleted."""
    service = Stats()
    for name, value in zip(("conns", "inpkts", "outpkts", "inbytes", "outbytes"), values, strict=True):
        setattr(service, name, value)
    ipvs.ns.tot_stats.leaves(service)


def test_the_worked_example_of_the_statistics() -> None:
    ipvs = IPVS(Environment(cpus=2))
    count(ipvs, 10, 100, 80, 64000, 512000)
    ipvs.ns.tot_stats.estimate()
    assert ipvs.proc("ip_vs_stats") == (
        "   Total Incoming Outgoing         Incoming         Outgoing\n"
        "   Conns  Packets  Packets            Bytes            Bytes\n"
        "       A       64       50             FA00            7D000\n"
        "\n"
        " Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n"
        "       1        C        A             1F40             FA00\n"
    )
    count(ipvs, 2, 50, 40, 32000, 256000)
    assert ipvs.proc("ip_vs_stats_percpu") == (
        "       Total Incoming Outgoing         Incoming         Outgoing\n"
        "CPU    Conns  Packets  Packets            Bytes            Bytes\n"
        "  0        C       96       78            17700            BB800\n"
        "  1        0        0        0                0                0\n"
        "  ~        A       64       50             FA00            7D000\n"
        "\n"
        "     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n"
        "           1        C        A             1F40             FA00\n"
    )
    ipvs.ipvsadm("-Z")
    ipvs.ns.tot_stats.estimate()
    assert ipvs.proc("ip_vs_stats") == (
        "   Total Incoming Outgoing         Incoming         Outgoing\n"
        "   Conns  Packets  Packets            Bytes            Bytes\n"
        "       2       32       28             7D00            3E800\n"
        "\n"
        " Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n"
        "       0        6        5              FA0             7D00\n"
    )
    assert ipvs.proc("ip_vs_stats_percpu").splitlines()[2].split()[1] == "C"


def test_wide_counters_are_not_cut(ipvs: IPVS) -> None:
    count(ipvs, *[(1 << 64) - 1] * 5)
    ipvs.ns.tot_stats.estimate()
    assert ipvs.proc("ip_vs_stats").splitlines()[2] == " ".join(["FFFFFFFFFFFFFFFF"] * 5)


# --- ip_vs_app -----------------------------------------------------------------------------------------------------------------
def test_applications() -> None:
    assert IPVS().proc("ip_vs_app") == "prot port    usecnt name\n"
    ipvs = IPVS(plugins=[Ftp([2121, 21])])
    ipvs.ipvsadm("-A -t 192.0.2.1:2121 -s rr")
    ipvs.ipvsadm("-a -t 192.0.2.1:2121 -r 10.1.0.2 -m")
    for port in (1024, 1025):
        ipvs.receive(Packet.tcp(f"203.0.113.7:{port}", "192.0.2.1:2121", "S"))
    assert ipvs.proc("ip_vs_app") == ("prot port    usecnt name\nTCP  21      0      ftp              \nTCP  2121    2      ftp              \n")


# --- all -------------------------------------------------------------------------------------------------------------------------
def test_every_file_ends_with_a_newline(ipvs: IPVS) -> None:
    for name in FILES:
        text = ipvs.proc(name)
        assert text.endswith("\n") and not text.endswith("\n\n")


def test_no_other_file(ipvs: IPVS) -> None:
    with pytest.raises(IPVSError) as wrong:
        ipvs.proc("ip_vs_nothing")
    assert wrong.value.errno == errno.ENOENT


def test_addresses() -> None:
    assert hex_addr(*parse_addr("192.168.1.1")) == "C0A80101"
    assert hex_addr(*parse_addr("2001:db8:aBcD::1")) == "2001:0db8:abcd:0000:0000:0000:0000:0001"
    assert hex_addr(AF_INET6, 0) == ":".join(["0000"] * 8)
    assert hex_addr(AF_INET, 0) == "00000000"
