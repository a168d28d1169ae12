"""The bucket table of dh and sh: each bucket names a destination and holds a reference to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipvs_model.dest import Dest

TAB_BITS: Final = 8  #: IP_VS_DH_TAB_BITS, CONFIG_IP_VS_SH_TAB_BITS
TAB_SIZE: Final = 1 << TAB_BITS


def reassign(table: list[Dest | None], filling: Iterable[Dest]) -> None:
    """Fill the buckets in order from ``filling`` (endless, or empty: then all buckets are emptied).

    source: ip_vs_dh.c, ip_vs_dh_reassign, ip_vs_dh_flush
    """
    source = iter(filling)
    for index, old in enumerate(table):
        if old is not None:
            old.put()
        new = table[index] = next(source, None)
        if new is not None:
            new.hold()
