"""Which entries are sent: the worked examples of the specification and every cell of the decision."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.sync import decision as D
from ipvs_model.sync.decision import c_remainder, ip_vs_sync_conn_needed, signed32, signed64

HZ = 250
START = 4294892296


def namespace(threshold: int = 3, period: int = 50, refresh: int = 0, retries: int = 0, persist_mode: int = 0) -> Any:
    """What the decision reads of a namespace; refresh in seconds."""
    return SimpleNamespace(
        clock=SimpleNamespace(now=START, hz=HZ),
        sysctl=SimpleNamespace(
            sync_threshold=threshold, sync_period=period, sync_refresh_period=refresh * HZ, sync_retries=retries, sync_persist_mode=persist_mode
        ),
    )


def entry(protocol: int = 6, state: int = 1, old_state: int = 1, timeout: int = 900, flags: int = 0, control: Any = None) -> Any:
    """What the decision reads of an entry; timeout in seconds."""
    return SimpleNamespace(
        protocol=protocol,
        state=SimpleNamespace(index=state),
        old_state=old_state,
        timeout=timeout * HZ,
        flags=flags,
        control=control,
        sync_endtime=START & ~3,
    )


def sent_at(ns: Any, cp: Any, packets: int, every: int) -> list[int]:
    """The jiffies, counted from the start, at which packets every so many jiffies are sent."""
    found = []
    for number in range(1, packets + 1):
        if ip_vs_sync_conn_needed(ns, cp, number).needed:
            found.append(ns.clock.now - START)
        ns.clock.now += every
    return found


def packets_sent(ns: Any, cp: Any, packets: int) -> list[int]:
    return [at + 1 for at in sent_at(ns, cp, packets, 1)]


@pytest.mark.parametrize(
    ("threshold", "period", "packets", "expected"),
    [
        (3, 50, 160, [3, 53, 103, 153]),
        (3, 10, 79, [3, 13, 23, 33, 43, 53, 63, 73]),
        (3, 0, 79, [3]),
        (0, 1, 5, [1, 2, 3, 4, 5]),
        (0, 0, 5, []),
    ],
)
def test_threshold_and_period(threshold: int, period: int, packets: int, expected: list[int]) -> None:
    assert packets_sent(namespace(threshold, period), entry(), packets) == expected


def test_refresh_with_two_retries_is_spaced_by_an_eighth_of_the_period() -> None:
    ns, cp = namespace(0, 0, refresh=10, retries=2), entry()
    assert sent_at(ns, cp, 320, 12) == [0, 312, 636, 3144, 3456, 3780]


@pytest.mark.parametrize(("retries", "records"), [(2, 6), (0, 3)])
def test_refresh_of_four_seconds_over_ten(retries: int, records: int) -> None:
    assert len(sent_at(namespace(0, 0, refresh=4, retries=retries), entry(), 209, 12)) == records


def test_limit_of_a_short_state_is_ten_seconds_or_half_the_timeout() -> None:
    ns, cp = namespace(0, 0, refresh=60), entry(state=6, old_state=6, timeout=10)
    assert sent_at(ns, cp, 6, 1250) == [0, 2500, 5000]


@pytest.mark.parametrize(
    ("protocol", "listed", "count"),
    [(6, {1, 4, 5, 6, 7}, 11), (132, {8, 9, 10, 11, 13}, 14)],
)
def test_state_filter(protocol: int, listed: set[int], count: int) -> None:
    for state in range(count):
        found = ip_vs_sync_conn_needed(namespace(0, 1), entry(protocol, state, state), 1)
        assert found == (D.DUE if state in listed else D.STATE_NOT_SENT)


@pytest.mark.parametrize("protocol", [0, 17, 50, 51])
def test_other_protocols_have_no_state_filter(protocol: int) -> None:
    assert ip_vs_sync_conn_needed(namespace(), entry(protocol, 0, 0), 3) == D.DUE
    assert ip_vs_sync_conn_needed(namespace(), entry(protocol, 0, 9), 2) == D.NOT_THIS_PACKET


@pytest.mark.parametrize(("protocol", "established"), [(6, 1), (132, 8)])
def test_a_new_state_is_sent_at_once_but_not_established(protocol: int, established: int) -> None:
    for state in sorted(D.SENT_STATES[protocol][1]):
        cp = entry(protocol, state, 0)
        found = ip_vs_sync_conn_needed(namespace(refresh=60), cp, 1)
        if state == established:
            assert not found.needed and cp.old_state == 0
        else:
            assert found == D.STATE_CHANGED and cp.old_state == state
            assert not ip_vs_sync_conn_needed(namespace(refresh=60), cp, 1).needed


def test_sync_persist_mode_leaves_entries_to_their_template() -> None:
    template = entry(state=0, flags=0x1000)
    control = entry(control=template)
    for cp in (entry(control=template), entry(control=control)):
        assert ip_vs_sync_conn_needed(namespace(persist_mode=-1), cp, 3) == D.UNDER_TEMPLATE
        assert ip_vs_sync_conn_needed(namespace(), cp, 3) == D.DUE
    assert ip_vs_sync_conn_needed(namespace(persist_mode=1), entry(control=entry()), 3) == D.DUE
    assert ip_vs_sync_conn_needed(namespace(persist_mode=1), template, 1) == D.TEMPLATE_USED


def test_template_is_sent_at_every_use_unless_the_period_is_0() -> None:
    assert packets_sent(namespace(), entry(state=0, flags=0x1000), 5) == [1, 2, 3, 4, 5]
    assert packets_sent(namespace(3, 0), entry(state=0, flags=0x1000), 5) == [3]


def test_template_is_limited_by_the_refresh_period() -> None:
    assert sent_at(namespace(refresh=10), entry(state=0, flags=0x1000, timeout=360), 100, 50) == [0, 2500]


def test_endtime_keeps_the_retries_in_its_low_bits() -> None:
    ns, cp = namespace(0, 0, refresh=10, retries=3), entry()
    seen = []
    for _ in range(6):
        ip_vs_sync_conn_needed(ns, cp, 1)
        seen.append((cp.sync_endtime & 3, cp.sync_endtime & ~3))
        ns.clock.now += 400
    ends = [(START + 400 * i + 900 * HZ) & ~3 for i in range(4)]
    assert seen == [(0, ends[0]), (1, ends[1]), (2, ends[2]), (3, ends[3]), (3, ends[3]), (3, ends[3])]


def test_negative_refresh_period_is_a_huge_unsigned_one() -> None:
    ns = namespace(0, 0)
    ns.sysctl.sync_refresh_period = -250
    cp = entry(timeout=60)
    assert sent_at(ns, cp, 100, 250) == [0, 7500, 15000, 22500]


def test_packet_count_below_0_gives_a_remainder_below_0() -> None:
    assert ip_vs_sync_conn_needed(namespace(), entry(), -47) == D.NOT_THIS_PACKET
    assert ip_vs_sync_conn_needed(namespace(0, 50), entry(), -50) == D.DUE


@given(st.integers(-(1 << 31), (1 << 31) - 1), st.integers(1, (1 << 31) - 1))
def test_remainder_is_that_of_c(dividend: int, divisor: int) -> None:
    remainder = c_remainder(dividend, divisor)
    assert (dividend - remainder) % divisor == 0 and abs(remainder) < divisor and remainder * dividend >= 0


def test_wrapping() -> None:
    assert (signed32(1 << 31), signed32(-1), signed32(5)) == (-(1 << 31), -1, 5)
    assert (signed64(1 << 63), signed64(-1), signed64(5)) == (-(1 << 63), -1, 5)
