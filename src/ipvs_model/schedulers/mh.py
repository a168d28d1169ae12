"""mh: one client, one destination, by a table that changes little when destinations come and go (Maglev).

source: ip_vs_mh.c
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from math import gcd
from typing import TYPE_CHECKING, Final

from ipvs_model.errors import IPVSError
from ipvs_model.flags import IP_VS_SVC_F_SCHED_MH_FALLBACK, IP_VS_SVC_F_SCHED_MH_PORT
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.hashing import U32, client_key, dest_key, hsiphash_u32
from ipvs_model.schedulers.weights import usable

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service

TAB_SIZE: Final = 4093  #: a prime; CONFIG_IP_VS_MH_TAB_INDEX = 12
TAB_BITS: Final = 6  #: half of the index: more than so many bits of weight are shifted away
HASH1_KEY: Final = 2654435761
HASH2_KEY: Final = 2654446892
CACHED_HASHES: Final = 65536  #: remembered hash values of clients, for speed only


class State:
    """The lookup table of a service (source: ip_vs_mh.c, struct ip_vs_mh_state).

    The kernel fills the table at every change of a destination. Here a change only empties it, and it is filled when it is
    looked at: a thousand destinations are added without a thousand fillings, and the difference cannot be seen, for nothing
    that enters the table changes without a callback.
    """

    __slots__ = ("_hashes", "_permutations", "counts", "gcd", "rshift", "stale", "table")

    def __init__(self) -> None:
        self.table: list[Dest | None] = [None] * TAB_SIZE
        self.counts: dict[Dest, int] = {}  #: slots of each destination; a reference is held for each
        self.stale = True  #: to be filled before it is looked at
        self.gcd = 0
        self.rshift = 0
        self._hashes: dict[int, int] = {}
        self._permutations: dict[int, tuple[int, int]] = {}

    def hash1(self, value: int) -> int:
        """The first hash of a 32-bit number, remembered."""
        result = self._hashes.get(value)
        if result is None:
            if len(self._hashes) >= CACHED_HASHES:
                self._hashes.clear()
            result = self._hashes[value] = hsiphash_u32(value, HASH1_KEY)
        return result

    def permutation(self, key: int) -> tuple[int, int]:
        """First slot and step of the order in which a destination asks for slots (source: ip_vs_mh.c, ip_vs_mh_permutate)."""
        found = self._permutations.get(key)
        if found is None:
            if len(self._permutations) >= CACHED_HASHES:
                self._permutations.clear()
            found = hsiphash_u32(key, HASH1_KEY) % TAB_SIZE, hsiphash_u32(key, HASH2_KEY) % (TAB_SIZE - 1) + 1
            self._permutations[key] = found
        return found

    def measure(self, destinations: list[Dest]) -> None:
        """Find the divisor and the shift that make weights into turns (source: ip_vs_mh.c, ip_vs_mh_gcd_weight, ip_vs_mh_shift_weight)."""
        self.gcd = gcd(*(dest.last_weight for dest in destinations))
        largest = max((dest.last_weight for dest in destinations), default=0)
        self.rshift = max(0, (largest // self.gcd).bit_length() - TAB_BITS) if self.gcd else 0

    def empty(self) -> None:
        """Give all references back; the table is stale."""
        if self.stale:
            return
        for dest, count in self.counts.items():
            for _ in range(count):
                dest.put()
        self.counts = {}
        self.table = [None] * TAB_SIZE
        self.stale = True

    def fill(self, svc: Service, destinations: list[Dest]) -> None:
        """Deal the slots out: each destination in turn takes the next free ones of its own order (source: ip_vs_mh.c, ip_vs_mh_populate)."""
        self.measure(destinations)
        self.stale = False
        if not self.gcd:
            return
        weighted = [dest for dest in destinations if dest.last_weight]
        turns = [self._turns(dest) for dest in weighted]
        orders = [self.permutation(dest_key(svc, dest)) for dest in weighted]
        perms = [offset for offset, _ in orders]
        table = self.table
        left = TAB_SIZE
        while left:
            for index, dest in enumerate(weighted):
                perm, skip = perms[index], orders[index][1]
                for _ in range(min(turns[index], left)):
                    while table[perm] is not None:
                        perm += skip
                        if perm >= TAB_SIZE:
                            perm -= TAB_SIZE
                    table[perm] = dest
                    left -= 1
                perms[index] = perm
        for owner in table:
            if owner is not None:
                owner.hold()
                self.counts[owner] = self.counts.get(owner, 0) + 1

    def _turns(self, dest: Dest) -> int:
        """Slots that a destination takes in a row; a weight never shrinks to nothing."""
        return dest.last_weight // self.gcd >> self.rshift or 1

    def ready(self, svc: Service) -> list[Dest | None]:
        """The table, filled."""
        if self.stale:
            self.fill(svc, svc.destinations)
        return self.table


class MaglevHashing(Scheduler):
    """Looks the client up in 4093 slots that were dealt out by weight in an order of each destination's own. State: a State."""

    name = "mh"

    def init_service(self, svc: Service) -> None:
        """Refuses (EINVAL) a service with more destinations than slots."""
        if svc.num_dests > TAB_SIZE:
            raise IPVSError(errno.EINVAL)
        svc.sched_data = State()

    def done_service(self, svc: Service) -> None:
        svc.sched_data.empty()

    def add_dest(self, svc: Service, dest: Dest) -> None:
        state: State = svc.sched_data
        if svc.num_dests > TAB_SIZE and state.stale:
            state.fill(svc, svc.destinations[1:])  # the newcomer is first: the table stays as it was without it
        self._changed(svc)

    def del_dest(self, svc: Service, dest: Dest, position: int) -> None:
        self._changed(svc)

    def upd_dest(self, svc: Service, dest: Dest) -> None:
        self._changed(svc)

    def _changed(self, svc: Service) -> None:
        """With more destinations than slots the table stays as it is and may go on naming one that was deleted."""
        state: State = svc.sched_data
        if svc.num_dests > TAB_SIZE:
            state.measure(svc.destinations)
        else:
            state.empty()

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """The destination of the client's slot; with the fallback flag other slots if that one is not usable.

        The flags are read for every packet. O(1) but for the first call after a change, which fills the table.
        """
        state: State = svc.sched_data
        table = state.ready(svc)
        key = client_key(svc, iph, IP_VS_SVC_F_SCHED_MH_PORT)
        slot = state.hash1(key) % TAB_SIZE
        dest = table[slot]
        if dest is not None and not usable(dest):
            dest = self._fallback(state, key, slot) if svc.flags & IP_VS_SVC_F_SCHED_MH_FALLBACK else None
        if dest is None:
            self.error(svc, NO_DESTINATION)
        return dest

    @staticmethod
    def _fallback(state: State, key: int, slot: int) -> Dest | None:
        """Slots found by hashing again with an offset: they jump about, some come twice, some never."""
        for offset in range(TAB_SIZE):
            dest = state.table[state.hash1(key + (slot + offset) % TAB_SIZE & U32) % TAB_SIZE]
            if dest is None or usable(dest):
                return dest
        return None

    def references(self, svc: Service) -> Iterable[Dest]:
        """One for each slot."""
        return [dest for dest in svc.sched_data.table if dest is not None]

    def score(self, svc: Service, dest: Dest) -> int | None:
        """The number of slots that lead to the destination."""
        if not usable(dest):
            return None
        state: State = svc.sched_data
        state.ready(svc)
        return state.counts.get(dest, 0)
