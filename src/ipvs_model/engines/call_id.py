"""Finding the Call-ID in a SIP message, exactly as the kernel's tracker for SIP reads headers.

Pure functions over the payload of one datagram. The search knows one header only and has its own ideas of lines: the first line is never examined,
a blank line does not end the headers, and one unlucky line ends the search for the whole message (`find_header` lists the steps).
source: ip_vs_pe_sip.c, get_callid; net/netfilter/nf_conntrack_sip.c, ct_sip_get_header
"""

from __future__ import annotations

from typing import Final

NAME: Final = b"call-id"  #: compared without case
COMPACT_NAME: Final = b"i"
IP_VS_PEDATA_MAXLEN: Final = 255  #: bytes of a Call-ID at most

_CR: Final = 0x0D
_LF: Final = 0x0A
_BLANK: Final = frozenset(b" \t")
_NEWLINE: Final = frozenset(b"\r\n")
#: letters as the kernel's isalpha sees bytes: ASCII and Latin-1
LETTERS: Final = frozenset([*range(0x41, 0x5B), *range(0x61, 0x7B), *range(192, 256)]) - {215, 247}
#: characters of a word: letters, digits and these
WORD: Final = LETTERS | frozenset(b"0123456789" + b"!\"%()*+-./:<>?[\\]_'{}~`")


def call_id(payload: bytes) -> bytes | None:
    """The Call-ID of a SIP message, byte for byte, or None where the kernel refuses the message (source: ip_vs_pe_sip.c, get_callid).

    The value has 1 to 255 bytes and must be followed by CR or LF.

    >>> call_id(b"INVITE sip:a@b SIP/2.0\\r\\nCall-ID: abc@host.example\\r\\n")
    b'abc@host.example'
    """
    offset = 0
    while True:
        found = find_header(payload, offset)
        if found is None:
            return None
        start, end = found
        if end:
            break
        # A value that cannot be read: the search goes on at this sum, not at the value, so it may jump over headers.
        offset += start
    if end - start > IP_VS_PEDATA_MAXLEN or payload[end : end + 1] not in (b"\r", b"\n"):
        return None
    return payload[start:end]


def find_header(payload: bytes, offset: int) -> tuple[int, int] | None:
    """The next Call-ID value: (start, end), or (start, 0) if a value stands there that cannot be read, or None if there is no header.

    source: nf_conntrack_sip.c, ct_sip_get_header
    """
    size = len(payload)
    p = offset
    while p < size:
        if payload[p] not in _NEWLINE:
            p += 1
            continue
        p = _after_newline(payload, p)
        if p >= size:
            return None
        if payload[p] in _BLANK:  # a continuation line
            p += 1
            continue
        behind = _after_name(payload, p)
        if behind is None:
            p += 1  # the first byte of a line is never taken for a newline
            continue
        colon = skip_blanks(payload, behind)
        if colon is None or payload[colon] != 0x3A or colon + 1 >= size:
            return None  # "Call-IDX:" or "i=" ends the search for the whole message
        start = skip_blanks(payload, colon + 1)
        return None if start is None else (start, _value_end(payload, start))
    return None


def skip_blanks(payload: bytes, p: int) -> int | None:
    """Past blanks, and past one line end if the next line is a continuation; None if nothing is left (source: sip_skip_whitespace)."""
    p = _skip(payload, p, _BLANK)
    if p < len(payload) and payload[p] in _NEWLINE:
        p = _after_newline(payload, p)
        if p >= len(payload) or payload[p] not in _BLANK:
            return None
        p = _skip(payload, p, _BLANK)
    return p if p < len(payload) else None


def _skip(payload: bytes, p: int, chars: frozenset[int]) -> int:
    while p < len(payload) and payload[p] in chars:
        p += 1
    return p


def _after_newline(payload: bytes, p: int) -> int:
    """Past the CR, LF or CR LF at p."""
    if payload[p] == _CR and payload[p + 1 : p + 2] == b"\n":
        return p + 2
    return p + 1


def _after_name(payload: bytes, p: int) -> int | None:
    """Past the header's name if the line at p starts with it."""
    if payload[p : p + len(NAME)].lower() == NAME:
        return p + len(NAME)
    if payload[p : p + 1].lower() == COMPACT_NAME and p + 1 < len(payload) and payload[p + 1] not in LETTERS:
        return p + 1
    return None


def _value_end(payload: bytes, start: int) -> int:
    """Behind word or word@word; 0 if there is no such value (source: nf_conntrack_sip.c, callid_len)."""
    end = _skip(payload, start, WORD)
    if end == start:
        return 0
    if payload[end : end + 1] == b"@":
        second = _skip(payload, end + 1, WORD)
        return 0 if second == end + 1 else second
    return end
