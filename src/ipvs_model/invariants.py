"""What must hold between operations: counts recomputed from their holders, tables that agree, no entry without a timer.

``check(ns)`` raises AssertionError naming the object that is wrong; run it after every step of a test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import copy
from typing import Any

from ipvs_model.apps.base import check as check_apps
from ipvs_model.conn import Conn
from ipvs_model.dest import Dest
from ipvs_model.flags import (
    IP_VS_CONN_F_HASHED,
    IP_VS_CONN_F_INACTIVE,
    IP_VS_CONN_F_NO_CPORT,
    IP_VS_CONN_F_ONE_PACKET,
    IP_VS_CONN_F_TEMPLATE,
    IP_VS_DEST_F_OVERLOAD,
    IP_VS_SVC_F_HASHED,
)
from ipvs_model.netns import Netns
from ipvs_model.service import Service


def check(ns: Netns, held: tuple[Conn, ...] = ()) -> None:
    """Check everything; ``held``: entries on which the caller holds references, once for each."""
    conns = list(ns.conns)
    dests = list(all_dests(ns, conns))
    check_table(ns, conns)
    check_references(ns, conns, held)
    check_control(conns)
    check_dests(ns, conns, dests)
    check_services(ns, dests)
    check_timers(ns, conns)
    check_apps(ns)


def all_dests(ns: Netns, conns: list[Conn]) -> Iterator[Dest]:
    """Every destination that is linked, in the trash, or bound."""
    seen: dict[int, Dest] = {}
    for svc in ns.services:
        for dest in svc.destinations:
            seen[id(dest)] = dest
    for dest in (*ns.trash.dests, *(cp.dest for cp in conns if cp.dest is not None)):
        seen[id(dest)] = dest
    yield from seen.values()


def check_table(ns: Netns, conns: list[Conn]) -> None:
    """Every entry stands where its key says, once."""
    assert len({id(cp) for cp in conns}) == len(conns), "an entry stands in the table twice"
    for number, table in ns.conns.tables.items():
        for client, head in table.items():
            cp: Conn | None = head
            last = None
            while cp is not None:
                assert (cp.af << 16 | cp.protocol, cp.client) == (number, client), f"{cp!r} stands under another key"
                assert last is None or last.hash_seq > cp.hash_seq, f"{cp!r} is newer than the entry before it"
                last, cp = cp, cp.hnext
    for cp in conns:
        assert cp.flags & IP_VS_CONN_F_HASHED, f"{cp!r} is in the table without HASHED"
        assert not cp.flags & IP_VS_CONN_F_ONE_PACKET, f"{cp!r} is a one-packet entry in the table"
    no_cport = sum(1 for cp in conns if cp.flags & IP_VS_CONN_F_NO_CPORT)
    assert ns.no_cport_count == no_cport, f"no_cport_count {ns.no_cport_count}, entries without client port {no_cport}"
    assert ns.conn_count == len(conns), f"conn_count {ns.conn_count}, entries {len(conns)}"


def check_references(ns: Netns, conns: list[Conn], held: tuple[Conn, ...]) -> None:
    """An entry is held by the table and by whoever says so, nobody else."""
    holders = Counter(id(cp) for cp in held)
    for cp in conns:
        assert cp.refcnt == 1 + holders[id(cp)], f"{cp!r} is held by {cp.refcnt}, the table and {holders[id(cp)]} others"


def check_control(conns: list[Conn]) -> None:
    """n_control is the number of entries that are controlled; controllers are alive."""
    controlled = Counter(id(cp.control) for cp in conns if cp.control is not None)
    alive = {id(cp) for cp in conns}
    for cp in conns:
        assert cp.n_control == controlled[id(cp)], f"{cp!r} controls {controlled[id(cp)]}"
        assert cp.control is None or id(cp.control) in alive, f"{cp!r} is controlled by an entry that is gone: {cp.control!r}"


def check_dests(ns: Netns, conns: list[Conn], dests: list[Dest]) -> None:
    """Connection counters and references of every destination, recomputed."""
    total: Counter[int] = Counter()
    active: Counter[int] = Counter()
    persist: Counter[int] = Counter()
    for cp in conns:
        if cp.dest is None:
            continue
        if cp.flags & IP_VS_CONN_F_TEMPLATE:
            persist[id(cp.dest)] += 1
        else:
            total[id(cp.dest)] += 1
            active[id(cp.dest)] += not cp.flags & IP_VS_CONN_F_INACTIVE
    table_refs = scheduler_references(ns)
    for dest in dests:
        key = id(dest)
        counts = (dest.activeconns, dest.totalconns, dest.persistconns)
        real = (active[key], total[key], persist[key])
        assert counts == real, f"{dest!r} counts active, total, persistent {counts}, its entries are {real}"
        refs = 1 + total[key] + persist[key] + table_refs[key]
        assert dest.refcnt == refs, f"{dest!r} has refcnt {dest.refcnt}, its holders are {refs}"
        check_overload(dest)


def check_overload(dest: Dest) -> None:
    """OVERLOAD is never set without thresholds, always at the upper one, never below the lower one."""
    overloaded = bool(dest.flags & IP_VS_DEST_F_OVERLOAD)
    if not dest.u_threshold:
        assert not overloaded, f"{dest!r} is overloaded without a threshold"
    elif dest.totalconns >= dest.u_threshold:
        assert overloaded, f"{dest!r} is not overloaded at {dest.totalconns} of {dest.u_threshold}"
    elif dest.totalconns < dest.l_threshold_val:
        assert not overloaded, f"{dest!r} is overloaded at {dest.totalconns}, below {dest.l_threshold_val}"


def scheduler_references(ns: Netns) -> Counter[int]:
    """References that schedulers' tables hold, by destination."""
    refs: Counter[int] = Counter()
    for svc in ns.services:
        if svc.scheduler is not None:
            refs.update(id(dest) for dest in svc.scheduler.references(svc))
    return refs


def check_services(ns: Netns, dests: list[Dest]) -> None:
    """Service tables, counters that gate lookups, and references of services."""
    services = list(ns.services)
    bound = Counter(id(dest.svc) for dest in dests if dest.svc is not None)
    for svc in services:
        assert svc.flags & IP_VS_SVC_F_HASHED, f"{svc!r} is in the table without HASHED"
        assert svc.refcnt == 1 + bound[id(svc)], f"{svc!r} has refcnt {svc.refcnt}, {bound[id(svc)]} destinations are bound to it"
        for dest in svc.destinations:
            assert dest.svc is svc and dest.available, f"{dest!r} is in the list of {svc!r}, but not its own"
        check_search(svc)
    expected: dict[str, Any] = {
        "num_services": sum(1 for svc in services if svc.af == 2),
        "num_services6": sum(1 for svc in services if svc.af != 2),
        "ftpsvc_counter": sum(1 for svc in services if svc.port == 21),
        "nullsvc_counter": sum(1 for svc in services if svc.port == 0),
        "conn_out_counter": sum(1 for svc in services if svc.pe is not None and svc.pe.conn_out is not None),
        "mixed_address_family_dests": sum(1 for svc in services for dest in svc.destinations if dest.af != svc.af),
    }
    for name, value in expected.items():
        assert getattr(ns, name) == value, f"{name} is {getattr(ns, name)}, recomputed {value}"
    for dest in ns.trash.dests:
        assert not dest.available, f"{dest!r} is in the trash and available"
        assert dest.svc is not None and not any(dest is linked for linked in dest.svc.destinations), f"{dest!r} is in the trash and in a service"
    in_table = list(ns.rs_table)
    assert len({id(dest) for dest in in_table}) == len(in_table), "a destination stands in the real-server table twice"
    for dest in in_table:
        assert dest.in_rs_table and dest.available, f"{dest!r} is in the real-server table, but not available"


def check_search(svc: Service) -> None:
    """What a service remembers of weights and overheads is so."""
    weights = {dest.weight for dest in svc.destinations}
    assert svc.even in (None, len(weights) == 1 and min(weights) > 0), f"{svc!r} remembers {svc.even} of weights {weights}"
    if svc.ebb == svc.ipvs.ebb:
        assert svc.even, f"{svc!r} remembers the least overhead of weights {weights}"
        to_come = (svc.candidate, *copy(svc.candidates))
        for dest in svc.destinations:
            assert dest.overhead >= svc.least + (dest not in to_come), f"{dest!r} has overhead {dest.overhead}, {svc!r} believes in {svc.least} of {to_come}"


def check_timers(ns: Netns, conns: list[Conn]) -> None:
    """Every entry's timer is pending; the clock's lists are whole."""
    for cp in conns:
        assert cp.bucket is not None, f"{cp!r} has no timer"
    assert bool(ns.trash.dests) <= ns.trash.timer.pending, "the trash is not empty, but its timer does not run"
    ns.clock.check()
