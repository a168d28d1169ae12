"""A place in a destination list: the list head, or the entry chosen last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipvs_model.dest import Dest


class Position:
    """The entry of a destination list where a round-robin scan stands; ``dest`` None is the head of the list."""

    __slots__ = ("_index", "dest")

    def __init__(self) -> None:
        self.dest: Dest | None = None
        self._index = -1

    def move(self, dest: Dest | None, index: int) -> None:
        """Stand at ``dest``, which is at ``index`` of the list (head: None, -1)."""
        self.dest = dest
        self._index = index

    def index(self, destinations: list[Dest]) -> int:
        """Index of the entry in the list as it is now, -1 for the head. O(1) unless the list has changed, then O(n)."""
        if self.dest is None:
            return -1
        if self._index >= len(destinations) or destinations[self._index] is not self.dest:
            self._index = destinations.index(self.dest)
        return self._index
