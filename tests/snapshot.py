"""Everything that an IPVS is, as one comparable value: every object that hangs on it, by number in order of discovery, with all its members.

Left out is what only saves time: cached routes and actions, a state's cached bucket, empty buckets; who watches; and the rows of a state, which follow
from whether its protocol uses the secure table.
"""

from __future__ import annotations

import random
from collections import deque
from enum import Enum
from typing import Any

import attrs

from ipvs_model.ipvs import IPVS
from ipvs_model.stats import Estimated
from ipvs_model.timers import Clock, Timer

SKIPPED = {
    "IPVS": {"env", "fast", "_watchers"},
    "Netns": {"env", "emit", "log_lines", "outbox", "served", "ebb"},
    "State": {"also", "bucket", "expires", "kept", "rows", "quick", "replies"},
    "ConnTable": {"born", "born_at"},
    "Dest": {"route", "usual", "xmits"},
    "Service": {"opens", "even", "ebb", "least", "candidate", "candidates"},
    "TemplateState": {"also", "bucket", "expires", "kept", "rows", "quick", "replies"},
    "Conn": {"xmit", "bucket", "prev", "next"},
    "FunctionTimer": {"bucket", "prev", "next", "callback"},
    "DelayedWork": {"bucket", "prev", "next", "callback"},
}
PLAIN = (int, str, bytes, float, bool, type(None))


def members(thing: Any) -> list[tuple[Any, Any]]:
    """Names and values of what an object holds."""
    if isinstance(thing, Clock):
        pending = [(timer, timer.expires, timer.bucket.tick, timer.bucket.level) for timer in thing.pending_timers() if timer.bucket is not None]
        return [("now", thing.now), ("pending", pending), ("works", list(thing._works))]
    if isinstance(thing, random.Random):
        return [("state", hash(thing.getstate()))]
    if isinstance(thing, dict):
        return [part for number, (key, value) in enumerate(thing.items()) for part in ((f"key {number}", key), (f"value {number}", value))]
    if isinstance(thing, list | deque):
        return list(enumerate(thing))
    if isinstance(thing, set | frozenset):
        return list(enumerate(sorted(thing, key=repr)))
    skipped = SKIPPED.get(type(thing).__name__, set())
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    slots = [name for name in slots if name not in ("__weakref__", "__dict__")]
    if isinstance(thing, Estimated):
        thing.settle()
    if isinstance(thing, Timer):
        skipped = skipped | {"bucket", "prev", "next"}
    values = [(name, getattr(thing, name)) for name in dict.fromkeys(slots) if hasattr(thing, name)]
    values += list(getattr(thing, "__dict__", {}).items())
    return [(name, value) for name, value in values if name not in skipped]


def whole(ipvs: IPVS) -> list[str]:
    """One line for each object. Two that are alike in every way, and only they, give equal lists."""
    numbers: dict[int, int] = {}
    queue: deque[Any] = deque()

    def shown(value: Any) -> str:
        if isinstance(value, (*PLAIN, Enum)):
            return repr(value)
        if attrs.has(type(value)) and all(isinstance(part, PLAIN) for part in attrs.astuple(value, recurse=False)):
            return repr(value)
        if isinstance(value, tuple):
            return f"({', '.join(map(shown, value))})"
        if isinstance(value, type) or hasattr(value, "__func__") or type(value).__name__ in ("function", "builtin_function_or_method"):
            return str(value.__qualname__)
        if id(value) not in numbers:
            numbers[id(value)] = len(numbers)
            queue.append(value)
        return f"#{numbers[id(value)]}"

    lines = [shown(ipvs)]
    made: list[Any] = []  # what was made while looking lives on, so that no number is given twice
    while queue:
        thing = queue.popleft()
        held = members(thing)
        made.append(held)
        lines.append(f"#{numbers[id(thing)]} {type(thing).__name__} " + ", ".join(f"{name}={shown(value)}" for name, value in held))
    return lines
