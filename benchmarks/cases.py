"""All rows, in the order of the table."""

from __future__ import annotations

from benchmarks import churn, established, expiry, growth, memory, oracle, parsing, peers, replayed
from benchmarks.measure import Case

GROUPS = {
    "Established connections": established,
    "New connections": churn,
    "Memory": memory,
    "Timers": expiry,
    "Peers": peers,
    "Parsing": parsing,
    "The naive twin": oracle,
    "Replay": replayed,
    "Growth": growth,
}
CASES: dict[str, Case] = {case.id: case for group in GROUPS.values() for case in group.CASES}
