"""The files under /proc/net that IPVS shows, text exact.

source: ip_vs_ctl.c, ip_vs_info_seq_show, ip_vs_stats_show, ip_vs_stats_percpu_show; ip_vs_conn.c, ip_vs_conn_seq_show, ip_vs_conn_sync_seq_show;
ip_vs_app.c, ip_vs_app_seq_show
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ipvs_model.apps import incarnations
from ipvs_model.conn import Conn
from ipvs_model.dest import Dest
from ipvs_model.errors import IPVSError
from ipvs_model.flags import AF_INET, FWD_NAMES, IP_VS_CONN_F_SYNC, IP_VS_SVC_F_ONEPACKET, IP_VS_SVC_F_PERSISTENT, IP_VS_VERSION, proto_name
from ipvs_model.jiffies import expires_seconds
from ipvs_model.netns import Netns
from ipvs_model.service import Service

INFO_HEADER: Final = (
    f"IP Virtual Server version {IP_VS_VERSION} (size={{size}})",
    "Prot LocalAddress:Port Scheduler Flags",
    "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn",
)
CONN_HEADER: Final = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData"
CONN_SYNC_HEADER: Final = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires"
APP_HEADER: Final = "prot port    usecnt name"
STATS_HEADER: Final = (
    "   Total Incoming Outgoing         Incoming         Outgoing",
    "   Conns  Packets  Packets            Bytes            Bytes",
)
STATS_RATES: Final = " Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s"
PERCPU_HEADER: Final = (
    "       Total Incoming Outgoing         Incoming         Outgoing",
    "CPU    Conns  Packets  Packets            Bytes            Bytes",
)
DEST_ROW: Final = "  -> {endpoint}      {method:<7} {weight:<6} {active:<10} {inactive:<10}"
CONN_ROW: Final = "{protocol:<3} {caddr} {cport:04X} {vaddr} {vport:04X} {daddr} {dport:04X} {state:<11} {expires:7}{engine}"
CONN_SYNC_ROW: Final = "{protocol:<3} {caddr} {cport:04X} {vaddr} {vport:04X} {daddr} {dport:04X} {state:<11} {origin:<6} {expires:7}"
APP_ROW: Final = "{protocol:<3}  {port:<7} {usecnt:<6} {name:<17}"
COUNTERS_ROW: Final = "{0:8X} {1:8X} {2:8X} {3:16X} {4:16X}"


def hex_addr(af: int, addr: int) -> str:
    """IPv4: 8 upper-case digits; IPv6: eight lower-case groups, nothing shortened.

    >>> hex_addr(2, 0x0a000001), hex_addr(10, 1)
    ('0A000001', '0000:0000:0000:0000:0000:0000:0000:0001')
    """
    if af == AF_INET:
        return f"{addr:08X}"
    digits = f"{addr:032x}"
    return ":".join(digits[start : start + 4] for start in range(0, 32, 4))


def hex_endpoint(af: int, addr: int, port: int) -> str:
    """Address and port; IPv6 in brackets."""
    text = hex_addr(af, addr)
    return f"{text}:{port:04X}" if af == AF_INET else f"[{text}]:{port:04X}"


def service_line(svc: Service) -> str:
    """A service's line in ip_vs; the persistence timeout is in jiffies, signed, an IPv6 prefix is shown as little-endian bytes."""
    scheduler = svc.scheduler.name if svc.scheduler is not None else "none"
    one_packet = "ops " if svc.flags & IP_VS_SVC_F_ONEPACKET else ""
    if svc.fwmark:
        line = f"FWM  {svc.fwmark:08X} {scheduler} {one_packet}"
    elif svc.af == AF_INET:
        line = f"{proto_name(svc.protocol)}  {hex_endpoint(svc.af, svc.addr, svc.port)} {scheduler} {one_packet} "
    else:
        line = f"{proto_name(svc.protocol)}  {hex_endpoint(svc.af, svc.addr, svc.port)} {scheduler} "
    if svc.flags & IP_VS_SVC_F_PERSISTENT:
        timeout = svc.timeout - (1 << 32) if svc.timeout >> 31 else svc.timeout
        netmask = svc.netmask if svc.af == AF_INET else int.from_bytes(svc.netmask.to_bytes(4, "little"), "big")
        line += f"persistent {timeout} {netmask:08X}"
    return line


def dest_line(dest: Dest) -> str:
    """A destination's line in ip_vs."""
    endpoint = hex_endpoint(dest.af, dest.addr, dest.port)
    return DEST_ROW.format(endpoint=endpoint, method=FWD_NAMES[dest.method], weight=dest.weight, active=dest.activeconns, inactive=dest.inactconns)


def ip_vs(ns: Netns) -> Iterator[str]:
    """Services in dump order, each with its destinations, newest first."""
    for line in INFO_HEADER:
        yield line.format(size=ns.conns.mask + 1)
    for svc in ns.services.walk():
        yield service_line(svc)
        yield from map(dest_line, svc.destinations)


def conn_values(cp: Conn) -> dict[str, Any]:
    """The columns that both connection files have."""
    clock = cp.ipvs.clock
    return {
        "protocol": proto_name(cp.protocol),
        "caddr": hex_addr(cp.af, cp.caddr),
        "cport": cp.cport,
        "vaddr": hex_addr(cp.af, cp.vaddr),
        "vport": cp.vport,
        "daddr": hex_addr(cp.daf, cp.daddr),
        "dport": cp.dport,
        "state": cp.state_name,
        "expires": expires_seconds(cp.expires, clock.now, clock.hz),
    }


def conn_line(cp: Conn) -> str:
    """An entry's line in ip_vs_conn; engine data are shown as they are, byte for byte, up to the first NUL."""
    engine = f" {cp.pe.name} {cp.pe.show_pe_data(cp).partition(chr(0))[0]}" if cp.pe_data else ""
    return CONN_ROW.format(**conn_values(cp), engine=engine)


def conn_sync_line(cp: Conn) -> str:
    """An entry's line in ip_vs_conn_sync."""
    return CONN_SYNC_ROW.format(**conn_values(cp), origin="SYNC" if cp.flags & IP_VS_CONN_F_SYNC else "LOCAL")


def ip_vs_conn(ns: Netns) -> Iterator[str]:
    """Entries by bucket, youngest first."""
    yield CONN_HEADER
    yield from map(conn_line, ns.conns.walk())


def ip_vs_conn_sync(ns: Netns) -> Iterator[str]:
    """The same entries with their origin."""
    yield CONN_SYNC_HEADER
    yield from map(conn_sync_line, ns.conns.walk())


def counters(values: Sequence[int]) -> str:
    """Five counters in hexadecimal."""
    return COUNTERS_ROW.format(*values)


def shown(ns: Netns) -> tuple[str, str]:
    """Totals and rates as user space reads them."""
    entry = ns.tot_stats.shown()
    totals = (entry.conns, entry.inpkts, entry.outpkts, entry.inbytes, entry.outbytes)
    return counters(totals), counters((entry.cps, entry.inpps, entry.outpps, entry.inbps, entry.outbps))


def ip_vs_stats(ns: Netns) -> Iterator[str]:
    """Sampled totals and rates."""
    totals, rates = shown(ns)
    yield from (*STATS_HEADER, totals, "", STATS_RATES, rates)


def ip_vs_stats_percpu(ns: Netns) -> Iterator[str]:
    """Live counters of each CPU (all packets count on CPU 0), then the sampled totals."""
    totals, rates = shown(ns)
    yield from PERCPU_HEADER
    for cpu in range(ns.env.cpus):
        yield f"{cpu:3X} " + counters(ns.tot_stats.live() if cpu == 0 else (0, 0, 0, 0, 0))
    yield from (f"  ~ {totals}", "", f"    {STATS_RATES}", f"    {rates}")


def ip_vs_app(ns: Netns) -> Iterator[str]:
    """Application incarnations, newest application first, in it newest incarnation first."""
    yield APP_HEADER
    for inc in incarnations(ns):
        yield APP_ROW.format(protocol=proto_name(inc.protocol), port=inc.port, usecnt=inc.usecnt, name=inc.app.name)


FILES: Final[dict[str, Callable[[Netns], Iterator[str]]]] = {
    "ip_vs": ip_vs,
    "ip_vs_conn": ip_vs_conn,
    "ip_vs_conn_sync": ip_vs_conn_sync,
    "ip_vs_stats": ip_vs_stats,
    "ip_vs_stats_percpu": ip_vs_stats_percpu,
    "ip_vs_app": ip_vs_app,
}


def render(ns: Netns, name: str) -> str:
    """The text of a file. Raises IPVSError(ENOENT) for an unknown name."""
    lines = FILES.get(name)
    if lines is None:
        raise IPVSError(errno.ENOENT)
    return "\n".join(lines(ns)) + "\n"
