"""The sysctls of a namespace: ``net.ipv4.vs.*`` with defaults, permitted values and errno.

source: ip_vs_ctl.c, vs_vars, proc_do_defense_mode, proc_do_sync_threshold, proc_do_sync_ports; kernel/sysctl.c, proc_dointvec
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from ipvs_model.cpulist import format_cpulist, parse_cpulist
from ipvs_model.errors import IPVSError

INT_MIN: Final = -(1 << 31)
INT_MAX: Final = (1 << 31) - 1
U64_MAX: Final = (1 << 64) - 1


@frozen
class Var:
    """One sysctl: its default, the permitted values, and how it is stored (``int``, ``pair``, ``seconds``, ``ulong``, ``cpulist``)."""

    name: str
    default: int
    low: int = INT_MIN
    high: int = INT_MAX
    kind: str = "int"


#: in the order in which the kernel lists them (spec: sysctls of a namespace); sync_qlen_max depends on memory
VARS: Final = (
    Var("amemthresh", 1024),
    Var("am_droprate", 10),
    Var("drop_entry", 0, 0, 3),
    Var("drop_packet", 0, 0, 3),
    Var("conntrack", 0),
    Var("secure_tcp", 0, 0, 3),
    Var("snat_reroute", 1),
    Var("sync_version", 1, 0, 1),
    Var("sync_ports", 1, kind="power of two"),
    Var("sync_persist_mode", 0),
    Var("sync_qlen_max", 15000, 0, U64_MAX, "ulong"),
    Var("sync_sock_size", 0),
    Var("cache_bypass", 0),
    Var("expire_nodest_conn", 0),
    Var("sloppy_tcp", 0),
    Var("sloppy_sctp", 0),
    Var("expire_quiescent_template", 0),
    Var("sync_threshold", 3, kind="pair"),
    Var("sync_refresh_period", 0, kind="seconds"),
    Var("sync_retries", 0, 0, 3),
    Var("nat_icmp_send", 0),
    Var("pmtu_disc", 1),
    Var("backup_only", 0),
    Var("conn_reuse_mode", 1),
    Var("schedule_icmp", 0),
    Var("ignore_tunneled", 0),
    Var("run_estimation", 1),
    Var("est_cpulist", 0, kind="cpulist"),
    Var("est_nice", 0, -20, 19),
    Var("lblc_expiration", 86400, kind="seconds"),
    Var("lblcr_expiration", 86400, kind="seconds"),
)
BY_NAME: Final = {var.name: var for var in VARS}
SYNC_PERIOD_DEFAULT: Final = 50

_NUMBER: Final = re.compile(rb"(-?)(0[xX][0-9a-fA-F]+|[0-9]+)")
_SPACE: Final = b" \t\n\v\f\r"


def parse_int(text: bytes) -> tuple[int, bytes]:
    """The first integer of a written value and the rest (source: kernel/sysctl.c, proc_get_long).

    Decimal, 0x hexadecimal or 0 octal, an optional minus sign; a digit string must end in white space or the end. Raises IPVSError(EINVAL).

    >>> parse_int(b"0x10 5")
    (16, b' 5')
    """
    text = text.lstrip(_SPACE)
    match = _NUMBER.match(text)
    if not match:
        raise IPVSError(errno.EINVAL)
    sign, digits = match.groups()
    rest = text[match.end() :]
    if rest and rest[:1] not in _SPACE:
        raise IPVSError(errno.EINVAL)
    try:
        base = 16 if digits[:2].lower() == b"0x" else 8 if digits[:1] == b"0" and len(digits) > 1 else 10
        value = int(digits, base)
    except ValueError:
        raise IPVSError(errno.EINVAL) from None
    return (-value if sign else value), rest


class Sysctl:
    """The values now in force, one attribute a sysctl; ``seconds`` ones are kept in jiffies, ``sync_threshold`` beside ``sync_period``.

    ``on_write[name]`` is called after an accepted write.
    """

    amemthresh: int
    am_droprate: int
    drop_entry: int
    drop_packet: int
    conntrack: int
    secure_tcp: int
    snat_reroute: int
    sync_version: int
    sync_ports: int
    sync_persist_mode: int
    sync_qlen_max: int
    sync_sock_size: int
    cache_bypass: int
    expire_nodest_conn: int
    sloppy_tcp: int
    sloppy_sctp: int
    expire_quiescent_template: int
    sync_threshold: int
    sync_refresh_period: int
    sync_retries: int
    nat_icmp_send: int
    pmtu_disc: int
    backup_only: int
    conn_reuse_mode: int
    schedule_icmp: int
    ignore_tunneled: int
    run_estimation: int
    est_nice: int
    lblc_expiration: int
    lblcr_expiration: int

    def __init__(self, hz: int, cpus: int = 1) -> None:
        self.hz = hz
        self.cpus = cpus
        self.sync_period = SYNC_PERIOD_DEFAULT
        self.est_cpulist = format_cpulist(set(range(cpus)))
        self.on_write: dict[str, Callable[[], Any]] = {}
        for var in VARS:
            if var.kind != "cpulist":
                setattr(self, var.name, var.default * hz if var.kind == "seconds" else var.default)

    def read(self, name: str) -> str:
        """What reading the file gives, without its newline. Raises IPVSError(ENOENT) for an unknown name."""
        var = self._var(name)
        if var.kind == "pair":
            return f"{self.sync_threshold}\t{self.sync_period}"
        if var.kind == "cpulist":
            return self.est_cpulist
        value: int = getattr(self, name)
        if var.kind == "seconds":
            seconds = abs(value) // self.hz
            return str(-seconds if value < 0 else seconds)
        return str(value)

    def write(self, name: str, text: str) -> None:
        """Write the file. Raises IPVSError: ENOENT for an unknown name, EINVAL, ERANGE or EOVERFLOW for a refused value; the old one stays."""
        var = self._var(name)
        data = text.encode()
        if var.kind == "cpulist":
            if text:
                self.est_cpulist = format_cpulist(parse_cpulist(text, self.cpus))
        elif var.kind == "pair":
            self._write_pair(data)
        else:
            if not data.strip(_SPACE):
                raise IPVSError(errno.EINVAL)
            value, _ = parse_int(data)
            if var.kind == "seconds":
                if abs(value) > INT_MAX // self.hz:
                    raise IPVSError(errno.EINVAL)
                value *= self.hz
            elif not self._permitted(var, value):
                raise IPVSError(errno.EINVAL)
            if value == getattr(self, name) and name in ("drop_entry", "drop_packet", "secure_tcp", "run_estimation", "est_nice"):
                return
            setattr(self, name, value)
        hook = self.on_write.get(name)
        if hook is not None:
            hook()

    def _permitted(self, var: Var, value: int) -> bool:
        if not var.low <= value <= var.high or (var.kind != "ulong" and not INT_MIN <= value <= INT_MAX):
            return False
        return var.kind != "power of two" or value == self.sync_ports or (value >= 1 and not value & (value - 1))

    def _write_pair(self, data: bytes) -> None:
        """One or two numbers (source: ip_vs_ctl.c, proc_do_sync_threshold).

        A malformed second number gives EINVAL although a valid first one has been stored.
        """
        if not data.strip(_SPACE):
            raise IPVSError(errno.EINVAL)
        first, rest = parse_int(data)
        second, malformed = self.sync_period, None
        if rest.strip(_SPACE):
            try:
                second = parse_int(rest)[0]
                if not INT_MIN <= second <= INT_MAX:
                    raise IPVSError(errno.EINVAL)
            except IPVSError as error:
                second, malformed = self.sync_period, error
        if not 0 <= first <= INT_MAX or second < 0 or (second and first >= second):
            raise IPVSError(errno.EINVAL)
        self.sync_threshold, self.sync_period = first, second
        if malformed is not None:
            raise malformed

    @staticmethod
    def _var(name: str) -> Var:
        var = BY_NAME.get(name)
        if var is None:
            raise IPVSError(errno.ENOENT)
        return var
