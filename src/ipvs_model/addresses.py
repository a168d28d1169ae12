"""Addresses and endpoints: what people write, and the plain ints used inside.

An address is an int (IPv4 32 bit, IPv6 128 bit, host order); an endpoint is ``address << 16 | port``.
"""

from __future__ import annotations

import ipaddress
from typing import Final, TypeAlias

from ipvs_model.flags import AF_INET, AF_INET6

AddressLike: TypeAlias = "str | int | ipaddress.IPv4Address | ipaddress.IPv6Address"
EndpointLike: TypeAlias = "str | ipaddress.IPv4Address | ipaddress.IPv6Address | tuple[AddressLike, int]"

ADDRESS_BITS: Final = {AF_INET: 32, AF_INET6: 128}


def parse_addr(value: AddressLike) -> tuple[int, int]:
    """Family and int of an address; an int below 2**32 is IPv4. Raises ValueError; TypeError for what is no address at all.

    >>> parse_addr("10.0.0.1")
    (2, 167772161)
    """
    if isinstance(value, int):
        if not 0 <= value < 1 << 128:
            raise ValueError(f"address out of range: {value}")
        return (AF_INET if value < 1 << 32 else AF_INET6), value
    address = ipaddress.ip_address(value) if isinstance(value, str) else value
    if not isinstance(address, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        raise TypeError(f"not an address: {value!r}")
    return (AF_INET if address.version == 4 else AF_INET6), int(address)


def parse_endpoint(value: EndpointLike, default_port: int = 0) -> tuple[int, int, int]:
    """Family, address and port of "a.b.c.d:port", "[v6]:port", an address alone, or a pair. Raises ValueError.

    >>> parse_endpoint("[2001:db8::1]:80") == (10, int(ipaddress.ip_address("2001:db8::1")), 80)
    True
    """
    port = default_port
    host: AddressLike
    if isinstance(value, tuple):
        host, port = value
    elif isinstance(value, str):
        host = value
        if value.startswith("["):
            inner, bracket, rest = value[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError(f"not an endpoint: {value!r}")
            host = inner
            port = _port(rest[1:], value) if rest else default_port
        elif value.count(":") == 1:
            host, _, text = value.partition(":")
            port = _port(text, value)
    else:
        host = value
    if not 0 <= port <= 0xFFFF:
        raise ValueError(f"port out of range: {port}")
    af, addr = parse_addr(host)
    return af, addr, port


def _port(text: str, whole: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"not an endpoint: {whole!r}")
    return int(text)


def format_addr(af: int, addr: int) -> str:
    """An address in its usual text form.

    >>> format_addr(2, 0x0a000001)
    '10.0.0.1'
    """
    if af == AF_INET:
        return f"{addr >> 24}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"
    return str(ipaddress.IPv6Address(addr))


def format_endpoint(af: int, endpoint: int) -> str:
    """An endpoint in its usual text form.

    >>> format_endpoint(2, 0x0a000001 << 16 | 80)
    '10.0.0.1:80'
    """
    text = format_addr(af, endpoint >> 16)
    return f"{text}:{endpoint & 0xFFFF}" if af == AF_INET else f"[{text}]:{endpoint & 0xFFFF}"
