"""Jiffies: how they begin, and how IPVS turns them into what users see. source: kernel/time/time.c, include/linux/jiffies.h"""

from typing import Final

U32: Final = 0xFFFFFFFF
INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1


def initial_jiffies(hz: int) -> int:
    """Jiffies at boot: the low 32 bits wrap five minutes later. source: include/linux/jiffies.h, INITIAL_JIFFIES."""
    return 2**32 - 300 * hz


def seconds_to_jiffies(seconds: float, hz: int) -> int:
    """Seconds as jiffies: exact for whole seconds, the nearest tick for fractions (a convenience; the kernel knows only whole seconds here)."""
    return round(seconds * hz)


def jiffies_to_seconds(jiffies: int, hz: int) -> int:
    """Jiffies as whole seconds, truncated, as timeouts are shown."""
    return jiffies // hz


def jiffies_to_msecs(jiffies: int, hz: int) -> int:
    """Jiffies as milliseconds in 32 bits, rounded up where a tick is not a whole number of them. source: time.c, jiffies_to_msecs.

    >>> jiffies_to_msecs(299, 300), jiffies_to_msecs(300, 300)
    (997, 1000)
    """
    return -(-jiffies * 1000 // hz) & U32


def expires_seconds(expires: int, now: int, hz: int) -> int:
    """The column Expires of /proc/net/ip_vs_conn: seconds left, 0 when overdue, wrong above 4294967 s. source: ip_vs_conn.c, ip_vs_conn_seq_show."""
    return jiffies_to_msecs(max(0, expires - now), hz) // 1000


def max_timeout_seconds(hz: int) -> int:
    """Largest tcp, tcp_fin or udp timeout, and sysctl in seconds, that the kernel takes; more is EINVAL. source: ip_vs_ctl.c, ip_vs_set_timeout."""
    return INT_MAX // hz


def persistence_to_jiffies(seconds: int, hz: int) -> int:
    """A service's persistence timeout in jiffies: 32 bits, so it wraps unchecked. source: ip_vs_ctl.c, ip_vs_add_service.

    >>> persistence_to_jiffies(17179870, 250)
    204
    """
    return seconds * hz & U32


def jiffies_to_sync_seconds(timeout: int, hz: int) -> int:
    """A connection's timeout as a version 1 sync message carries it: low 32 bits. source: ip_vs_sync.c, ip_vs_sync_conn."""
    return timeout // hz & U32


def sync_seconds_to_jiffies(seconds: int, hz: int) -> int:
    """The timeout that a version 1 sync message asks for; 0 (use the state's own) stays 0. source: ip_vs_sync.c, ip_vs_proc_conn."""
    return min(seconds, LONG_MAX // hz) * hz
