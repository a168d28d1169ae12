"""The scheduler vectors: 371 conversations with a service, and 72 hashes, computed from the 6.12 code."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from tests.schedulers.bench import Bench, Queue, as_int, name_of, state

from ipvs_model.addresses import parse_addr
from ipvs_model.dest import Dest
from ipvs_model.errors import IPVSError
from ipvs_model.flags import AF_INET, AF_INET6
from ipvs_model.schedulers.hashing import dest_key, fold, hash_32
from ipvs_model.schedulers.mh import State, hsiphash_u32

VECTORS = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "schedulers.json.gz").read_bytes()))


class Replay:
    """Runs the steps of a case and collects the results."""

    def __init__(self, case: dict[str, Any]) -> None:
        service = case["service"]
        late = case.get("bind_after_dests", False)
        af = AF_INET6 if service["af"] == "inet6" else AF_INET
        self.scheduler: str = case["scheduler"]
        self.bench = Bench(None if late else self.scheduler, af=af, protocol=service["protocol"], flags=service["flags"])
        self.queue = Queue()
        self.bench.ns.rng = self.queue  # type: ignore[assignment]
        for dest in case["dests"]:
            self.bench.add(dest["dest"], dest["weight"])
        if late:
            self.bench.bind(self.scheduler)
        self.bench.reports()
        self.results: list[Any] = []

    def step(self, step: dict[str, Any]) -> None:
        getattr(self, "do_" + step["op"])(**{key: value for key, value in step.items() if key != "op"})

    def _schedule(self, opened: str | None, **fields: Any) -> Dest | None:
        dest = self.bench.ask(self.bench.header(**fields))
        if dest is not None and opened:
            dest.totalconns += 1
            dest.activeconns += opened == "active"
        return dest

    def do_schedule(self, n: int = 1, no_ports: bool = False, open: str | None = None, **fields: Any) -> None:
        if no_ports:
            fields |= {"sport": None, "dport": None}
        for _ in range(n):
            dest = self._schedule(open, **fields)
            reports = [line.split(" - ", 1)[1] for line in self.bench.reports()]
            if dest is not None:
                assert not reports
                self.results.append(name_of(dest))
            else:
                assert len(reports) <= 1
                self.results.append({"none": reports[0] if reports else None})

    def do_schedule_range(self, base: str, count: int, field: str, open: str | None = None) -> None:
        first = as_int(base)
        counts = Counter(name_of(self._schedule(open, **{field: first + number})) or "NULL" for number in range(count))
        self.results.append({"counts": counts})

    def do_add(self, dest: str, weight: int) -> None:
        self.bench.add(dest, weight)

    def do_add_range(self, base: str, count: int, weight: int) -> None:
        for number in range(count):
            self.bench.add(f"{ip_address(base) + number}:80", weight)

    def do_edit(self, dest: str, weight: int) -> None:
        self.bench.edit(dest, weight)

    def do_del(self, dest: str) -> None:
        self.bench.delete(dest)

    def do_conns(self, dest: str, active: int, total: int) -> None:
        self.bench.conns(dest, active, total)

    def do_overload(self, dest: str, on: bool) -> None:
        self.bench.overload(dest, on)

    def do_flags(self, flags: int) -> None:
        self.bench.svc.flags = flags

    def do_advance(self, jiffies: int) -> None:
        self.bench.advance(jiffies)

    def do_expiration(self, jiffies: int) -> None:
        sysctl = self.bench.ns.sysctl
        sysctl.lblc_expiration = sysctl.lblcr_expiration = jiffies

    def do_timer(self, n: int = 1) -> None:
        for _ in range(n):
            self.bench.svc.sched_data.fire()

    def do_unbind(self) -> None:
        self.bench.unbind()

    def do_bind(self) -> None:
        try:
            self.bench.bind(self.scheduler)
        except IPVSError as error:
            assert error.errno is not None
            self.results.append({"bind": -error.errno})
        else:
            self.results.append({"bind": 0})
        self.bench.reports()

    def do_rebind(self) -> None:
        self.bench.unbind()
        self.bench.bind(self.scheduler)

    def do_random(self, values: list[int]) -> None:
        self.queue.values.clear()
        self.queue.values.extend(values)
        self.queue.ceilings.clear()

    def do_ceils(self) -> None:
        self.results.append({"ceilings": list(self.queue.ceilings)})
        self.queue.ceilings.clear()

    def do_state(self) -> None:
        self.results.append({"state": state(self.bench.svc)})


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    replay = Replay(case)
    for step in case["steps"]:
        replay.step(step)
    assert replay.results == case["expect"]


@pytest.mark.parametrize("vector", VECTORS["hashes"], ids=lambda vector: f"{vector['addr']}-{vector['port']}")
def test_hash(vector: dict[str, Any]) -> None:
    af, addr = parse_addr(vector["addr"])
    port = vector["port"]
    folded = fold(af, addr)
    svc = Bench(None, af=af).svc
    key = dest_key(svc, Dest(svc, af, addr, port))
    offset, skip = State().permutation(key)
    assert {
        "addr": vector["addr"],
        "port": port,
        "fold": folded,
        "dh": hash_32(folded, 8),
        "sh": hash_32((folded + port) & 0xFFFFFFFF, 8),
        "lblc": hash_32(folded, 10),
        "mh_hash1": hsiphash_u32(key, 2654435761),
        "mh_hash2": hsiphash_u32(key, 2654446892),
        "mh_offset": offset,
        "mh_skip": skip,
    } == vector


def test_the_file_is_the_whole_file() -> None:
    assert (len(VECTORS["cases"]), len(VECTORS["hashes"])) == (371, 72)
