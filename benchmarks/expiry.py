"""T: timers. Before anything is timed, the clock's firing sequence is compared with the naive clock of the tests."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from tests.naive_timers import NaiveClock

from benchmarks.measure import Case, Pair, cpu, timed
from benchmarks.traffic import Floor, arrivals, client, connect, director, floor_over
from ipvs_model import IPVS
from ipvs_model.conn import Conn
from ipvs_model.protocol import State
from ipvs_model.protocols.tcp import ESTABLISHED, FIN_WAIT
from ipvs_model.timers import Clock, FunctionTimer

HZ = 250


def assert_fires_as_the_kernel_would(timers: int = 40, steps: int = 300) -> None:
    """Arm, re-arm and advance at random, both clocks alike: the same timers at the same ticks in the same order."""
    rng = random.Random(7)
    fired: list[tuple[int, str]] = []
    naive_fired: list[tuple[int, str]] = []
    clock = Clock(HZ)
    naive = NaiveClock(HZ, clock.now, lambda name: naive_fired.append((naive.now, name)))
    names = [f"t{number}" for number in range(timers)]
    armed = {name: FunctionTimer(lambda name=name: fired.append((clock.now, name))) for name in names}
    for _ in range(steps):
        name, delay = rng.choice(names), HZ * rng.choice((10, 30, 60, 120, 900))
        clock.mod_timer(armed[name], clock.now + delay)
        naive.mod_timer(name, naive.now + delay)
        step = rng.choice((0, 1, 1, 7, HZ, 20 * HZ))
        clock.advance(step)
        naive.advance(step)
    clock.advance(seconds=1000)
    naive.advance(1000 * HZ)
    assert fired == naive_fired and len(fired) >= timers


def expire(conns: int = 200_000, stepwise: bool = False) -> Pair:
    """Established connections run out, in one call or in steps of a jiffy. Floor: an attribute update and a dict delete for each client."""
    assert_fires_as_the_kernel_would()

    def model() -> float:
        ipvs = director()
        connect(ipvs, conns)
        ipvs.clock.advance(seconds=880)
        assert ipvs.ns.conn_count == conns
        seconds = cpu(partial(_step, ipvs, 40 * HZ) if stepwise else partial(ipvs.clock.advance, seconds=40))
        assert ipvs.ns.conn_count == 0
        return seconds

    def floor() -> float:
        table = {client(number): Floor() for number in range(conns)}
        return cpu(partial(_forget, table))

    return Pair(model, floor, conns)


def _step(ipvs: IPVS, jiffies: int) -> None:
    advance = ipvs.clock.advance
    for _ in range(jiffies):
        advance(1)


def _forget(table: dict[int, Floor]) -> None:
    for number in list(table):
        table[number].n += 1
        del table[number]


class Stored:
    """A method of three arguments that stores one attribute."""

    __slots__ = ("value",)

    def store(self, value: int, _second: int, _third: int) -> None:
        self.value = value


def rearm(conns: int = 10_000, per_tick: int = 400, repeat: int = 4, kind: str = "same") -> Pair:
    """Connections hit at random are re-armed: in the "same" bucket, into a new "bucket", or with another "state". Floor: ``Stored.store``."""
    assert_fires_as_the_kernel_would()
    ipvs = director()
    connect(ipvs, conns)
    entries = list(ipvs.ns.conns)
    random.Random(2).shuffle(entries)
    chunks = [entries[start : start + per_tick] for start in range(0, conns, per_tick)]
    states = ipvs.ns.protocols[6].states
    established, closing = states[ESTABLISHED], states[FIN_WAIT]
    run = {
        "same": partial(_rearm_all, ipvs, chunks, repeat, 1),
        "bucket": partial(_rearm_all, ipvs, chunks, repeat, 2100),
        "state": partial(_change_states, ipvs, chunks, repeat, (closing, established)),
    }[kind]
    run()
    assert all(cp.expires > ipvs.clock.now for cp in entries)
    stored = [[Stored() for _ in chunk] for chunk in chunks]

    def floor() -> None:
        for _ in range(repeat):
            for chunk in stored:
                for one in chunk:
                    one.store(1, 2, 3)

    return Pair(timed(run), timed(floor), conns * repeat)


def _rearm_all(ipvs: IPVS, chunks: list[list[Conn]], repeat: int, step: int) -> None:
    """``step``: jiffies between two chunks; 4,096 is the width of the bucket that 900 s fall into."""
    advance, timeout = ipvs.clock.advance, 900 * HZ
    for _ in range(repeat):
        for chunk in chunks:
            advance(step)
            for cp in chunk:
                cp.arm(timeout)


def _change_states(ipvs: IPVS, chunks: list[list[Conn]], repeat: int, states: tuple[State, State]) -> None:
    advance = ipvs.clock.advance
    for number in range(repeat):
        state = states[number % 2]
        timeout = state.timeout
        for chunk in chunks:
            advance(1)
            for cp in chunk:
                cp.state = state
                cp.arm(timeout)


def idle_ticks(pending: bool, ticks: int = 20_000) -> Pair:
    """``advance(1)`` when nothing is due, beside as many floor calls; ``pending``: a thousand connections wait."""
    ipvs = director()
    connect(ipvs, 1000)
    floor = floor_over(packets := arrivals(ipvs, 1000), [cp.client for cp in ipvs.ns.conns], ticks // 2000)
    clock = ipvs.clock if pending else Clock(HZ)
    advance = clock.advance

    def model() -> float:
        for cp in ipvs.ns.conns:  # nothing of theirs falls due meanwhile
            cp.arm(3000 * HZ)
        return cpu(run)

    def run() -> None:
        for _ in range(ticks):
            advance(1)

    return Pair(model, timed(floor), len(packets) * (ticks // 2000))


def _case(id: str, what: str, make: Callable[[], Pair], allocates: bool = False, rounds: int = 9) -> Case:
    return Case(id, what, make, unit="floors", allocates=allocates, rounds=rounds)


CASES = [
    _case("T1", "one of 200,000 connections expires, all in one advance", expire, True, 7),
    _case("T1.step", "the same in steps of a jiffy", partial(expire, 50_000, True), True, 7),
    _case("T2", "an entry's timer re-armed in the same state, 10,000 connections", rearm),
    _case("T2.move", "the same, into another bucket every other tick", partial(rearm, kind="bucket")),
    _case("T2.state", "the same with another state each time", partial(rearm, kind="state")),
    Case("T3", "advance by an idle tick, 1,000 connections waiting", partial(idle_ticks, True)),
    Case("T3I", "advance by an idle tick, no timers", partial(idle_ticks, False)),
]
