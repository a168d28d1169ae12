"""Addresses, ports and numbers as words (spec/70 sections 4, 7 and 10.3)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.flags import AF_INET, AF_INET6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP
from ipvs_model.ipvsadm import TableResolver
from ipvs_model.ipvsadm.names import Address, address_name, inet_aton, inet_ntop, inet_pton, leading_number, parse_service

NAMES = TableResolver(hosts={"web": (AF_INET, 0x0A000001), "six": (AF_INET6, 1 << 120)})
V6 = 0x20010DB8 << 96 | 1


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:80", Address(AF_INET, 0x0A000001, 80)),
        ("10.0.0.1", Address(AF_INET, 0x0A000001, None)),
        ("1.2:80", Address(AF_INET, 0x01000002, 80)),
        ("0x7f.1", Address(AF_INET, 0x7F000001, None)),
        ("12345:80", Address(AF_INET, 12345, 80)),
        ("[1.2.3.4]:83", Address(AF_INET, 0x01020304, None)),
        ("[2001:db8::1]:80", Address(AF_INET6, V6, 80)),
        ("2001:db8::1", Address(AF_INET6, V6, None)),
        ("::1", Address(AF_INET6, 1, None)),
        ("::1:80", Address(AF_INET6, 0x10080, None)),
        ("10.0.0.1:0080", Address(AF_INET, 0x0A000001, 80)),
        ("10.0.0.1:+80", Address(AF_INET, 0x0A000001, 80)),
        ("10.0.0.1: 80", Address(AF_INET, 0x0A000001, 80)),
        ("10.0.0.1:http", Address(AF_INET, 0x0A000001, 80)),
        ("[::1]:http-alt", Address(AF_INET6, 1, 8080)),
        ("web:http", Address(AF_INET, 0x0A000001, 80)),
        ("web", Address(AF_INET, 0x0A000001, None)),
        ("1234", None),
        ("", None),
        ("[::1]", None),
        ("[::1", None),
        ("[::1]:", None),
        ("[::1]x:80", None),
        ("fe80::1%eth0", None),
        ("10.0.0.1:", None),
        ("10.0.0.1:65536", None),
        ("10.0.0.1:-1", None),
        ("10.0.0.1:nosuch", None),
        ("10.0.0.1:tftp", None),
        ("nosuch:80", None),
        ("six:80", None),
        (":80", None),
    ],
)
def test_an_address_with_or_without_port(text: str, address: Address | None) -> None:
    assert parse_service(text, IPPROTO_TCP, NAMES) == address


def test_service_names_are_those_of_the_protocol() -> None:
    assert parse_service("10.0.0.1:tftp", IPPROTO_UDP, NAMES) == Address(AF_INET, 0x0A000001, 69)
    assert parse_service("10.0.0.1:http", IPPROTO_SCTP, NAMES) is None
    assert parse_service("10.0.0.1:http", 0, NAMES) is None


@pytest.mark.parametrize("text", ["1.2.3.4.5", "1.2.3.256", "1.2.65536", "1.16777216", "4294967296", "08", "0x", "1..2", "1.", "", "x", "-1", " 1"])
def test_what_is_no_ipv4_address(text: str) -> None:
    assert inet_aton(text) is None


def test_white_space_ends_an_ipv4_address() -> None:
    assert inet_aton("1.2.3.4 whatever") == 0x01020304


@given(st.integers(0, 0xFFFFFFFF))
def test_ipv4_addresses_in_all_their_forms(addr: int) -> None:
    a, rest = addr >> 24, addr & 0xFFFFFF
    b, low = rest >> 16, rest & 0xFFFF
    forms = [str(addr), hex(addr), f"0{addr:o}", f"{a}.{rest}", f"{a}.{b}.{low}", f"0x{a:X}.0{b:o}.{low >> 8}.{low & 255}", inet_ntop(AF_INET, addr)]
    assert {inet_aton(form) for form in forms} == {addr}
    assert inet_pton(AF_INET, inet_ntop(AF_INET, addr)) == addr


@given(st.integers(0, (1 << 128) - 1) | st.integers(0, (1 << 48) - 1))
def test_ipv6_text_reads_back(addr: int) -> None:
    text = inet_ntop(AF_INET6, addr)
    assert inet_pton(AF_INET6, text) == addr
    if addr >> 48:
        assert text == ipaddress.IPv6Address(addr).compressed


@pytest.mark.parametrize(
    ("addr", "text"), [(0, "::"), (1, "::1"), (0xFFFF, "::ffff"), (0x10002, "::0.1.0.2"), (0xFFFF0A000001, "::ffff:10.0.0.1"), (V6, "2001:db8::1")]
)
def test_ipv6_addresses_as_the_c_library_writes_them(addr: int, text: str) -> None:
    assert inet_ntop(AF_INET6, addr) == text


@pytest.mark.parametrize("text", ["10.0.0.01", "10.0.1", "0x0a.0.0.1", "10.0.0.1 ", ""])
def test_the_strict_form_of_an_ipv4_address(text: str) -> None:
    assert inet_pton(AF_INET, text) is None


def test_numbers_of_any_length_are_read() -> None:
    assert parse_service("10.0.0.1:" + "0" * 5000 + "80", IPPROTO_TCP, NAMES) == Address(AF_INET, 0x0A000001, 80)
    assert parse_service("10.0.0.1:" + "9" * 5000, IPPROTO_TCP, NAMES) is None
    assert leading_number("9" * 5000) == leading_number("-1") == -1


def test_names_stand_for_numbers_where_there_are_any() -> None:
    assert address_name(AF_INET, 0x0A000001, 80, IPPROTO_TCP, NAMES) == "web:http"
    assert address_name(AF_INET6, 1 << 120, 53, IPPROTO_UDP, NAMES) == "[six]:domain"
    assert address_name(AF_INET, 0x0A000002, 81, IPPROTO_TCP, NAMES) == "10.0.0.2:81"
    assert address_name(AF_INET, 0x0A000001, 80, IPPROTO_TCP, None) == "10.0.0.1:80"
    assert address_name(AF_INET, 0x0A000001, 80, 0, NAMES) == "web:80"


def test_a_name_has_59_characters_at_most() -> None:
    long = TableResolver(hosts={"h" * 70: (AF_INET, 1)})
    assert address_name(AF_INET, 1, 80, IPPROTO_TCP, long) == "h" * 59


def test_the_first_name_of_a_port_is_shown() -> None:
    assert (NAMES.service_port("www", IPPROTO_TCP), NAMES.service_name(80, IPPROTO_TCP)) == (80, "http")
