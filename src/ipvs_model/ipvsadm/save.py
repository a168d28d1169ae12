"""Save and restore: services as command lines, and command lines out of standard input.

What a save loses: thresholds, marks of 2**31 and more (written negative, refused at restore), timeouts, daemons.

source: ipvsadm.c, print_service_and_dests; config_stream.c, config_stream_read
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from ipvs_model import flags as F
from ipvs_model.control import DestEntry, ServiceEntry
from ipvs_model.ipvsadm.grammar import PROGRAM, SCHED_FLAG_BITS, TUNNEL_FLAGS, sched_flag_names
from ipvs_model.ipvsadm.listing import TUNNEL_NAMES, dest_name, netmask_text, signed32
from ipvs_model.ipvsadm.names import Resolver, address_name

#: an unknown protocol, which only a control call can have made, is written so that a restore refuses it
SERVICE_OPTIONS: Final = {F.IPPROTO_TCP: "-t", F.IPPROTO_UDP: "-u", F.IPPROTO_SCTP: "--sctp-service"}
METHOD_OPTIONS: Final = {F.IP_VS_CONN_F_MASQ: "-m", F.IP_VS_CONN_F_TUNNEL: "-i"}  #: all others: -g
FLAG_OPTIONS: Final = {flag: f" --{name}" for name, flag in TUNNEL_FLAGS.items()}

WORD_MAX: Final = 4096  #: characters of a word that are read
_WORD: Final = re.compile("[^ \t\r]+")
_LOST: Final = re.compile("[ \t\r]{2}\\Z")


def _service(entry: ServiceEntry, resolver: Resolver | None) -> str:
    """The options that name a service."""
    if entry.fwmark:
        return f"-f {signed32(entry.fwmark)}" + (" -6" if entry.af == F.AF_INET6 else "")
    return f"{SERVICE_OPTIONS.get(entry.protocol, '?')} {address_name(entry.af, entry.addr, entry.port, entry.protocol, resolver)}"


def _tunnel(dest: DestEntry) -> str:
    """The options of a tunnel."""
    text = f" --tun-type {TUNNEL_NAMES[dest.tun_type]}"
    if dest.tun_type == F.IP_VS_CONN_F_TUNNEL_TYPE_GUE:
        text += f" --tun-port {dest.tun_port}"
    return text if dest.tun_type == F.IP_VS_CONN_F_TUNNEL_TYPE_IPIP else text + FLAG_OPTIONS.get(dest.tun_flags, "")


def saved_lines(entry: ServiceEntry, dests: Iterable[DestEntry], resolver: Resolver | None) -> Iterator[str]:
    """A service and its destinations, in the order given, as command lines; ``resolver`` None: numeric."""
    service = _service(entry, resolver)
    line = f"-A {service} -s {entry.sched_name}"
    if entry.flags & F.IP_VS_SVC_F_PERSISTENT:
        line += f" -p {entry.timeout}"
        mask = netmask_text(entry)
        if mask is not None:
            line += f" -M {mask}"
    if entry.pe_name:
        line += f" --pe {entry.pe_name}"
    if entry.flags & F.IP_VS_SVC_F_ONEPACKET:
        line += " -o"
    if entry.flags & SCHED_FLAG_BITS:
        line += f" -b {','.join(sched_flag_names(entry.sched_name, entry.flags))}"
    yield line
    for dest in dests:
        tunnel = _tunnel(dest) if dest.conn_flags == F.IP_VS_CONN_F_TUNNEL else ""
        yield f"-a {service} -r {dest_name(entry, dest, resolver)} {METHOD_OPTIONS.get(dest.conn_flags, '-g')} -w {dest.weight}{tunnel}"


def restored_lines(text: str) -> Iterator[list[str]]:
    """The words of each line that has any: no quoting, no comments, "ipvsadm" dropped wherever it stands, words cut at 4096 characters.

    A last line without newline that ends with two or more blanks is lost.

    >>> list(restored_lines("ipvsadm -C\\n\\n  -A -t ipvsadm 10.0.0.1:80\\n-L  "))
    [['-C'], ['-A', '-t', '10.0.0.1:80']]
    """
    *lines, last = text.split("\n")
    if not _LOST.search(last):
        lines.append(last)
    for line in lines:
        words = [word[:WORD_MAX] for word in _WORD.findall(line)]
        words = [word for word in words if word != PROGRAM]
        if words:
            yield words
