"""Listings of services, connections, timeouts and daemons.

source: ipvsadm.c, print_title, print_service_and_dests, print_largenum, print_conn, list_timeout, list_daemon
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen

from ipvs_model import flags as F
from ipvs_model.control import DestEntry, ServiceEntry
from ipvs_model.ipvsadm.grammar import SCHED_FLAG_BITS, TUNNEL_TYPES, Option, sched_flag_names
from ipvs_model.ipvsadm.names import Resolver, address_name, inet_ntop
from ipvs_model.sync.daemon import DaemonEntry

COUNTERS: Final = ("conns", "inpkts", "outpkts", "inbytes", "outbytes")
RATES: Final = ("cps", "inpps", "outpps", "inbps", "outbps")
#: formats that show nothing else of a service
SERVICE_FIELDS: Final[Mapping[Option | None, tuple[str, ...]]] = {Option.STATS: COUNTERS, Option.RATE: RATES}
#: of destinations these are read as 32-bit numbers
NARROW: Final = frozenset({"conns", "inpkts", "outpkts", *RATES})

SERVICE_WIDTH: Final = 33
DEST_WIDTH: Final = 28
TUNNEL_INFO_MAX: Final = 15

VERSION_LINE: Final = "IP Virtual Server version {major}.{minor}.{patch} (size={size})"
_PLAIN: Final = "Prot LocalAddress:Port Scheduler Flags"
_WIDE: Final = f"{'Prot LocalAddress:Port':<33}"
_SHORT: Final = "  -> RemoteAddress:Port"
#: format → the two lines of its title; None: the plain one. The order is that of precedence
TITLES: Final[Mapping[Option | None, tuple[str, str]]] = {
    Option.STATS: (_WIDE + "".join(f" {name:>8}" for name in ("Conns", "InPkts", "OutPkts", "InBytes", "OutBytes")), _SHORT),
    Option.RATE: (_WIDE + "".join(f" {name:>8}" for name in ("CPS", "InPPS", "OutPPS", "InBPS", "OutBPS")), _SHORT),
    Option.THRESHOLDS: (_WIDE + "".join(f" {name:<10}" for name in ("Uthreshold", "Lthreshold", "ActiveConn", "InActConn")), _SHORT),
    Option.PERSISTENTCONN: (_WIDE + f" {'Weight':<9} {'PersistConn':<11} {'ActiveConn':<10} {'InActConn':<10}", _SHORT),
    Option.TUN_INFO: (_PLAIN, f"{_SHORT}           Forward TunnelInfo    Weight ActiveConn InActConn"),
    None: (_PLAIN, f"{_SHORT}           Forward Weight ActiveConn InActConn"),
}

METHODS: Final = F.FWD_NAMES  #: the tool's names are those of /proc/net/ip_vs
TUNNEL_NAMES: Final = {number: name for name, number in TUNNEL_TYPES.items()}
TUNNEL_FLAGS: Final = {F.IP_VS_TUNNEL_ENCAP_FLAG_NOCSUM: "-c", F.IP_VS_TUNNEL_ENCAP_FLAG_CSUM: "+c", F.IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM: "r+c"}

CONN_TITLE: Final = ("IPVS connection entries", f"pro expire {'state':<11} {'source':<18} {'virtual':<18} destination")
CONN_TITLE_PE: Final = ("IPVS connection entries", f"pro expire {'state':<11} {'source':<18} {'virtual':<18} {'destination':<18} {'pe name':<16} pe_data")
TIMEOUT: Final = "Timeout (tcp tcpfin udp): {} {} {}"
DAEMON_STATES: Final = {F.IP_VS_STATE_MASTER: "master", F.IP_VS_STATE_BACKUP: "backup"}

#: below the first number: divided by the second, with a suffix
SCALES: Final = ((10**8, 1, ""), (10**9, 10**3, "K"), (10**11, 10**6, "M"), (10**14, 10**9, "G"), (1 << 64, 10**12, "T"))


@frozen
class Style:
    """How a listing is to look. ``format``: a key of `TITLES`; ``resolver`` None: numeric."""

    format: Option | None = None
    resolver: Resolver | None = None
    exact: bool = False

    @classmethod
    def of(cls, options: Iterable[Option], resolver: Resolver) -> Style:
        """What the options of a line ask for."""
        given = frozenset(options)
        wanted = next((option for option in TITLES if option in given), None)
        return cls(wanted, None if Option.NUMERIC in given else resolver, Option.EXACT in given)


def large_number(value: int, *, exact: bool = False) -> str:
    """A counter in nine columns, in thousands and so on where it would not fit (source: ipvsadm.c, print_largenum).

    >>> large_number(99999999), large_number(100000000), large_number((1 << 64) - 1), large_number(123456789, exact=True)
    (' 99999999', '  100000K', '18446744T', ' 123456789')
    """
    if exact:
        return f" {value:>8}"
    divisor, suffix = next((divisor, suffix) for limit, divisor, suffix in SCALES if value < limit)
    return f"{value // divisor:>{9 - len(suffix)}}{suffix}"


# --- services ---------------------------------------------------------------------------------------------------------
def signed32(value: int) -> int:
    """A mark as the program prints it.

    >>> signed32(4294967295)
    -1
    """
    return value - (value >> 31 << 32)


def service_name(entry: ServiceEntry, resolver: Resolver | None) -> str:
    """The first columns of a service's line."""
    if entry.fwmark:
        return f"FWM  {signed32(entry.fwmark)}" + (" IPv6" if entry.af == F.AF_INET6 else "")
    protocol = {F.IPPROTO_TCP: "TCP", F.IPPROTO_UDP: "UDP", F.IPPROTO_SCTP: "SCTP"}.get(entry.protocol, "?")
    name = f"{protocol:<4} {address_name(entry.af, entry.addr, entry.port, entry.protocol, resolver)}"
    return name[:SERVICE_WIDTH] if entry.af == F.AF_INET else name


def netmask_text(entry: ServiceEntry) -> str | None:
    """Mask or prefix length, None if it is the usual one."""
    if entry.af == F.AF_INET:
        return inet_ntop(entry.af, entry.netmask) if entry.netmask != 0xFFFFFFFF else None
    return str(entry.netmask) if entry.netmask != 128 else None


def _service_flags(entry: ServiceEntry) -> str:
    text = ""
    if entry.flags & SCHED_FLAG_BITS:
        text += f" ({','.join(sched_flag_names(entry.sched_name, entry.flags))})"
    if entry.flags & F.IP_VS_SVC_F_PERSISTENT:
        text += f" persistent {entry.timeout}"
        mask = netmask_text(entry)
        if mask is not None:
            text += f" mask {mask}"
        if entry.pe_name:
            text += f" pe {entry.pe_name}"
    if entry.flags & F.IP_VS_SVC_F_ONEPACKET:
        text += " ops"
    return text


def _service_line(entry: ServiceEntry, style: Style) -> str:
    name = service_name(entry, style.resolver)
    fields = SERVICE_FIELDS.get(style.format)
    if fields is not None:
        return f"{name:<33}" + "".join(large_number(getattr(entry.stats, field), exact=style.exact) for field in fields)
    return f"{name} {entry.sched_name}{_service_flags(entry)}"


# --- destinations -----------------------------------------------------------------------------------------------------
def tunnel_info(dest: DestEntry) -> str:
    """The column TunnelInfo."""
    if dest.conn_flags != F.IP_VS_CONN_F_TUNNEL:
        return "n/a"
    flags = TUNNEL_FLAGS.get(dest.tun_flags, "")
    text = {
        F.IP_VS_CONN_F_TUNNEL_TYPE_GUE: f"gue:{dest.tun_port}:{flags}",
        F.IP_VS_CONN_F_TUNNEL_TYPE_GRE: f"gre:{flags}",
    }.get(dest.tun_type, TUNNEL_NAMES.get(dest.tun_type, ""))
    return text[:TUNNEL_INFO_MAX]


def _narrow(dest: DestEntry, field: str) -> int:
    """A counter of a destination as the program reads it."""
    value: int = getattr(dest.stats, field)
    return value & 0xFFFFFFFF if field in NARROW else value


def _stats(dest: DestEntry, exact: bool) -> str:
    return "".join(large_number(_narrow(dest, field), exact=exact) for field in COUNTERS)


def _rate(dest: DestEntry, exact: bool) -> str:
    return "".join(f" {_narrow(dest, field):>8}" for field in RATES[:3]) + "".join(large_number(_narrow(dest, field), exact=exact) for field in RATES[3:])


def _plain(dest: DestEntry, exact: bool) -> str:
    return f" {METHODS[dest.conn_flags]:<7} {dest.weight:<6} {dest.activeconns:<10} {dest.inactconns:<10}"


def _thresholds(dest: DestEntry, exact: bool) -> str:
    return f" {dest.u_threshold:<10} {dest.l_threshold:<10} {dest.activeconns:<10} {dest.inactconns:<10}"


def _persistent(dest: DestEntry, exact: bool) -> str:
    return f" {dest.weight:<9} {dest.persistconns:<11} {dest.activeconns:<10} {dest.inactconns:<10}"


def _tunnels(dest: DestEntry, exact: bool) -> str:
    return f" {METHODS[dest.conn_flags]:<7} {tunnel_info(dest):<13} {dest.weight:<6} {dest.activeconns:<10} {dest.inactconns:<10}"


DEST_FIELDS: Final[Mapping[Option | None, Callable[[DestEntry, bool], str]]] = {
    Option.STATS: _stats,
    Option.RATE: _rate,
    Option.THRESHOLDS: _thresholds,
    Option.PERSISTENTCONN: _persistent,
    Option.TUN_INFO: _tunnels,
    None: _plain,
}


def dest_name(service: ServiceEntry, dest: DestEntry, resolver: Resolver | None) -> str:
    """A destination with its port; the ports of fwmark services have no names."""
    return address_name(dest.af, dest.addr, dest.port, 0 if service.fwmark else service.protocol, resolver)


def service_lines(entry: ServiceEntry, dests: Iterable[DestEntry], style: Style) -> Iterator[str]:
    """The line of a service, then those of its destinations, in the order given."""
    yield _service_line(entry, style)
    fields = DEST_FIELDS[style.format]
    for dest in dests:
        name = dest_name(entry, dest, style.resolver)
        if dest.af == F.AF_INET:
            name = name[:DEST_WIDTH]
        yield f"  -> {name:<28}{fields(dest, style.exact)}"


def version_line(version: int, size: int) -> str:
    """The first line of a full listing."""
    return VERSION_LINE.format(major=version >> 16, minor=version >> 8 & 0xFF, patch=version & 0xFF, size=size)


# --- connections ------------------------------------------------------------------------------------------------------
_BLANKS: Final = re.compile(r"[ \t\n\v\f\r]+")
CONN_PROTOCOLS: Final = {"TCP": F.IPPROTO_TCP, "UDP": F.IPPROTO_UDP, "SCTP": F.IPPROTO_SCTP}


def _entry_name(address: str, port: str, protocol: int, resolver: Resolver | None) -> str:
    """An address of /proc/net/ip_vs_conn in words."""
    af = F.AF_INET6 if ":" in address else F.AF_INET
    return address_name(af, int(address.replace(":", ""), 16), int(port, 16), protocol, resolver)


def _entry_line(row: str, persistent: bool, resolver: Resolver | None) -> str:
    fields = _BLANKS.split(row.strip(" \t\n\v\f\r"))
    proto, caddr, cport, vaddr, vport, daddr, dport, state, expires = fields[:9]
    protocol = CONN_PROTOCOLS.get(proto, 0)
    minutes, seconds = divmod(int(expires), 60)
    left = f"{minutes:02}:{seconds:02}"
    client, virtual, dest = (_entry_name(address, port, protocol, resolver) for address, port in ((caddr, cport), (vaddr, vport), (daddr, dport)))
    line = f"{proto:<3} {left:<6} {state:<11} {client:<18} {virtual:<18} "
    if persistent and len(fields) >= 11:
        return line + f"{dest:<16} {fields[9]:<18} {fields[10]}"
    return line + dest


def connection_lines(text: str, *, persistent: bool, resolver: Resolver | None) -> Iterator[str]:
    """The entries of /proc/net/ip_vs_conn in the file's order; ``persistent``: with engine and its data. The columns of those do not fit the title."""
    yield from CONN_TITLE_PE if persistent else CONN_TITLE
    for row in text.split("\n")[1:]:
        if row.strip():
            yield _entry_line(row, persistent, resolver)


# --- timeouts, daemons ------------------------------------------------------------------------------------------------
def timeout_line(timeouts: Sequence[int]) -> str:
    """The three timeouts in seconds."""
    return TIMEOUT.format(*timeouts)


def daemon_line(daemon: DaemonEntry) -> str:
    """A running daemon."""
    af, group = daemon.mcast_group
    values = [f"mcast={daemon.mcast_ifn}", f"syncid={daemon.syncid}"]
    if daemon.sync_maxlen:
        values.append(f"maxlen={daemon.sync_maxlen}")
    values.append(f"group={inet_ntop(af, group)}")
    if daemon.mcast_port:
        values.append(f"port={daemon.mcast_port}")
    if daemon.mcast_ttl:
        values.append(f"ttl={daemon.mcast_ttl}")
    return f"{DAEMON_STATES[daemon.state]} sync daemon ({', '.join(values)})"
