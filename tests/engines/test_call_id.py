"""Where the Call-ID of a SIP message is found (spec/60 section 9.2, every row and every rule)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.engines.call_id import WORD, call_id, find_header

START = b"INVITE sip:a@b SIP/2.0\r\n"
LONG = b"x" * 255

FOUND = [
    ("ordinary", START + b"Call-ID: abc@host.example\r\n", b"abc@host.example"),
    ("compact form", START + b"i: xyz\r\n", b"xyz"),
    ("compact form without blank", START + b"i:xyz\r\n", b"xyz"),
    ("compact form in capitals", START + b"I: xyz\r\n", b"xyz"),
    ("value on a continuation line", START + b"CALL-ID:\r\n  xyz\r\n", b"xyz"),
    ("tab before the colon", START + b"Call-ID\t: xyz\r\n", b"xyz"),
    ("LF line ends", b"INVITE x\nCall-ID: xyz\n", b"xyz"),
    ("CR line ends", b"INVITE x\rCall-ID: xyz\r", b"xyz"),
    ("unreadable value first", START + b"Call-ID: @bad\r\nCall-ID: xyz\r\n", b"xyz"),
    ("in the body", b"INVITE x\r\nVia: y\r\n\r\nCall-ID: xyz\r\n", b"xyz"),
    ("255 bytes", START + b"Call-ID: " + LONG + b"\r\n", LONG),
    ("all characters of a word", START + b'i: aZ9!"%()*+-./:<>?[\\]_\'{}~`\xe9\r\n', b'aZ9!"%()*+-./:<>?[\\]_\'{}~`\xe9'),
    ("a continuation line that looks like the header is passed over", START + b"Via: y\r\n Call-ID: bad\r\nCall-ID: xyz\r\n", b"xyz"),
    ("case of the value is kept", START + b"cAlL-iD: XyZ\r\n", b"XyZ"),
]

REFUSED = [
    ("empty", b""),
    ("first line is never examined", b"Call-ID: xyz\r\n"),
    ("trailing blank", START + b"Call-ID: xyz \r\n"),
    ("parameter", START + b"Call-ID: xyz;a=b\r\n"),
    ("another header name ends the search", START + b"Call-IDX: bad\r\nCall-ID: xyz\r\n"),
    ("a line i= ends the search", START + b"i=bad\r\nCall-ID: xyz\r\n"),
    ("nothing behind the at sign", START + b"Call-ID: xyz@\r\n"),
    ("second at sign", START + b"Call-ID: a@b@c\r\n"),
    ("comma", START + b"Call-ID: a,b\r\n"),
    ("payload ends behind the value", START + b"Call-ID: xyz"),
    ("payload ends behind the colon", START + b"Call-ID:"),
    ("payload ends behind the name", START + b"Call-ID"),
    ("payload ends behind the compact name", START + b"i"),
    ("payload ends with blanks", START + b"Call-ID:  "),
    ("value empty, next line is no continuation", START + b"Call-ID:\r\nVia: y\r\n"),
    ("line behind a blank line with bare LF", b"INVITE x\nVia: y\n\nCall-ID: xyz\n"),
    ("256 bytes", START + b"Call-ID: " + LONG + b"x\r\n"),
    ("two continuation lines", START + b"Call-ID:\r\n \r\n xyz\r\n"),
    ("a multiplication sign is no letter", START + b"Call-ID: \xd7\r\n"),
    ("no header", START + b"Via: y\r\n\r\n"),
    ("payload ends with a newline", START),
]


@pytest.mark.parametrize(("payload", "value"), [row[1:] for row in FOUND], ids=[row[0] for row in FOUND])
def test_found(payload: bytes, value: bytes) -> None:
    assert call_id(payload) == value


@pytest.mark.parametrize("payload", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused(payload: bytes) -> None:
    assert call_id(payload) is None


def test_an_unreadable_value_is_reported_with_its_position() -> None:
    assert find_header(START + b"i: @bad\r\n", 0) == (len(START) + 3, 0)


def test_after_a_second_unreadable_value_the_search_jumps() -> None:
    first, second = b"i: @\r\n", b"i: @\r\n"
    # The second search begins at the first value (25 + 2) and finds the value at 33; the third would begin at 27 + 33 = 60.
    payload = START + first + second + b"i: missed\r\n" + b"-" * 20 + b"\r\ni: xyz\r\n"
    assert call_id(payload) == b"xyz"


@given(st.lists(st.sampled_from([b"\r", b"\n", b" ", b"\t", b":", b"i", b"Call-ID", b"@", b"x", b",", b"\0", b"\xff"]), max_size=24).map(b"".join))
def test_any_bytes_give_a_proper_value_or_none(payload: bytes) -> None:
    value = call_id(payload)
    assert value is None or (1 <= len(value) <= 255 and payload.count(value) and set(value) <= WORD | {0x40})
