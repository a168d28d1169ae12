"""The bucket table of dh and sh: each bucket names a destination and holds a reference to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipvs_model.dest import Dest

TAB_BITS: Final = 8  #: IP_VS_DH_TAB_BITS, CONFIG_IP_VS_SH_TAB_BITS
TAB_SIZE: Final = 1 << TAB_BITS


class Buckets:
    """256 buckets, all empty or all full (source: ip_vs_dh.c, struct ip_vs_dh_state; ip_vs_sh.c, struct ip_vs_sh_state)."""

    __slots__ = ("counts", "table")

    def __init__(self) -> None:
        self.table: list[Dest | None] = [None] * TAB_SIZE
        self.counts: dict[Dest, int] = {}  #: buckets of each destination

    def reassign(self, filling: Iterable[Dest]) -> None:
        """Fill the buckets in order from ``filling`` (endless, or empty: then all buckets are emptied).

        source: ip_vs_dh.c, ip_vs_dh_reassign, ip_vs_dh_flush
        """
        source = iter(filling)
        self.counts = {}
        for index, old in enumerate(self.table):
            if old is not None:
                old.put()
            new = self.table[index] = next(source, None)
            if new is not None:
                new.hold()
                self.counts[new] = self.counts.get(new, 0) + 1
