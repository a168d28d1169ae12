"""The cases: E established packets, C churn, T timers, M memory; each asserts that the model did what it is timed for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable

from benchmarks.measure import Figure, compare
from ipvs_model import IPVS, Environment, Hook, Packet, Verdict

VIP = "192.0.2.1:80"
QUIET = Environment()


class Floor:
    """What a floor call updates."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


def director(dests: int = 16, scheduler: str = "wlc") -> IPVS:
    """A director with one NAT service."""
    ipvs = IPVS(QUIET)
    ipvs.sysctl_write("run_estimation", 0)
    svc = ipvs.add_service("tcp", VIP, scheduler=scheduler)
    for number in range(dests):
        ipvs.add_dest(svc, (0x0A010000 + number + 1, 8080))
    return ipvs


def client(number: int) -> tuple[int, int]:
    """A client endpoint, ports as varied as real ones."""
    return 0xCB007100 + number // 50, 1024 + number * 37 % 60000


def establish(ipvs: IPVS, count: int) -> list[tuple[Packet, Hook]]:
    """Open connections and return one packet for each direction of each."""
    packets = []
    for number in range(count):
        source = client(number)
        ipvs.process(Packet.tcp(source, VIP, "S", device="cli"))
        ipvs.process(Packet.tcp(source, VIP, "A", device="cli"))
    for cp in ipvs.ns.conns:
        source = (cp.caddr, cp.cport)
        packets.append((Packet.tcp(source, VIP, "A", device="cli"), Hook.LOCAL_IN))
        packets.append((Packet.tcp((cp.daddr, cp.dport), source, "A", device="rs"), Hook.FORWARD))
    assert len(packets) == 2 * count and ipvs.ns.conn_count == count
    random.Random(1).shuffle(packets)
    return packets


def floor_of(packets: list[tuple[Packet, Hook]], repeat: int) -> Callable[[], None]:
    """A call, a dict lookup and an attribute update for each packet."""
    table = {packet.src: Floor() for packet, _ in packets}
    get = table.get

    def floor(packet: Packet) -> Floor | None:
        counter = get(packet.src)
        counter.n += 1  # type: ignore[union-attr]
        return counter

    def run() -> None:
        for _ in range(repeat):
            for packet, _hook in packets:
                floor(packet)

    return run


def established(conns: int, per_tick: int, repeat: int, apply: bool = False) -> tuple[Callable[[], None], Callable[[], None], int]:
    """Packets of established NAT connections in both directions, the clock moving every ``per_tick`` packets."""
    ipvs = director()
    packets = establish(ipvs, conns)
    process, advance = ipvs.fast.process, ipvs.clock.advance
    for packet, hook in packets:
        assert process(packet, hook).verdict is (Verdict.STOLEN if hook is Hook.LOCAL_IN else Verdict.ACCEPT)
    chunks = [packets[start : start + per_tick] for start in range(0, len(packets), per_tick)]

    def run() -> None:
        for _ in range(repeat):
            for chunk in chunks:
                advance(1)
                for packet, hook in chunk:
                    process(packet, hook)

    def run_apply() -> None:
        for _ in range(repeat):
            for chunk in chunks:
                advance(1)
                for packet, hook in chunk:
                    process(packet, hook).apply(packet)

    return (run_apply if apply else run), floor_of(packets, repeat), len(packets) * repeat


def e1() -> Figure:
    """Established NAT, 1,000 connections, 400 packets a tick, verdict only."""
    case, floor, operations = established(1000, 400, 20)
    return compare("E1", "established NAT packet, 1,000 connections, 400 packets a tick", case, floor, operations, 8)


def e3() -> Figure:
    """E1 with a new translated packet for each."""
    case, floor, operations = established(1000, 400, 20, apply=True)
    return compare("E3", "the same with a new translated packet each", case, floor, operations, 11)


def e4() -> Figure:
    """E1 with the clock moving on every packet."""
    case, floor, operations = established(1000, 1, 10)
    return compare("E4", "E1, the clock moves on every packet", case, floor, operations, 10)


def e5() -> Figure:
    """100,000 connections hit at random."""
    case, floor, operations = established(100_000, 400, 1)
    return compare("E5", "E1 with 100,000 connections hit at random", case, floor, operations, 6, rounds=5)


FLOW = (("S", Hook.LOCAL_IN), ("SA", Hook.FORWARD), ("A", Hook.LOCAL_IN), ("PA", Hook.LOCAL_IN), ("A", Hook.FORWARD), ("FA", Hook.LOCAL_IN))
FLOW += (("FA", Hook.FORWARD), ("A", Hook.LOCAL_IN))


def c1(conns: int = 2000) -> Figure:
    """Connections from SYN to expiry: eight packets built and processed, wlc over 16 destinations, to a composite floor."""
    sources = [client(number) for number in range(conns)]
    server = (0x0A010001, 8080)

    def case() -> None:
        ipvs = director()
        process = ipvs.process
        for number, source in enumerate(sources):
            if number % 50 == 0:
                ipvs.clock.advance(1)
            real = server
            for flags, hook in FLOW:
                if hook is Hook.LOCAL_IN:
                    process(Packet.tcp(source, VIP, flags, device="cli"))
                    if flags == "S":
                        cp = ipvs.ns.conns.tables[2 << 16 | 6][source[0] << 16 | source[1]]
                        real = (cp.daddr, cp.dport)
                else:
                    process(Packet.tcp(real, source, flags, device="rs"), hook)
        ipvs.clock.advance(seconds=130)
        assert ipvs.ns.conn_count == 0

    def floor() -> None:
        table: dict[int, Floor] = {}
        get = table.get
        for source in sources:
            packets = [Packet.tcp(source, VIP, flags) if hook is Hook.LOCAL_IN else Packet.tcp(server, source, flags) for flags, hook in FLOW]
            key = source[0] << 16 | source[1]
            counter = table[key] = Floor()
            table[-key] = counter
            for _ in packets:
                found = get(key)
                found.n += 1  # type: ignore[union-attr]
            del table[key], table[-key]

    return compare("C1", "a connection's whole life, 8 packets, wlc over 16", case, floor, conns, 4, collect=True, rounds=5)


def t1(conns: int = 50_000) -> Figure:
    """Expiring connections, to a dict delete and an attribute update each."""
    directors = [director() for _ in range(6)]
    for ipvs in directors:
        establish(ipvs, conns)
    floors = [{number: Floor() for number in range(conns)} for _ in range(6)]
    waiting, tables = list(directors), list(floors)

    def case() -> None:
        ipvs = waiting.pop()
        ipvs.clock.advance(seconds=920)
        assert ipvs.ns.conn_count == 0

    def floor() -> None:
        table = tables.pop()
        for number in list(table):
            table[number].n += 1
            del table[number]

    return compare("T1", "expiring a connection", case, floor, conns, 8, rounds=5)


def m1(conns: int = 1_000_000) -> Figure:
    """Memory of a connection in a fresh process: growth of the resident set over so many established ones."""
    script = f"from benchmarks.memory import main; main({conns})"
    result = json.loads(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)
    return Figure("M1", f"resident bytes a connection, {conns:,} established", "B", (result["bytes"],), 450)


CASES = {"E1": e1, "E3": e3, "E4": e4, "E5": e5, "C1": c1, "T1": t1, "M1": m1}
