"""Addresses, ports and numbers as words, read and written the way the C library does it, and the names that stand for them.

source: ipvsadm.c, parse_service, addr_to_anyname, addrport_to_anyname, string_to_number; inet_aton, inet_pton, inet_ntop of the C library
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final, Protocol

from attrs import field, frozen

from ipvs_model.flags import AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP
from ipvs_model.ipvsadm.grammar import PORT, Range

NAME_MAX: Final = 59  #: characters of an address with its port

TCP: Final = (IPPROTO_TCP,)
UDP: Final = (IPPROTO_UDP,)
#: well-known services: name, port, protocols; the first name of a port is the one that listings show
SERVICES: Final = (
    ("ftp-data", 20, TCP),
    ("ftp", 21, TCP),
    ("ssh", 22, TCP),
    ("telnet", 23, TCP),
    ("smtp", 25, TCP),
    ("domain", 53, TCP + UDP),
    ("tftp", 69, UDP),
    ("http", 80, TCP),
    ("www", 80, TCP),
    ("kerberos", 88, TCP + UDP),
    ("pop3", 110, TCP),
    ("ntp", 123, UDP),
    ("imap2", 143, TCP),
    ("imap", 143, TCP),
    ("snmp", 161, TCP + UDP),
    ("ldap", 389, TCP + UDP),
    ("https", 443, TCP + UDP),
    ("submission", 587, TCP),
    ("ldaps", 636, TCP + UDP),
    ("imaps", 993, TCP),
    ("pop3s", 995, TCP),
    ("radius", 1812, TCP + UDP),
    ("mysql", 3306, TCP),
    ("sip", 5060, TCP + UDP),
    ("sip-tls", 5061, TCP + UDP),
    ("postgresql", 5432, TCP),
    ("http-alt", 8080, TCP + UDP),
)


class Resolver(Protocol):
    """Where names come from: the hosts and services databases of the machine. None: there is no such name or number."""

    def host_address(self, name: str) -> int | None:
        """The IPv4 address of a host."""

    def host_name(self, af: int, addr: int) -> str | None:
        """The name of an address."""

    def service_port(self, name: str, protocol: int) -> int | None:
        """The port of a service."""

    def service_name(self, port: int, protocol: int) -> str | None:
        """The name of a port."""


@frozen
class TableResolver:
    """Names out of tables: the well-known services of `SERVICES` unless others are given, and the ``hosts`` given, name → (family, address)."""

    hosts: Mapping[str, tuple[int, int]] = field(factory=dict)
    services: tuple[tuple[str, int, tuple[int, ...]], ...] = SERVICES

    def host_address(self, name: str) -> int | None:
        """The IPv4 address of a host, None for a host that is not in the table or has an IPv6 address."""
        af, addr = self.hosts.get(name, (0, 0))
        return addr if af == AF_INET else None

    def host_name(self, af: int, addr: int) -> str | None:
        """The first name with this address."""
        return next((name for name, address in self.hosts.items() if address == (af, addr)), None)

    def service_port(self, name: str, protocol: int) -> int | None:
        """The port of a service."""
        return next((port for known, port, protocols in self.services if known == name and protocol in protocols), None)

    def service_name(self, port: int, protocol: int) -> str | None:
        """The first name of a port."""
        return next((name for name, known, protocols in self.services if known == port and protocol in protocols), None)


# --- reading ----------------------------------------------------------------------------------------------------------
_SPACE: Final = r"[ \t\n\v\f\r]*"
_DECIMAL: Final = re.compile(_SPACE + r"([+-]?)([0-9]+)", re.ASCII)
_PART: Final = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+", re.ASCII)


def _int(digits: str, base: int = 10) -> int:
    """A number of any length: Python refuses to convert some thousand digits, and no number here has more than twenty."""
    digits = digits.lstrip("0") or "0"
    return int(digits, base) if len(digits) <= 20 else 1 << 80


def number(text: str, allowed: Range) -> int | None:
    """A decimal number that is the whole word (white space and a sign may stand in front), None for others (source: ipvsadm.c, string_to_number).

    >>> number(" +80", PORT), number("1x", PORT), number("65536", PORT)
    (80, None, None)
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return None
    value = _signed(match)
    return value if allowed.least <= value <= allowed.most else None


def _signed(match: re.Match[str]) -> int:
    value = _int(match[2])
    return -value if match[1] == "-" else value


def leading_number(text: str) -> int:
    """The number at the beginning of a word, 0 if there is none; clipped to 64 bits, of which the low 32 count (source: atoi).

    >>> leading_number("64x"), leading_number("x64"), leading_number("4294967360")
    (64, 0, 64)
    """
    match = _DECIMAL.match(text)
    value = max(-(1 << 63), min(_signed(match), (1 << 63) - 1)) if match is not None else 0
    return (value + (1 << 31) & 0xFFFFFFFF) - (1 << 31)


def inet_aton(text: str) -> int | None:
    """An IPv4 address in one to four parts, decimal, octal or hexadecimal; the last part fills what is left.

    White space ends the word, whatever comes behind it.

    >>> [hex(inet_aton(text)) for text in ("1.2", "0x7f.1", "24", "010.0.0.1")], inet_aton("1.2.3.4.5")
    (['0x1000002', '0x7f000001', '0x18', '0x8000001'], None)
    """
    values = []
    place = 0
    while True:
        match = _PART.match(text, place)
        if match is None:
            return None
        digits = match[0]
        place = match.end()
        if digits[:2] in ("0x", "0X"):
            values.append(_int(digits[2:], 16))
        elif digits[0] == "0":
            octal = re.match("[0-7]+", digits)
            if octal is None or octal.end() < len(digits):
                return None
            values.append(_int(digits, 8))
        else:
            values.append(_int(digits))
        if text[place : place + 1] != ".":
            break
        place += 1
    if text[place : place + 1] not in ("", *" \t\n\v\f\r") or len(values) > 4:
        return None
    *head, last = values
    if any(value > 0xFF for value in head) or last >> (32 - 8 * len(head)):
        return None
    return sum(value << 24 - 8 * i for i, value in enumerate(head)) | last


def inet_pton(af: int, text: str) -> int | None:
    """An address in its strict form: IPv4 four decimal parts without leading zeros, IPv6 without a zone."""
    try:
        if af == AF_INET:
            return int(ipaddress.IPv4Address(text))
        return int(ipaddress.IPv6Address(text)) if "%" not in text else None
    except ValueError:
        return None


@frozen
class Address:
    """What `parse_service` has read; ``port`` None: the word has no port."""

    af: int
    addr: int
    port: int | None


def parse_service(text: str, protocol: int, resolver: Resolver) -> Address | None:
    """An address with or without port, None if it is neither; service names are those of the protocol.

    IPv6 needs no brackets: without them all of the word is the address.

    source: ipvsadm.c, parse_service
    """
    if not text.strip("0123456789"):
        return None
    port: str | None = None
    if text.startswith("["):
        text, bracket, behind = text[1:].partition("]")
        if not bracket or not behind.startswith(":"):
            return None
        port = behind[1:]
    addr = inet_pton(AF_INET6, text)
    af = AF_INET6
    if addr is None:
        # brackets around an IPv4 address cost it its port
        text, colon, behind = text.rpartition(":") if ":" in text else (text, "", "")
        port = behind if colon else None
        af = AF_INET
        addr = inet_aton(text)
        if addr is None:
            addr = resolver.host_address(text)
        if addr is None:
            return None
    if port is None:
        return Address(af, addr, None)
    value = number(port, PORT)
    if value is None:
        value = resolver.service_port(port, protocol)
    return Address(af, addr, value) if value is not None else None


# --- writing ----------------------------------------------------------------------------------------------------------
def inet_ntop(af: int, addr: int) -> str:
    """An address in the shortest text form; IPv6 addresses that hold an IPv4 one show it in dots, as the C library has it.

    >>> inet_ntop(2, 0x0a000001), inet_ntop(10, 0x20010db8 << 96 | 1), inet_ntop(10, 0xffff0a000001)
    ('10.0.0.1', '2001:db8::1', '::ffff:10.0.0.1')
    """
    if af == AF_INET:
        return str(ipaddress.IPv4Address(addr))
    if addr >> 32 == 0xFFFF or (addr >> 32 == 0 and addr >> 16):
        return ("::ffff:" if addr >> 32 else "::") + str(ipaddress.IPv4Address(addr & 0xFFFFFFFF))
    return ipaddress.IPv6Address(addr).compressed


def address_name(af: int, addr: int, port: int, protocol: int, resolver: Resolver | None) -> str:
    """An address with its port; numeric without a resolver or where it knows no name. Service names only with a protocol (0: none).

    source: ipvsadm.c, addrport_to_anyname
    """
    host = (resolver.host_name(af, addr) if resolver is not None else None) or inet_ntop(af, addr)
    service = (resolver.service_name(port, protocol) if resolver is not None and protocol else None) or str(port)
    return (f"{host}:{service}" if af == AF_INET else f"[{host}]:{service}")[:NAME_MAX]
