"""The connection table: keys, lookups in both directions, hashing, the flush and random-drop walks.

One dict for each family and protocol, keyed by the client endpoint; entries of one client endpoint are chained, newest first. Both
directions look by the client side, as in the kernel. Buckets exist only where their order shows, computed on demand.

source: ip_vs_conn.c
"""

from __future__ import annotations

from collections.abc import Iterator

from ipvs_model.conn import LOOPBACK, Conn, ConnParam, Table, del_conn
from ipvs_model.events import ConnHashed, ConnLookup
from ipvs_model.flags import (
    AF_INET,
    IP_VS_CONN_F_FWD_MASK,
    IP_VS_CONN_F_HASHED,
    IP_VS_CONN_F_NO_CPORT,
    IP_VS_CONN_F_ONE_PACKET,
    IP_VS_CONN_F_TEMPLATE,
)
from ipvs_model.jhash import jhash, jhash_3words
from ipvs_model.netns import Netns


def conn_hashkey(af: int, protocol: int, endpoint: int, seed: int) -> int:
    """32-bit hash of a client endpoint (source: ip_vs_conn.c, ip_vs_conn_hashkey).

    >>> hex(conn_hashkey(2, 6, 0x0a000001 << 16 | 34567, 0))
    '0x2de1490f'
    """
    port = endpoint & 0xFFFF
    port = port >> 8 | (port & 255) << 8
    if af == AF_INET:
        word = int.from_bytes((endpoint >> 16).to_bytes(4, "big"), "little")
    else:
        word = jhash((endpoint >> 16).to_bytes(16, "big"), seed)
    return jhash_3words(word, port, protocol, seed)


class ConnTable:
    """All hashed entries of a namespace."""

    def __init__(self, ns: Netns) -> None:
        self.ns = ns
        self.mask = (1 << ns.env.tab_bits) - 1
        self.tables: dict[int, Table] = {}  #: family << 16 | protocol → client endpoint → newest entry
        self.engine_buckets: dict[int, Conn] = {}  #: bucket → newest entry that an engine hashed
        self.virtuals: set[int] = set()  #: virtual endpoints of the transmitters made so far
        self.special = set(LOOPBACK)  #: ``endpoint >> 40`` of all endpoints that are loopback or virtual
        self.crossed = False  #: some client endpoint has been a virtual one too
        self.seq = 0  #: the last ``Conn.hash_seq``
        self.filling: dict[int, Conn] | None = None  #: the table whose next entry gets the same
        self.born = 0, 0  #: ``Conn.born`` of ordinary entries put there in the jiffy ``born_at``
        self.born_at = -1

    # -- hashing ---------------------------------------------------------------------------------------------------

    def _place(self, cp: Conn) -> tuple[dict[int, Conn], int]:
        """The dict and key of an entry."""
        if cp.ext is not None and cp.ext.pe is not None and cp.ext.pe.hashkey_raw is not None and cp.ext.pe_data:
            return self.engine_buckets, cp.ext.pe.hashkey_raw(cp.ext.pe_data, self.ns.env.hash_seed, False) & self.mask
        return cp.table, cp.client

    def table(self, af: int, protocol: int) -> Table:
        """The dict of one family and protocol."""
        number = af << 16 | protocol
        table = self.tables.get(number)
        if table is None:
            table = self.tables[number] = Table()
            table.ns, table.af, table.protocol = self.ns, af, protocol
            table.odd = False
            table.services = self.ns.services.lane(number)
            table.virtual = self.ns.services.vips[af]
            self.ns.quick_changed()
        return table

    def add_virtual(self, endpoint: int) -> None:
        """A transmitter for a virtual endpoint was made."""
        self.virtuals.add(endpoint)
        self.special.add(endpoint >> 40)
        if not self.crossed and any(endpoint in table for table in self.tables.values()):
            self._cross()

    def _cross(self) -> None:
        self.crossed = True
        self.ns.quick_changed()

    def bucket(self, cp: Conn) -> int:
        """Bucket of an entry."""
        table, key = self._place(cp)
        return key if table is self.engine_buckets else conn_hashkey(cp.af, cp.protocol, key, self.ns.env.hash_seed) & self.mask

    def hash(self, cp: Conn) -> bool:
        """Put an entry in front of its bucket; not a one-packet one (source: ip_vs_conn.c, ip_vs_conn_hash)."""
        if cp.flags & IP_VS_CONN_F_ONE_PACKET:
            return False
        if cp.flags & IP_VS_CONN_F_HASHED:
            self.ns.log("err", "IPVS: ip_vs_conn_hash(): request for already hashed")
            return False
        cp.flags |= IP_VS_CONN_F_HASHED
        cp.refcnt += 1
        table, key = self._place(cp)
        cp.hnext = table.get(key)
        if cp.hnext is not None:
            cp.table.odd = True
        table[key] = cp
        self.number(cp, table)
        if key in self.virtuals and not self.crossed:
            self._cross()
        emit = self.ns.emit
        if emit is not None:
            emit(ConnHashed("ip_vs_conn_hash", cp.key(), True))
        return True

    def number(self, cp: Conn, table: dict[int, Conn]) -> None:
        """Give an entry that has just been put in a table its ``hash_seq``: one for as many as possible.

        An entry chained to older ones gets one of its own, since the dict keeps the place of the first under a key.
        """
        cp.born = self._next_seq(table, cp.hnext is not None), cp.born[1]

    def _next_seq(self, table: dict[int, Conn], is_chained: bool = False) -> int:
        if table is not self.filling or is_chained:
            self.seq += 1
            self.born_at = -1
        self.filling = None if is_chained else table
        return self.seq

    def newborn(self, table: Table) -> tuple[int, int]:
        """``born`` for a new entry, put in a table where nothing stands under its key."""
        seq = self._next_seq(table)
        self.born_at = now = self.ns.clock.now
        self.born = born = seq, now & ~3
        return born

    def _remove(self, cp: Conn) -> None:
        table, key = self._place(cp)
        head = table[key]
        if head is cp:
            if cp.hnext is None:
                del table[key]
            else:
                table[key] = cp.hnext
        else:
            while head.hnext is not cp:
                assert head.hnext is not None, f"{cp!r} is not in its chain"
                head = head.hnext
            head.hnext = cp.hnext
        cp.hnext = None
        cp.flags &= ~IP_VS_CONN_F_HASHED
        cp.refcnt -= 1
        emit = self.ns.emit
        if emit is not None:
            emit(ConnHashed("ip_vs_conn_unhash", cp.key(), False))

    def unhash(self, cp: Conn) -> bool:
        """Take an entry out; the caller holds it (source: ip_vs_conn.c, ip_vs_conn_unhash)."""
        if not cp.flags & IP_VS_CONN_F_HASHED:
            return False
        self._remove(cp)
        return True

    def unlink(self, cp: Conn) -> bool:
        """Take an entry out for good if nobody holds it (source: ip_vs_conn.c, ip_vs_conn_unlink)."""
        if cp.refcnt != 1:
            return False
        if cp.flags & IP_VS_CONN_F_ONE_PACKET:
            cp.refcnt = 0
            return True
        if not cp.flags & IP_VS_CONN_F_HASHED:
            return False
        self._remove(cp)
        return True

    # -- lookups ---------------------------------------------------------------------------------------------------

    def in_get(self, af: int, protocol: int, client: int, virt: int) -> Conn | None:
        """Find and hold the entry of a packet client → virtual (source: ip_vs_conn.c, ip_vs_conn_in_get)."""
        cp = self._in_get(af, protocol, client, virt)
        if cp is None and self.ns.no_cport_count:
            cp = self._in_get(af, protocol, client >> 16 << 16, virt)
        emit = self.ns.emit
        if emit is not None:
            emit(ConnLookup("ip_vs_conn_in_get", af, protocol, client, virt, cp.key() if cp is not None else None))
        if cp is not None:
            cp.get("ip_vs_conn_in_get")
        return cp

    def _in_get(self, af: int, protocol: int, client: int, virt: int) -> Conn | None:
        table = self.tables.get(af << 16 | protocol)
        if table is None:
            return None
        cp = table.get(client)
        wanted = 0 if client & 0xFFFF else IP_VS_CONN_F_NO_CPORT
        while cp is not None:
            if cp.virt == virt and cp.flags & IP_VS_CONN_F_NO_CPORT == wanted:
                return cp
            cp = cp.hnext
        return None

    def out_get(self, af: int, protocol: int, server: int, client: int) -> Conn | None:
        """Find and hold the entry of a packet server → client (source: ip_vs_conn.c, ip_vs_conn_out_get)."""
        table = self.tables.get(af << 16 | protocol)
        cp = table.get(client) if table is not None else None
        while cp is not None:
            if (cp.virt if cp.flags & IP_VS_CONN_F_FWD_MASK else cp.real) == server:
                break
            cp = cp.hnext
        emit = self.ns.emit
        if emit is not None:
            emit(ConnLookup("ip_vs_conn_out_get", af, protocol, server, client, cp.key() if cp is not None else None))
        if cp is not None:
            cp.get("ip_vs_conn_out_get")
        return cp

    def ct_in_get(self, param: ConnParam) -> Conn | None:
        """Find and hold a template (source: ip_vs_conn.c, ip_vs_ct_in_get)."""
        cp = self._ct_in_get(param)
        emit = self.ns.emit
        if emit is not None:
            emit(ConnLookup("ip_vs_ct_in_get", param.af, param.protocol, param.client, param.virt, cp.key() if cp is not None else None))
        if cp is not None:
            cp.get("ip_vs_ct_in_get")
        return cp

    def _ct_in_get(self, param: ConnParam) -> Conn | None:
        seed = self.ns.env.hash_seed
        if param.pe_data and param.pe is not None and param.pe.ct_match is not None:
            if param.pe.hashkey_raw is not None:
                cp = self.engine_buckets.get(param.pe.hashkey_raw(param.pe_data, seed, False) & self.mask)
            else:
                cp = self.table(param.af, param.protocol).get(param.client)
            while cp is not None:
                if cp.pe is param.pe and param.pe.ct_match(param, cp):
                    return cp
                cp = cp.hnext
            return None
        cp = self.table(param.af, param.protocol).get(param.client)
        while cp is not None and not self._ct_equal(param, cp):
            cp = cp.hnext
        if self.engine_buckets:
            # an engine's template that happens to share the bucket is found too
            other = self.engine_buckets.get(conn_hashkey(param.af, param.protocol, param.client, seed) & self.mask)
            while other is not None and not self._ct_equal(param, other):
                other = other.hnext
            if other is not None and (cp is None or other.hash_seq > cp.hash_seq):
                return other
        return cp

    @staticmethod
    def _ct_equal(param: ConnParam, cp: Conn) -> bool:
        return bool(
            cp.flags & IP_VS_CONN_F_TEMPLATE and cp.virt == param.virt and cp.client == param.client and cp.af == param.af and cp.protocol == param.protocol
        )

    # -- walks -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Conn]:
        """Every hashed entry, in no order that means anything; the table must not change meanwhile."""
        for table in (*self.tables.values(), self.engine_buckets):
            for cp in table.values():
                chained: Conn | None = cp
                while chained is not None:
                    yield chained
                    chained = chained.hnext

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def by_age(self) -> list[Conn]:
        """Every hashed entry, the one hashed first in front. O(n log n)."""
        return sorted(self, key=lambda cp: cp.hash_seq)

    def walk(self) -> list[Conn]:
        """Every hashed entry by bucket, newest first within a bucket. O(n log n)."""
        found = self.by_age()
        found.reverse()
        found.sort(key=self.bucket)
        return found

    def _flush(self, conns: list[Conn]) -> None:
        """Remove entries and the controllers that they leave idle."""
        for cp in conns:
            control = cp.control
            del_conn(cp)
            if control is not None and not control.n_control:
                del_conn(control)

    def flush(self) -> None:
        """Remove every entry, controlled ones first (source: ip_vs_conn.c, ip_vs_conn_flush)."""
        while len(self):
            before = len(self)
            for cp in self.walk():
                if cp.is_hashed and not cp.n_control:
                    self._flush([cp])
            if len(self) == before:
                break

    def expire_nodest(self) -> None:
        """Remove every entry whose destination is deleted (source: ip_vs_conn.c, ip_vs_expire_nodest_conn_flush)."""
        for cp in self.walk():
            if cp.is_hashed and cp.dest is not None and not cp.dest.available and not cp.n_control:
                self._flush([cp])

    def in_buckets(self, buckets: set[int]) -> dict[int, list[Conn]]:
        """The entries of some buckets, newest first."""
        found: dict[int, list[Conn]] = {bucket: [] for bucket in buckets}
        for cp in reversed(self.by_age()):
            bucket = self.bucket(cp)
            if bucket in found:
                found[bucket].append(cp)
        return found
