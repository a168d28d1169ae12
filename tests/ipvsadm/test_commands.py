"""What reaches the kernel: defaults, ports, replacement by -E and -e, -Z (spec/70 sections 4, 6, 8)."""

from __future__ import annotations

import pytest

from ipvs_model.dest import DestUser
from ipvs_model.flags import AF_INET, AF_INET6, IP_VS_SVC_F_PERSISTENT
from ipvs_model.ipvsadm import TableResolver
from ipvs_model.ipvsadm.parse import Request, parse
from ipvs_model.packet import Packet
from ipvs_model.service import ServiceUser


def request(line: str) -> Request:
    return parse(line.split(), TableResolver())


def service(line: str) -> ServiceUser:
    return request("-A " + line).service


def dest(line: str) -> DestUser:
    return request("-a " + line).dest


def test_a_service_as_it_is_sent() -> None:
    assert service("-t 10.0.0.1:80") == ServiceUser(af=AF_INET, protocol=6, addr=0x0A000001, port=80, sched_name="wlc", flags=0, netmask=0xFFFFFFFF)
    assert service("-u [::1]:53 -o") == ServiceUser(af=AF_INET6, protocol=17, addr=1, port=53, sched_name="wlc", flags=4, netmask=128)
    assert service("--sctp-service 10.0.0.1:9 -s lc").protocol == 132
    assert service("-f 007") == ServiceUser(fwmark=7, sched_name="wlc")
    assert service("-f 7 -6") == ServiceUser(af=AF_INET6, fwmark=7, sched_name="wlc", netmask=128)


@pytest.mark.parametrize(("option", "seconds"), [("-p", 360), ("-p 1", 1), ("-p2678400", 2678400), ("--persistent=60", 60), ("--persistent 60", 60)])
def test_persistence(option: str, seconds: int) -> None:
    user = service(f"-t 10.0.0.1 {option}")
    assert (user.flags, user.timeout, user.port) == (IP_VS_SVC_F_PERSISTENT, seconds, 0)


@pytest.mark.parametrize(
    ("line", "netmask"),
    [
        ("-t 10.0.0.1:80 -M 255.255.0.0", 0xFFFF0000),
        ("-t 10.0.0.1:80 -M 24", 24),
        ("-t 10.0.0.1:80 -M 0xffffff00", 0xFFFFFF00),
        ("-t [::1]:80 -M 64", 64),
        ("-t [::1]:80 -M 64x", 64),
        ("-M 255.255.0.0 -t [::1]:80", 128),
        ("-f 1 -M 255.255.0.0 -6", 128),
        ("-f 1 -6 -M 64", 64),
    ],
)
def test_a_mask_is_read_in_the_family_known_so_far(line: str, netmask: int) -> None:
    assert service(line).netmask == netmask


def test_a_mask_may_be_the_name_of_a_host() -> None:
    hosts = TableResolver(hosts={"mask": (AF_INET, 0xFFFFFF00)})
    assert parse(["-A", "-t", "10.0.0.1:80", "-M", "mask"], hosts).service.netmask == 0xFFFFFF00


def test_names_are_cut() -> None:
    user = service("-t 10.0.0.1:80 -s 0123456789abcdefgh --pe 0123456789abcdefgh")
    assert (user.sched_name, user.pe_name) == ("0123456789abcde", "0123456789abcdef")
    assert request("--start-daemon master --mcast-interface 0123456789abcdefgh").daemon.mcast_ifn == "0123456789abcde"
    assert request("--start-daemon master").daemon.mcast_ifn == "eth0"


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("-b flag-1", 0x08),
        ("-b flag-1,flag-2,flag-3", 0x38),
        ("-b ,flag-2,,", 0x10),
        ("-b sh-port -s sh", 0x10),
        ("-s sh -b sh-fallback,flag-2", 0x18),
        ("-s mh -b mh-port,mh-fallback", 0x18),
        ("--sched-flags=flag-3 -p", 0x21),
    ],
)
def test_scheduler_flags(line: str, flags: int) -> None:
    assert service("-t 10.0.0.1:80 " + line).flags == flags


def test_a_destination_as_it_is_sent() -> None:
    assert dest("-t 10.0.0.1:80 -r 10.0.0.2") == DestUser(af=AF_INET, addr=0x0A000002, port=80, conn_flags=3, weight=1)
    assert dest("-f 1 -r [::2]:8080 -i -w 0 -x 9 -y 4 --tun-type gue --tun-port 5 --tun-remcsum") == DestUser(
        af=AF_INET6, addr=2, port=8080, conn_flags=2, weight=0, u_threshold=9, l_threshold=4, tun_type=1, tun_port=5, tun_flags=2
    )


@pytest.mark.parametrize(
    ("line", "port"),
    [
        ("-t 10.0.0.1:80 -r 10.0.0.2:8080 -m", 8080),
        ("-t 10.0.0.1:80 -r 10.0.0.2 -m", 80),
        ("-r 10.0.0.2 -t 10.0.0.1:80 -m", 0),
        ("-t 10.0.0.1:80 -r 10.0.0.2:8080 -g", 80),
        ("-r 10.0.0.2 -t 10.0.0.1:80 -i", 80),
        ("-f 1 -r 10.0.0.2:8080", 8080),
        ("-f 1 -r 10.0.0.2", 0),
        ("-u 10.0.0.1:53 -r 10.0.0.2:tftp -m", 69),
    ],
)
def test_the_port_of_a_destination(line: str, port: int) -> None:
    assert dest(line).port == port


def test_a_name_of_a_port_needs_the_service_before_it(ipvsadm) -> None:
    assert ipvsadm("-a -r 10.0.0.2:http -t 10.0.0.1:80 -m").err == "illegal real server address[:port] specified\n"


def test_deleting_by_the_port_that_was_never_stored(ipvsadm) -> None:
    ipvsadm("-A -t 10.0.0.1:80")
    ipvsadm("-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -g")
    assert ipvsadm("-d -t 10.0.0.1:80 -r 10.0.0.2:8080").err == "No such destination\n"
    assert ipvsadm("-d -t 10.0.0.1:80 -r 10.0.0.2").status == 0


def test_edits_replace_everything(ipvsadm) -> None:
    ipvsadm("-A -u 10.0.0.1:80 -s rr -p 50 --pe sip -o -b flag-1")
    ipvsadm("-a -u 10.0.0.1:80 -r 10.0.0.2 -m -w 9 -x 5 -y 4")
    ipvsadm("-E -u 10.0.0.1:80")
    ipvsadm("-e -u 10.0.0.1:80 -r 10.0.0.2 -w 0")
    assert ipvsadm("-Sn").lines == ["-A -u 10.0.0.1:80 -s wlc", "-a -u 10.0.0.1:80 -r 10.0.0.2:80 -g -w 0"]
    assert ipvsadm("-Ln --thresholds").lines[-1].split()[2:] == ["0", "0", "0", "0"]


def test_zero_of_one_service_and_of_everything(ipvs, ipvsadm) -> None:
    for port in (80, 81):
        ipvsadm(f"-A -t 192.0.2.1:{port} -s rr")
        ipvsadm(f"-a -t 192.0.2.1:{port} -r 10.0.0.2 -m")
        ipvs.receive(Packet.tcp("203.0.113.7:40000", f"192.0.2.1:{port}", "S"))
    ipvs.ns.estimator.estimate_now()

    def conns() -> list[int]:
        return [svc.stats.shown().conns for svc in ipvs.services] + [ipvs.ns.tot_stats.shown().conns]

    ipvs.ns.tot_stats.estimate()
    assert conns() == [1, 1, 2]
    assert ipvsadm("-Z -t 192.0.2.1:80").status == 0
    assert sorted(conns()) == [0, 1, 2]
    assert ipvsadm("-Z -t 0.0.0.0:0").status == 0
    assert conns() == [0, 0, 0]


def test_clear_and_delete(ipvs, ipvsadm) -> None:
    for service in ("-t 10.0.0.1:80", "-f 1", "-f 1 -6"):
        assert ipvsadm(f"-A {service}").status == 0
    assert ipvsadm("-D -f 1").status == 0
    assert [svc.fwmark for svc in ipvs.services] == [0, 1]
    assert ipvsadm("-C").status == 0
    assert ipvs.services == []


def test_a_list_of_words_is_taken_as_it_is(ipvsadm) -> None:
    assert ipvsadm(["-A", "-t", "10.0.0.1:80", ""]).err == "unexpected argument \n"
    assert ipvsadm(["-A", "-t", "10.0.0.1: 80"]).status == 0
    assert ipvsadm("-D   -t\t10.0.0.1:80 ").status == 0


def test_lines_hold_the_error_output_first(ipvsadm) -> None:
    result = ipvsadm("-R", "-A -f 1\n-Sn\n-A -f 1")
    assert (result.status, result.lines, str(result)) == (255, ["Service already exists", "-A -f 1 -s wlc"], "Service already exists\n-A -f 1 -s wlc\n")
