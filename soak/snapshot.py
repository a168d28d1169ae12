"""The whole state of an object as plain data, to see whether something has changed: whatever hangs on it, found without knowing what it is."""

from __future__ import annotations

import random
from copy import copy
from enum import Enum
from types import FunctionType, MethodType
from typing import Any, Final

from ipvs_model.stats import Estimated

PLAIN: Final = (int, str, bytes, float, bool, type(None), Enum)
SKIPPED: Final = (FunctionType, MethodType, type)


def snapshot(root: Any, ignored: frozenset[int] = frozenset()) -> list[Any]:
    """Names and values in the order in which they are reached; an object met again is the number under which it was met first.

    ``ignored``: ids of objects that may change (a log, a rate limit). Functions and classes are left out.
    """
    met: dict[int, int] = {}
    kept: list[Any] = []  #: holds what was made for this walk, so that its ids stay its own
    out: list[Any] = []
    stack: list[Any] = [root]
    while stack:
        thing = stack.pop()
        if isinstance(thing, PLAIN):
            out.append(thing)
            continue
        if isinstance(thing, SKIPPED) or id(thing) in ignored:
            out.append(type(thing).__name__)
            continue
        if id(thing) in met:
            out.append(("again", met[id(thing)]))
            continue
        met[id(thing)] = len(met)
        kept.append(thing)
        out.append((type(thing).__name__, len(met)))
        stack += reversed(_parts(thing))
    return out


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, random.Random):
        return [thing.getstate()]
    if isinstance(thing, dict):
        return [part for pair in thing.items() for part in pair]
    if isinstance(thing, set | frozenset):
        return sorted(thing, key=repr)
    if isinstance(thing, list | tuple):
        return list(thing)
    if isinstance(thing, Estimated):
        thing.settle()
    parts: list[Any] = []
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__weakref__", "__dict__") and hasattr(thing, name):
                parts += (name, getattr(thing, name))
    for name, value in getattr(thing, "__dict__", {}).items():
        parts += (name, value)
    if not parts and hasattr(thing, "__iter__"):
        parts = list(copy(thing))  # an iterator is not to be used up
    return parts
