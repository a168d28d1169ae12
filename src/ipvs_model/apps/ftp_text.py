"""What the FTP helper reads in a segment: PASV and EPSV requests, and the addresses in PORT, EPRT, 227 and 229.

Pure functions over the payload of one segment; there is no reassembly. Letters are compared without case, as ASCII.
A command or reply that does not parse is simply not seen: nothing here raises.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

from attrs import frozen

from ipvs_model.flags import AF_INET, AF_INET6


class FtpMode(IntEnum):
    """What a control connection waits for: its ``app_data`` (source: ip_vs_ftp.c)."""

    ACTIVE = 0  #: nothing expected
    PASV = 1  #: PASV seen, a 227 reply is expected
    EPRT = 2  #: named, never stored
    EPSV = 3  #: EPSV seen, a 229 reply is expected


@frozen
class Format:
    """How an address is announced by one command or reply."""

    pattern: bytes  #: the payload starts with it
    filler: int  #: the character before the address
    extended: bool  #: RFC 2428 (delimiters) or six numbers separated by commas
    may_omit_address: bool = False  #: ``|||port|`` is allowed


#: command or reply → its form
FORMATS: Final = {
    "PORT": Format(b"PORT", ord(" "), extended=False),
    "EPRT": Format(b"EPRT", ord(" "), extended=True),
    "227": Format(b"227 ", ord("("), extended=False),
    "229": Format(b"229 ", ord("("), extended=True, may_omit_address=True),
}

#: the number that names an address family in RFC 2428
FAMILY_DIGIT: Final = {AF_INET: ord("1"), AF_INET6: ord("2")}


@frozen
class Announcement:
    """An address and port found in a payload, and where its text stands: ``payload[start:end]``."""

    address: int | None  #: host order; None when the text leaves it out
    port: int
    start: int
    end: int


_COMMA: Final = ord(",")
_CR: Final = ord("\r")
_PASV_OR_EPSV: Final = {
    AF_INET: re.compile(rb"(?i:PASV)\r\n|(?i:EPSV)[ \r]"),
    AF_INET6: re.compile(rb"(?i:EPSV)[ \r]"),
}


def passive_request(payload: bytes, af: int) -> tuple[bool, FtpMode | None]:
    """Look for PASV or EPSV anywhere in a request, even inside another word; the first by position wins.

    Returns (found, mode). A hit ends the search for PORT and EPRT; its mode is None where the mode stays as it is (``EPSV ALL``, the other family).
    source: ip_vs_ftp.c, ip_vs_ftp_in

    >>> passive_request(b"xpasv\\r\\n", AF_INET)
    (True, <FtpMode.PASV: 1>)
    """
    found = _PASV_OR_EPSV[af].search(payload)
    if found is None or found.start() + 6 > len(payload):
        return False, None
    at = found.start()
    if payload[at] in b"Pp":
        return True, FtpMode.PASV
    if payload[at + 4] == _CR:
        return True, FtpMode.EPSV
    closed = payload[at + 6 : at + 7] == b"\r"
    return True, FtpMode.EPSV if closed and payload[at + 5] == FAMILY_DIGIT[af] else None


def announced(payload: bytes, form: Format, af: int) -> Announcement | None:
    """The address and port that a payload announces in the given form, or None (source: ip_vs_ftp.c, ip_vs_ftp_get_addrport).

    >>> announced(b"227 Entering Passive Mode (10,1,0,11,195,80).", FORMATS["227"], AF_INET)
    Announcement(address=167837707, port=50000, start=27, end=43)
    """
    length = len(form.pattern)
    if len(payload) < length or payload[:length].upper() != form.pattern.upper():
        return None
    start = _skip_filler(payload, length, form)
    if start is None:
        return None
    return _extended(payload, start, form, af) if form.extended else _six_numbers(payload, start)


def _is_digit(char: int) -> bool:
    return 0x30 <= char <= 0x39


def _skip_filler(payload: bytes, pos: int, form: Format) -> int | None:
    """Where the address begins: behind the first run of fillers; the old format also begins at a digit before any filler."""
    filler_seen = False
    for at in range(pos, len(payload)):
        char = payload[at]
        if char == form.filler:
            filler_seen = True
        elif filler_seen or (not form.extended and _is_digit(char)):
            return at
    return None


def _six_numbers(payload: bytes, start: int) -> Announcement | None:
    numbers = [0]
    for end in range(start, len(payload)):
        char = payload[end]
        if _is_digit(char):
            numbers[-1] = numbers[-1] * 10 + char - 0x30
            if numbers[-1] > 255:
                return None
        elif char == _COMMA and len(numbers) < 6:
            numbers.append(0)
        else:
            break
    else:
        return None  # a character must stand behind the last number
    if len(numbers) != 6:
        return None
    a, b, c, d, high, low = numbers
    return Announcement(a << 24 | b << 16 | c << 8 | d, high << 8 | low, start, end)


def _extended(payload: bytes, start: int, form: Format, af: int) -> Announcement | None:
    delimiter = payload[start]
    if not 33 <= delimiter <= 126 or start + 1 >= len(payload):
        return None
    address: int | None = None
    if payload[start + 1] == delimiter:
        if not form.may_omit_address or payload[start + 2 : start + 3] != bytes((delimiter,)):
            return None
        pos = start + 3
    else:
        if payload[start + 1] != FAMILY_DIGIT[af] or payload[start + 2 : start + 3] != bytes((delimiter,)):
            return None
        parse = in4_pton if af == AF_INET else in6_pton
        parsed = parse(payload, start + 3, delimiter)
        if parsed is None:
            return None
        address, pos = parsed
        if payload[pos : pos + 1] != bytes((delimiter,)):
            return None
        pos += 1
    port = 0
    while pos < len(payload) and _is_digit(payload[pos]):
        port = port * 10 + payload[pos] - 0x30
        if port > 0xFFFF:
            return None
        pos += 1
    if port == 0 or payload[pos : pos + 1] != bytes((delimiter,)):
        return None
    return Announcement(address, port, start, pos + 1)


def in4_pton(text: bytes, pos: int, delimiter: int) -> tuple[int, int] | None:
    """A dotted IPv4 address at `pos`: (address, position of the character that ends it) or None (source: net/core/utils.c, in4_pton).

    The delimiter, a colon, NUL or the end of the text ends it. Numbers are decimal, leading zeros are fine.

    >>> in4_pton(b"172.016.0.05|", 0, ord("|"))
    (2886729733, 12)
    """
    parts: list[int] = []
    value = -1  # no digit yet
    while True:
        char = text[pos] if pos < len(text) else 0
        ends = char in (delimiter, 0, 0x3A)
        if ends or char == 0x2E:
            if value < 0:
                return None
            parts.append(value)
            value = -1
            if ends:
                return (parts[0] << 24 | parts[1] << 16 | parts[2] << 8 | parts[3], pos) if len(parts) == 4 else None
            if len(parts) == 4:
                return None
        elif _is_digit(char):
            value = max(value, 0) * 10 + char - 0x30
            if value > 255:
                return None
        else:
            return None
        pos += 1


def in6_pton(text: bytes, pos: int, delimiter: int) -> tuple[int, int] | None:
    """An IPv6 address at `pos`: (address, position of the character that ends it) or None (source: net/core/utils.c, in6_pton).

    The delimiter, NUL or the end of the text ends it. One ``::``, groups of up to four significant digits, an optional dotted tail; no zone.

    >>> in6_pton(b"2001:db8::1|", 0, ord("|")) == (0x20010db8000000000000000000000001, 11)
    True
    """
    groups: list[int] = []
    gap: int | None = None  # how many groups stand before "::"
    if text[pos : pos + 1] == b":" != bytes((delimiter,)):
        if text[pos + 1 : pos + 2] != b":":
            return None
        gap = 0
        pos += 2
    while True:
        begin = pos
        value = 0
        while pos < len(text) and text[pos] != delimiter and text[pos] in b"0123456789abcdefABCDEF":
            value = value << 4 | int(text[pos : pos + 1], 16)
            if value > 0xFFFF:
                return None
            pos += 1
        char = text[pos] if pos < len(text) else 0
        if char == 0x2E and char != delimiter:
            tail = in4_pton(text, begin, delimiter) if pos > begin and (groups or gap is not None) else None
            if tail is None:
                return None
            groups += divmod(tail[0], 1 << 16)
            pos = tail[1]
            break
        if pos > begin:
            groups.append(value)
        elif gap != len(groups):
            return None  # an empty group stands only behind "::"
        if char in (delimiter, 0):
            break
        if char != 0x3A or pos == begin or len(groups) == 8:
            return None
        pos += 1
        if text[pos : pos + 1] == b":" != bytes((delimiter,)):
            if gap is not None:
                return None
            gap = len(groups)
            pos += 1
    if gap is None:
        missing = 0
    else:
        missing = 8 - len(groups)
        groups[gap:gap] = [0] * missing
    if len(groups) != 8 or (gap is not None and missing == 0):
        return None
    address = 0
    for group in groups:
        address = address << 16 | group
    return address, pos
