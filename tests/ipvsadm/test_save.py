"""Save and restore (spec/70 section 15)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.errors import IPVSError
from ipvs_model.flags import AF_INET, AF_INET6
from ipvs_model.ipvs import IPVS
from ipvs_model.ipvsadm import TableResolver, run
from ipvs_model.ipvsadm.save import restored_lines

HINT = "Try `ipvsadm -h' or 'ipvsadm --help' for more information."
SAVED = """\
-A -t 10.0.0.1:0 -s rr -p 360
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 1
-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 5
-a -t 10.0.0.1:80 -r 10.0.0.3:80 -i -w 0 --tun-type ipip
-a -t 10.0.0.1:80 -r 10.0.0.4:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum
-a -t 10.0.0.1:80 -r 10.0.0.6:80 -i -w 1 --tun-type gre --tun-nocsum
-A -t 10.0.0.1:8443 -s sh -b sh-fallback,sh-port
-A -u 10.0.0.1:5060 -s wlc -p 60 -M 255.255.255.0 --pe sip -o
-A --sctp-service 10.0.0.1:9 -s lc
-A -t [2001:db8::1]:80 -s rr -p 1000 -M 96
-a -t [2001:db8::1]:80 -r [2001:db8:1111:2222:3333:4444:5555:6666]:65535 -m -w 1
-A -f 100 -s wlc -p 300
-a -f 100 -r 10.0.0.9:0 -m -w 1
-A -f 100 -6 -s wlc -p 300 -M 64
"""


def test_the_recorded_save_comes_back(ipvsadm) -> None:
    assert ipvsadm("-R", SAVED).lines == []
    assert ipvsadm("-Sn").out == SAVED


def test_names(ipvs, ipvsadm) -> None:
    ipvsadm("-R", SAVED)
    assert ipvsadm("-S").lines[1:4] == [
        "-A -t 10.0.0.1:http -s rr",
        "-a -t 10.0.0.1:http -r 10.0.0.2:http -g -w 1",
        "-a -t 10.0.0.1:http -r 10.0.0.2:http-alt -m -w 5",
    ]
    hosts = TableResolver(hosts={"a" * 40: (AF_INET, 0x0A000001)})
    assert run(ipvs.control, ipvs.proc, "-S", resolver=hosts).lines[1] == f"-A -t {'a' * 40}:http -s rr"


def test_an_engine_is_saved_without_persistence(ipvsadm) -> None:
    ipvsadm("-A -u 10.0.0.1:5060 --pe sip")
    assert ipvsadm("-Sn").lines == ["-A -u 10.0.0.1:5060 -s wlc --pe sip"]


def test_what_a_save_loses(ipvs, ipvsadm) -> None:
    ipvsadm("-A -f 4294967295")
    ipvsadm("-a -f 4294967295 -r 10.0.0.1 -x 5 -y 4")
    assert ipvsadm("-Sn").lines == ["-A -f -1 -s wlc", "-a -f -1 -r 10.0.0.1:0 -g -w 1"]
    result = IPVS().ipvsadm("-R", ipvsadm("-Sn").out)
    assert (result.status, result.err) == (2, "invalid fwmark value `-1' specified\n")


def test_none_is_a_scheduler_that_the_kernel_understands(ipvsadm) -> None:
    ipvsadm("-A -t 10.0.0.1:80 -s none")
    assert ipvsadm("-Sn").lines == ["-A -t 10.0.0.1:80 -s none"]
    again = IPVS()
    assert again.ipvsadm("-R", ipvsadm("-Sn").out).status == 0
    assert again.ipvsadm("-Sn").out == ipvsadm("-Sn").out


def test_what_only_control_calls_can_make_is_saved_too(ipvs, ipvsadm) -> None:
    other = ipvs.add_service(47, "10.0.0.1:80")
    ipvs.add_dest(other, "10.0.0.2", forward="local")
    ipvs.add_dest(other, "10.0.0.3", forward="tunnel", tun_type="gre", tun_flags=3)
    ipvs.add_service("tcp", "10.0.0.1:80", scheduler="sh", flags=0x20)
    assert ipvsadm("-Sn").lines == [
        "-A -t 10.0.0.1:80 -s sh -b ",
        "-A ? 10.0.0.1:80 -s wlc",
        "-a ? 10.0.0.1:80 -r 10.0.0.2:80 -g -w 1",
        "-a ? 10.0.0.1:80 -r 10.0.0.3:80 -i -w 1 --tun-type gre",
    ]


# --- reading lines -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("", []),
        ("\n \t\r\n\n", []),
        ("-C\n-L", [["-C"], ["-L"]]),
        ("  -A\t-t \r x\r\n", [["-A", "-t", "x"]]),
        ("ipvsadm -C\n-A ipvsadm -f ipvsadm 1\nipvsadm\n", [["-C"], ["-A", "-f", "1"]]),
        ("-C ", [["-C"]]),
        ("-C  ", []),
        ("-L\n-C\t\r", [["-L"]]),
        ("-C  \n", [["-C"]]),
        ("# x", [["#", "x"]]),
        ('-A "a b"', [["-A", '"a', 'b"']]),
        ("-A x\v", [["-A", "x\v"]]),
        ("x" * 5000 + " y", [["x" * 4096, "y"]]),
    ],
)
def test_words_of_lines(text: str, commands: list[list[str]]) -> None:
    assert list(restored_lines(text)) == commands


# --- running them --------------------------------------------------------------------------------------------------------
def restored(ipvs: IPVS, text: str) -> tuple[int, list[str], list[int]]:
    """Status, lines and the marks of the services that are there afterwards."""
    result = ipvs.ipvsadm("-R", text)
    return result.status, result.lines, sorted(svc.fwmark for svc in ipvs.services)


def test_nothing_is_cleared_before(ipvs) -> None:
    restored(ipvs, "-A -f 1")
    assert restored(ipvs, "-A -f 2") == (0, [], [1, 2])


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("# comment", 255, HINT),
        ("-A -f 9 # comment", 2, "unexpected argument #"),
        ("-A", 2, "You need to supply the 'service-address' option for the 'add-service' command"),
        ("-R", 255, HINT),
        ("-L -f 9", 1, "No such service"),
        ("-v", 0, "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)"),
    ],
)
def test_lines_that_end_the_program(ipvs, line: str, status: int, message: str) -> None:
    assert restored(ipvs, f"-A -f 1\n{line}\n-A -f 2\n") == (status, [message], [1])


@pytest.mark.parametrize(
    ("line", "message"), [("-A -f 1", "Service already exists"), ("-A -f 9 --bogus", "--bogus: unknown option"), ("-A -f", "-f: missing argument")]
)
def test_lines_that_fail_and_let_it_go_on(ipvs, line: str, message: str) -> None:
    assert restored(ipvs, f"-A -f 1\n{line}\n-A -f 2\n") == (0, [message], [1, 2])
    assert restored(ipvs, f"-A -f 3\n{line}\n") == (255, [message], [1, 2, 3])


def test_every_line_starts_afresh(ipvs) -> None:
    assert restored(ipvs, "-A -f 1 -6 -s rr\n-A -f 2\n") == (0, [], [1, 2])
    assert [(svc.af, svc.scheduler.name) for svc in ipvs.services] == [(AF_INET6, "rr"), (AF_INET, "wlc")]


def test_listings_work_inside(ipvs) -> None:
    status, lines, _ = restored(ipvs, "-A -f 1\n-Sn\n-L --timeout\n-Ln -f 1\n")
    assert (status, lines) == (
        0,
        [
            "-A -f 1 -s wlc",
            "Timeout (tcp tcpfin udp): 900 120 300",
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
            "FWM  1 wlc",
        ],
    )


# --- there and back --------------------------------------------------------------------------------------------------------
# the sort subtracts 32-bit words: two that lie exactly 2^31 apart have no order, so the top bit of each word stays clear
ADDRESSES = {
    AF_INET: st.integers(0x01000000, 0x7FFFFFFF).map(lambda addr: (AF_INET, addr)),
    AF_INET6: st.integers(1 << 125, (1 << 126) - 1).map(lambda addr: (AF_INET6, addr & 0x7FFFFFFF_7FFFFFFF_7FFFFFFF_7FFFFFFF)),
}


@st.composite
def services(draw: st.DrawFn) -> tuple[dict[str, object], list[tuple[tuple[int, int], int, dict[str, object]]]]:
    """The arguments of IPVS.add_service, and those of IPVS.add_dest for each destination."""
    af = draw(st.sampled_from(list(ADDRESSES)))
    marked = draw(st.booleans())
    protocol = draw(st.sampled_from(["tcp", "udp", "sctp"]))
    persistent = draw(st.none() | st.integers(1, 31 * 24 * 3600))
    least = 0 if persistent is not None else 1
    scheduler = draw(st.sampled_from(["rr", "wlc", "sh", "mh", "none"]))
    service: dict[str, object] = {
        "scheduler": scheduler,
        "persistent": persistent,
        "flags": sum(draw(st.sets(st.sampled_from([0x08, 0x10, 0x20][: 2 if scheduler in ("sh", "mh") else 3])))),
        "engine": draw(st.sampled_from([None, "sip"])),
    }
    if persistent is not None:
        service["netmask"] = draw(st.integers(0, 0xFFFFFFFF) if af == AF_INET else st.integers(1, 128))
    if marked:
        service |= {"fwmark": draw(st.integers(1, (1 << 31) - 1)), "ipv6": af == AF_INET6}
        service["one_packet"] = draw(st.booleans())
    else:
        service |= {"protocol": protocol, "address": (draw(ADDRESSES[af])[1], draw(st.integers(least, 65535)))}
        service["one_packet"] = protocol == "udp" and draw(st.booleans())
    dests = []
    for _ in range(draw(st.integers(0, 4))):
        forward = draw(st.sampled_from(["masq", "direct", "tunnel"]))
        other = draw(st.sampled_from(list(ADDRESSES))) if forward == "tunnel" else af
        values: dict[str, object] = {"forward": forward, "weight": draw(st.integers(0, (1 << 31) - 1))}
        if forward == "tunnel":
            kind = draw(st.sampled_from(["ipip", "gue", "gre"]))
            values |= {"tun_type": kind, "tun_port": draw(st.integers(1, 65535)) if kind == "gue" else 0}
            values["tun_flags"] = draw(st.integers(0, {"ipip": 0, "gre": 1, "gue": 2}[kind]))
        port = draw(st.integers(0, 65535)) if marked or forward == "masq" else service["address"][1]  # type: ignore[index]
        dests.append((draw(ADDRESSES[other]), port, values))
    return service, dests


@given(st.lists(services(), max_size=4))
def test_a_save_restored_into_an_empty_model_gives_the_same_save(rules) -> None:
    ipvs = IPVS()
    for arguments, dests in rules:
        try:
            service = ipvs.add_service(**arguments)
            for (_, addr), port, values in dests:
                ipvs.add_dest(service, (addr, port), **values)
        except IPVSError:
            continue  # the same service or destination twice
    for options in ("-Sn", "-S"):
        saved = ipvs.ipvsadm(options)
        twin = IPVS()
        result = twin.ipvsadm("-R", saved.out)
        assert (saved.status, result.status, result.err) == (0, 0, "")
        assert twin.ipvsadm(options).out == saved.out
        assert twin.ipvsadm("-Ln").out == ipvs.ipvsadm("-Ln").out
