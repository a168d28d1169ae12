"""The order of services and destinations (spec/70 section 12)."""

from __future__ import annotations

from functools import cmp_to_key

from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.flags import AF_INET, AF_INET6
from ipvs_model.ipvsadm.order import cmp_dests, cmp_services, difference, merge_sort


def destinations(lines: list[str]) -> list[str]:
    return [line.split()[1].rpartition(":")[0] for line in lines if line.startswith(("  -> 1", "  -> 2"))]


def test_destinations_far_apart_are_in_the_opposite_order(ipvs, ipvsadm) -> None:
    ipvsadm("-A -t 192.0.2.1:80 -s rr")
    kernel = ["200.0.0.9", "1.1.1.1", "130.0.0.1", "172.16.0.1", "10.0.0.5", "192.168.0.1", "10.0.0.4", "10.0.0.2"]
    for address in reversed(kernel):
        assert ipvsadm(f"-a -t 192.0.2.1:80 -r {address}").status == 0
    assert destinations(ipvsadm("-Ln --nosort").lines) == kernel
    assert destinations(ipvsadm("-Ln").lines) == ["130.0.0.1", "172.16.0.1", "192.168.0.1", "200.0.0.9", "1.1.1.1", "10.0.0.2", "10.0.0.4", "10.0.0.5"]
    assert ipvsadm("-Ln --sort").out == ipvsadm("-Ln").out


def test_four_addresses(ipvsadm) -> None:
    ipvsadm("-A -f 1")
    for address in ("10.0.0.1", "172.16.0.1", "1.1.1.1", "192.168.0.1"):
        ipvsadm(f"-a -f 1 -r {address}")
    assert destinations(ipvsadm("-Ln").lines) == ["172.16.0.1", "192.168.0.1", "1.1.1.1", "10.0.0.1"]


def services(lines: list[str]) -> list[str]:
    return [line.split()[1] for line in lines if line.startswith(("TCP", "UDP", "SCTP", "FWM"))]


def test_one_large_mark_is_first(ipvsadm) -> None:
    ipvsadm("-A -t 10.0.0.1:80")
    ipvsadm("-A -f 4294967295")
    assert services(ipvsadm("-Ln").lines) == ["-1", "10.0.0.1:80"]


def test_marks_behind_the_addresses() -> None:
    """The marks as the kernel listed them, behind fifteen address services, which all have mark 0."""

    class Marked:
        def __init__(self, fwmark: int) -> None:
            self.fwmark, self.af, self.addr, self.port, self.protocol = fwmark, AF_INET, 0, 0, 6

    kernel = [Marked(mark) for mark in [0] * 15 + [2147483648, 3000000000, 1, 4294967295, 2147483647]]
    ordered = [entry.fwmark for entry in merge_sort(kernel, cmp_services)]  # type: ignore[arg-type]
    assert ordered == [0] * 15 + [2147483648, 3000000000, 4294967295, 1, 2147483647]


def test_services_by_family_protocol_address_port(ipvsadm) -> None:
    for service in (
        "-t [2001:db8::1]:80",
        "--sctp-service 10.0.0.1:9",
        "-u 10.0.0.1:53",
        "-t 10.0.0.2:80",
        "-t 10.0.0.1:443",
        "-t 10.0.0.1:80",
        "-f 5",
        "-f 5 -6",
    ):
        assert ipvsadm(f"-A {service}").status == 0
    assert services(ipvsadm("-Ln").lines) == ["10.0.0.1:80", "10.0.0.1:443", "10.0.0.2:80", "10.0.0.1:53", "10.0.0.1:9", "[2001:db8::1]:80", "5", "5"]
    assert [line for line in ipvsadm("-Ln").lines if line.startswith("FWM")] == ["FWM  5 wlc", "FWM  5 IPv6 wlc"]


def test_ports_decide_between_equal_addresses(ipvsadm) -> None:
    ipvsadm("-A -f 1")
    for port in (3, 1, 2):
        ipvsadm(f"-a -f 1 -r 10.0.0.1:{port} -m")
    assert [line.split()[1] for line in ipvsadm("-Ln").lines[4:]] == ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"]


class At:
    """A destination, as far as its order goes."""

    def __init__(self, af: int, addr: int, port: int) -> None:
        self.af, self.addr, self.port = af, addr, port


def test_the_left_destination_says_how_much_of_an_address_is_compared() -> None:
    four, six = At(AF_INET, 0x20010DB8, 0), At(AF_INET6, 0x20010DB8 << 96 | 1, 0)
    assert cmp_dests(four, six) == 0  # type: ignore[arg-type]
    assert cmp_dests(six, four) == 1  # type: ignore[arg-type]


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_the_difference_has_32_bits_and_a_sign(a: int, b: int) -> None:
    found = difference(a, b)
    assert -(1 << 31) <= found < 1 << 31
    assert (found - (a - b)) % (1 << 32) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers())))
def test_where_the_comparison_is_sane_it_is_a_stable_sort(items: list[tuple[int, int]]) -> None:
    def compare(a: tuple[int, int], b: tuple[int, int]) -> int:
        return a[0] - b[0]

    assert merge_sort(items, compare) == sorted(items, key=cmp_to_key(compare))
