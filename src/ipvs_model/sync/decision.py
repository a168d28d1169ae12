"""Which entries a master sends, and when.

source: ip_vs_sync.c, ip_vs_sync_conn_needed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from ipvs_model import flags as F

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.netns import Netns

U32: Final = 0xFFFFFFFF
U64: Final = (1 << 64) - 1

#: protocol → (ESTABLISHED, the states in which an entry is sent); other protocols are sent in any state
SENT_STATES: Final = {
    F.IPPROTO_TCP: (1, frozenset({1, 4, 5, 6, 7})),  # ESTABLISHED FIN_WAIT TIME_WAIT CLOSE CLOSE_WAIT
    F.IPPROTO_SCTP: (8, frozenset({8, 9, 10, 11, 13})),  # ESTABLISHED SHUTDOWN_SENT SHUTDOWN_RECEIVED SHUTDOWN_ACK_SENT CLOSED
}


@frozen
class Decision:
    """Whether an entry is sent now, and why."""

    needed: bool
    why: str


UNDER_TEMPLATE: Final = Decision(False, "sync_persist_mode: its template is enough")
STATE_NOT_SENT: Final = Decision(False, "its state is not synchronised")
RETRIES_USED: Final = Decision(False, "refreshed, and sync_retries are used up")
RETRY_TOO_EARLY: Final = Decision(False, "refreshed less than an eighth of sync_refresh_period ago")
NOT_THIS_PACKET: Final = Decision(False, "its packet count is not at the sync_threshold")
STATE_CHANGED: Final = Decision(True, "its state changed")
DUE: Final = Decision(True, "its packet count is at the sync_threshold")
REFRESH: Final = Decision(True, "sync_refresh_period")
TEMPLATE_USED: Final = Decision(True, "its template was used")
ONE_PACKET: Final = Decision(False, "one-packet entries are not synchronised")
NOT_IN_V0: Final = Decision(False, "version 0 carries IPv4 only")


def signed64(value: int) -> int:
    """A value as the kernel's long sees it."""
    value &= U64
    return value - (1 << 64) if value >> 63 else value


def signed32(value: int) -> int:
    """A value as the kernel's int sees it."""
    value &= U32
    return value - (1 << 32) if value >> 31 else value


def c_remainder(dividend: int, divisor: int) -> int:
    """Remainder with the sign of the dividend.

    >>> c_remainder(53, 50), c_remainder(-3, 50)
    (3, -3)
    """
    return dividend % divisor if dividend >= 0 else -(-dividend % divisor)


def ip_vs_sync_conn_needed(ns: Netns, cp: Conn, pkts: int) -> Decision:
    """Whether an entry must be sent now. If so, its old_state and sync_endtime are brought up to date.

    pkts: the entry's packet count, or the threshold (signed 32 bit). sync_endtime holds the number of retries in its two low bits.
    source: ip_vs_sync.c, ip_vs_sync_conn_needed
    """
    decision, endtime = _judge(ns, cp, pkts)
    if decision.needed:
        cp.old_state = cp.state.index
        cp.sync_endtime = endtime
    return decision


def _judge(ns: Netns, cp: Conn, pkts: int) -> tuple[Decision, int]:
    sysctl, now, timeout, orig = ns.sysctl, ns.clock.now, cp.timeout, cp.sync_endtime
    endtime = (now + timeout) & U64 & ~3
    template = cp.flags & F.IP_VS_CONN_F_TEMPLATE
    if not template:
        if sysctl.sync_persist_mode and in_persistence(cp):
            return UNDER_TEMPLATE, endtime
        if cp.protocol in SENT_STATES:
            established, sent = SENT_STATES[cp.protocol]
            state = cp.state.index
            if state not in sent:
                return STATE_NOT_SENT, endtime
            if state not in (cp.old_state, established):
                return STATE_CHANGED, endtime

    refresh = sysctl.sync_refresh_period & U32
    if refresh > 0:
        since = abs(signed64(endtime - orig))
        if since < min(refresh, max(timeout >> 1, 10 * ns.clock.hz)):
            retries = orig & 3
            if retries >= sysctl.sync_retries:
                return RETRIES_USED, endtime
            if signed64(now - (orig - timeout + (refresh >> 3))) < 0:
                return RETRY_TOO_EARLY, endtime
            endtime |= retries + 1

    period = sysctl.sync_period
    if period > 0:
        if template:
            return TEMPLATE_USED, endtime
        return (DUE if c_remainder(pkts, period) == sysctl.sync_threshold else NOT_THIS_PACKET), endtime
    if refresh:
        return REFRESH, endtime
    return (DUE if pkts == sysctl.sync_threshold else NOT_THIS_PACKET), endtime


def in_persistence(cp: Conn) -> bool:
    """Is some entry up the chain of controllers a template? source: ip_vs_sync.c, in_persistence"""
    control = cp.control
    while control is not None:
        if control.flags & F.IP_VS_CONN_F_TEMPLATE:
            return True
        control = control.control
    return False
