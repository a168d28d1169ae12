"""What the FTP helper reads in a segment (spec/60 sections 6.2 and 6.4)."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.apps.ftp_text import FORMATS, Announcement, FtpMode, announced, in4_pton, in6_pton, passive_request
from ipvs_model.flags import AF_INET, AF_INET6

V4 = AF_INET
V6 = AF_INET6
BAR = ord("|")


def ip(text: str) -> int:
    return int(ipaddress.ip_address(text))


def where(found: Announcement | None) -> tuple[int | None, int] | None:
    return None if found is None else (found.address, found.port)


# command, family, payload, (address, port) or None
ADDRESSES = [
    # PORT: six numbers behind blanks, or from the first digit
    ("PORT", V4, b"PORT 172,16,3,4,149,177\r\n", ("172.16.3.4", 38321)),
    ("PORT", V4, b"port 172,16,0,5,1,1\r\n", ("172.16.0.5", 257)),
    ("PORT", V4, b"PORT1,2,3,4,5,6\r\n", ("1.2.3.4", 1286)),
    ("PORT", V4, b"PORTxyz 1,2,3,4,5,6\r\n", ("1.2.3.4", 1286)),
    ("PORT", V4, b"PORT   1,2,3,4,5,6\r\n", ("1.2.3.4", 1286)),
    ("PORT", V4, b"PORT 172,,,5,1,6\r\n", ("172.0.0.5", 262)),
    ("PORT", V4, b"PORT 172,016,0,05,1,006\r\n", ("172.16.0.5", 262)),
    ("PORT", V4, b"PORT 1,2,3,4,5,6,7\r\n", ("1.2.3.4", 1286)),
    ("PORT", V4, b"PORT 1,2,3,4,5,6\n", ("1.2.3.4", 1286)),
    ("PORT", V4, b"PORT 1,2,3,4,5,6)", ("1.2.3.4", 1286)),
    ("PORT", V4, b"PORT 1,2,3,4,5,6.", ("1.2.3.4", 1286)),
    ("PORT", V4, b"PORT 9,9,9,9,0,0\r\n", ("9.9.9.9", 0)),
    ("PORT", V4, b"PORT ,,,,,\r\n", ("0.0.0.0", 0)),
    ("PORT", V4, b"PORT 172,16,0,5,1,4", None),
    ("PORT", V4, b"PORT 256,16,0,5,1,7\r\n", None),
    ("PORT", V4, b"PORT 1,2,3,4,5\r\n", None),
    ("PORT", V4, b"PORT x,2,3,4,5,6\r\n", None),
    ("PORT", V4, b" PORT 1,2,3,4,5,6\r\n", None),
    ("PORT", V4, b"POR", None),
    ("PORT", V4, b"PORT", None),
    ("PORT", V4, b"PORT   ", None),
    ("PORT", V4, b"P\0RT 1,2,3,4,5,6\r\n", None),
    # 227: the same behind a parenthesis
    ("227", V4, b"227 Entering Passive Mode (10,1,0,11,195,80).", ("10.1.0.11", 50000)),
    ("227", V4, b"227 Entering 10,1,0,11,195,81\r\n", ("10.1.0.11", 50001)),
    ("227", V4, b"227 Entering ((10,1,0,11,195,82)", ("10.1.0.11", 50002)),
    ("227", V4, b"227 (10,1,0,99,195,80)", ("10.1.0.99", 50000)),
    ("227", V4, b"227 Entering 1 (10,1,0,11,195,80)", None),
    ("227", V4, b"220 hello\r\n227 (10,1,0,11,195,80)\r\n", None),
    ("227", V4, b"227-(10,1,0,11,195,80)", None),
    # EPRT: the client's delimiter
    ("EPRT", V4, b"EPRT !1!172.16.0.5!777!", ("172.16.0.5", 777)),
    ("EPRT", V4, b"eprt  |1|172.016.0.05|65535|\r\n", ("172.16.0.5", 65535)),
    ("EPRT", V4, b"EPRT :1:1.2.3.4:77:", ("1.2.3.4", 77)),
    ("EPRT", V6, b"EPRT |2|2001:db8::1|778|\r\n", ("2001:db8::1", 778)),
    ("EPRT", V6, b"EPRT |2|::ffff:1.2.3.4|778|\r\n", ("::ffff:1.2.3.4", 778)),
    ("EPRT", V4, b"EPRT |2|2001:db8::1|778|\r\n", None),
    ("EPRT", V6, b"EPRT |1|1.2.3.4|778|\r\n", None),
    ("EPRT", V4, b"EPRT |1|172.16.0.5|779\r\n", None),
    ("EPRT", V4, b"EPRT |1|172.16.0.5|779", None),
    ("EPRT", V4, b"EPRT|1|172.16.0.5|779|", None),
    ("EPRT", V4, b"EPRT |1|1.2.3.4|0|", None),
    ("EPRT", V4, b"EPRT |1|1.2.3.4||", None),
    ("EPRT", V4, b"EPRT |1|1.2.3.4|65536|", None),
    ("EPRT", V4, b"EPRT |1|1.2.3.4:|7|", None),
    ("EPRT", V4, b"EPRT |1|1.2.3|7|", None),
    ("EPRT", V4, b"EPRT |1x1.2.3.4|7|", None),
    ("EPRT", V4, b"EPRT |||7|", None),
    ("EPRT", V4, b"EPRT |", None),
    ("EPRT", V4, b"EPRT |1", None),
    ("EPRT", V4, b"EPRT \x801\x801.2.3.4\x807\x80", None),
    ("EPRT", V4, b"EPRT \x001\x001.2.3.4\x007\x00", None),
    ("EPRT", V6, b"EPRT |2|fe80::1%eth0|7|", None),
    # 229: the address may be left out
    ("229", V4, b"229 Entering Extended Passive Mode (|||50106|)\r\n", (None, 50106)),
    ("229", V4, b"229 Entering Extended Passive Mode (!1!10.1.0.12!50001!)", ("10.1.0.12", 50001)),
    ("229", V6, b"229 ok (|2|2001:db8:1::5|50001|)", ("2001:db8:1::5", 50001)),
    ("229", V6, b"229 ok (|||50001|)", (None, 50001)),
    ("229", V4, b"229 x (|1|||50107|)", None),
    ("229", V4, b"229 x (|1||50107|)", None),
    ("229", V4, b"229 x |||50106|", None),
    ("229", V4, b"229 x (||50106|)", None),
    ("229", V4, b"229 x (|||50106", None),
    ("229", V4, b"229 x (||", None),
]


@pytest.mark.parametrize(("command", "af", "payload", "expected"), ADDRESSES, ids=lambda value: value.decode("latin-1") if isinstance(value, bytes) else None)
def test_announced(command: str, af: int, payload: bytes, expected: tuple[str | None, int] | None) -> None:
    found = where(announced(payload, FORMATS[command], af))
    assert found == (None if expected is None else (None if expected[0] is None else ip(expected[0]), expected[1]))


def test_the_text_that_is_replaced() -> None:
    reply = b"227 Entering Passive Mode (10,1,0,11,195,80)."
    found = announced(reply, FORMATS["227"], V4)
    assert found is not None and reply[found.start : found.end] == b"10,1,0,11,195,80"
    reply = b"229 Entering Extended Passive Mode (!1!10.1.0.12!50001!)"
    found = announced(reply, FORMATS["229"], V4)
    assert found is not None and reply[found.start : found.end] == b"!1!10.1.0.12!50001!"


HIT_UNCHANGED = (True, None)
NO_HIT = (False, None)
REQUESTS = [
    (V4, b"PASV\r\n", (True, FtpMode.PASV)),
    (V4, b"pasv\r\n", (True, FtpMode.PASV)),
    (V4, b"xpasv\r\n", (True, FtpMode.PASV)),
    (V4, b"PORT 172,16,0,5,1,1\r\nPASV\r\n", (True, FtpMode.PASV)),
    (V4, b"PASV\n", NO_HIT),
    (V4, b"PASV\r", NO_HIT),
    (V6, b"PASV\r\n", NO_HIT),
    (V4, b"EPSV\r\n", (True, FtpMode.EPSV)),
    (V4, b"EPSV\rx", (True, FtpMode.EPSV)),
    (V4, b"EPSV 1\r", (True, FtpMode.EPSV)),
    (V4, b"epsv 1\r\n", (True, FtpMode.EPSV)),
    (V6, b"EPSV 2\r\n", (True, FtpMode.EPSV)),
    (V6, b"EPSV\r\n", (True, FtpMode.EPSV)),
    (V4, b"EPSV 2\r\n", HIT_UNCHANGED),
    (V6, b"EPSV 1\r\n", HIT_UNCHANGED),
    (V4, b"EPSV ALL\r\n", HIT_UNCHANGED),
    (V4, b"EPSV 1\n", HIT_UNCHANGED),
    (V4, b"EPSV 1", HIT_UNCHANGED),
    (V4, b"EPSV \r", HIT_UNCHANGED),
    (V4, b"EPSV\r", NO_HIT),
    (V4, b"EPSV\n\n", NO_HIT),
    (V4, b"EPSV ALL\r\nPASV\r\n", HIT_UNCHANGED),
    (V4, b"EPSVx\r\n", NO_HIT),
    (V4, b"", NO_HIT),
]


@pytest.mark.parametrize(("af", "payload", "expected"), REQUESTS)
def test_passive_request(af: int, payload: bytes, expected: tuple[bool, FtpMode | None]) -> None:
    assert passive_request(payload, af) == expected


@given(st.ip_addresses(v=4), st.sampled_from(["|", ":", "\0", ""]))
def test_in4_pton_reads_what_is_usual(address: ipaddress.IPv4Address, ending: str) -> None:
    assert in4_pton(f"{address}{ending}7".encode() if ending else str(address).encode(), 0, BAR) == (int(address), len(str(address)))


@pytest.mark.parametrize("text", [b"1.2.3|", b"1.2.3.4.5|", b"1..2.3|", b".1.2.3|", b"1.2.3.|", b"256.1.1.1|", b"1.2.3.4 |", b"1.2.3.a|", b"|", b""])
def test_in4_pton_refuses(text: bytes) -> None:
    assert in4_pton(text, 0, BAR) is None


@given(st.ip_addresses(v=6), st.booleans())
def test_in6_pton_reads_what_is_usual(address: ipaddress.IPv6Address, exploded: bool) -> None:
    text = address.exploded if exploded else str(address)
    assert in6_pton(text.encode() + b"|", 0, BAR) == (int(address), len(text))


# Sequences of tokens that are nearly addresses: an independent reading with the standard library, which knows no leading zeros beyond four digits.
TOKENS = st.sampled_from(["0", "1", "ff", "2001", "ffff", ":", "::", "1.2.3.4", "."])


@given(st.lists(TOKENS, max_size=17).map("".join))
def test_in6_pton_agrees_with_the_standard_library(text: str) -> None:
    try:
        expected = int(ipaddress.IPv6Address(text))
    except ValueError:
        expected = None
    longest = max((len(group) for group in text.split(":") if "." not in group), default=0)
    found = in6_pton(text.encode() + b"|", 0, BAR)
    if longest <= 4 and "0." not in text and ".0" not in text:
        assert (found[0] if found is not None and found[1] == len(text) else None) == expected


@pytest.mark.parametrize(
    "text",
    [b":1::|", b"1:|", b"1::2:|", b":::|", b"1::2::3|", b"12345::|", b"1:2:3:4:5:6:7|", b"1:2:3:4:5:6:7:8:9|", b"1:2:3:4::5:6:7:8|", b"1.2.3.4|", b"::1%e|", b"|", b""],
)
def test_in6_pton_refuses(text: bytes) -> None:
    assert in6_pton(text, 0, BAR) is None


def test_in6_pton_ends_at_nul_too() -> None:
    assert in6_pton(b"::1\0|", 0, BAR) == (1, 3)


def test_in6_pton_with_a_colon_as_delimiter_has_no_address() -> None:
    assert in6_pton(b"::1:", 0, ord(":")) is None
