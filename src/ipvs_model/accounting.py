"""Which event moves which counter. All are counted at the destination; those of its service and of the namespace are sums.

source: ip_vs_core.c, ip_vs_in_stats, ip_vs_out_stats, ip_vs_conn_stats
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipvs_model.events import CounterMoved
from ipvs_model.flags import IP_VS_DEST_CF_AVAILABLE

if TYPE_CHECKING:
    from ipvs_model.conn import Conn


def in_stats(cp: Conn, length: int) -> None:
    """A client packet of ``length`` bytes, if the destination is there and available."""
    dest = cp.dest
    if dest is None or not dest.cflags & IP_VS_DEST_CF_AVAILABLE or dest.svc is None:
        return
    dest.stats.inpkts += 1
    dest.stats.inbytes += length
    emit = cp.ipvs.emit
    if emit is not None:
        emit(CounterMoved("ip_vs_in_stats", str(dest.key()), "inpkts", 1, dest.stats.inpkts))


def out_stats(cp: Conn, length: int) -> None:
    """A packet to the client, as ``in_stats``."""
    dest = cp.dest
    if dest is None or not dest.cflags & IP_VS_DEST_CF_AVAILABLE or dest.svc is None:
        return
    dest.stats.outpkts += 1
    dest.stats.outbytes += length
    emit = cp.ipvs.emit
    if emit is not None:
        emit(CounterMoved("ip_vs_out_stats", str(dest.key()), "outpkts", 1, dest.stats.outpkts))


def conn_stats(cp: Conn) -> None:
    """A new connection; availability is not looked at."""
    assert cp.dest is not None
    cp.dest.stats.conns += 1
    emit = cp.ipvs.emit
    if emit is not None:
        emit(CounterMoved("ip_vs_conn_stats", str(cp.dest.key()), "conns", 1, cp.dest.stats.conns))
