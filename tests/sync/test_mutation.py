"""Damaged messages: never an exception, never an entry from an invalid record, invariants hold."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sync.mutation import backup, feed, has_port, soak
from tests.sync.strategies import crowds, messages

from ipvs_model.invariants import check
from ipvs_model.sync import SyncMessage, encode_message
from ipvs_model.sync.messages import RESULTS

#: 2,000 datagrams in an ordinary run, 100,000 in a soak
COUNT = settings.default.max_examples * 20 if settings.default is not None else 2000


def test_damaged_messages_make_no_entry_that_the_specification_does_not_allow() -> None:
    tally = soak(COUNT, seed=61)
    assert set(tally.codes) <= set(RESULTS)
    # -50 and -60 need luck: they are among the examples of test_messages
    assert {-1, -2, -3, -10, -20, -30, -40, 0, 20, 30, 40} <= set(tally.codes)
    assert tally.entries > COUNT // 20


@given(st.lists(st.one_of(crowds, crowds, messages, st.just(None)), max_size=12), st.lists(st.integers(0, 100_000), max_size=12))
def test_any_messages_leave_counters_and_timers_right(sent: list[SyncMessage | None], waits: list[int]) -> None:
    ipvs = backup()
    for message in sent:
        if message is None:
            ipvs.clock.advance(waits.pop() if waits else 1)
        else:
            tidy = tuple(evolve(record, client=record.client & ~0xFFFF) if has_port(record) else record for record in message.records)
            ipvs.receive_sync(encode_message(evolve(message, records=tidy)))
        check(ipvs.ns)


def test_a_message_that_does_not_fit_the_buffer_is_cut_and_so_refused() -> None:
    record = bytes.fromhex("0006000101bb01bb0a0000010a0000020a0100110100") + bytes(2)
    for count, entries in ((61, 1), (62, 0)):  # 1,468 and 1,492 bytes; all of one entry
        payload = bytes([count, 0]) + (4 + 24 * count).to_bytes(2) + record * count
        assert feed(backup(), payload).entries == entries
