"""Mutated sync datagrams for a backup: the run that the tests of the sync room make in small.

Nothing may be raised, no entry may come from an invalid record, and every invariant holds; a second reading of the wire format says what is valid.
"""

from __future__ import annotations

from attrs import frozen
from tests.sync.mutation import soak


@frozen
class Outcome:
    """What a run saw: datagrams, records read from them, entries made or replaced, result codes."""

    datagrams: int
    records: int
    entries: int
    codes: dict[int, int]


def run(count: int, seed: int) -> Outcome:
    """Give a backup so many mutated datagrams. Raises AssertionError for whatever goes wrong."""
    tally = soak(count, seed)
    return Outcome(tally.datagrams, tally.records, tally.entries, tally.codes)
