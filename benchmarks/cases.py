"""The cases: E established packets, C churn, T timers, S size of the rules, M memory; each asserts that the model did what it is timed for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable

from benchmarks.measure import Figure, compare
from ipvs_model import IPVS, Dest, Environment, Hook, Packet, Verdict
from ipvs_model.packet.view import fill_iph

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


Case = tuple[Callable[[], None], Callable[[], None], int]


def wlc_choices(dests: int, choices: int) -> Case:
    """wlc's choice among many destinations of weights 1 to 3 under load, to a loop that compares two attributes of each."""
    ipvs = director(dests)
    svc = ipvs.services[0]
    for number, dest in enumerate(svc.destinations):
        ipvs.edit_dest(svc, dest, weight=1 + number % 3)
        dest.activeconns, dest.totalconns = 10 + number * 7 % 50, 60
    syn = Packet.tcp(client(0), VIP, "S")
    header, scheduler = fill_iph(syn), svc.scheduler
    best = min(svc.destinations, key=lambda dest: (dest.activeconns * 256 + dest.totalconns) / dest.weight)

    def case() -> None:
        for _ in range(choices):
            assert scheduler.schedule(svc, syn, header) is best

    def floor() -> None:
        for _ in range(choices):
            least: Dest = svc.destinations[0]
            for dest in svc.destinations:
                if dest.activeconns * least.weight < least.activeconns * dest.weight:
                    least = dest

    return case, floor, choices


def s1() -> Figure:
    """wlc over 1,000 destinations."""
    return compare("S1", "wlc: a choice among 1,000 destinations, to a loop over them", *wlc_choices(1000, 20), 3)


def mh_choices(dests: int, clients: int) -> Case:
    """mh's choice among many destinations."""
    ipvs = director(dests, "mh")
    svc = ipvs.services[0]
    syns = [Packet.tcp(client(number * 50), VIP, "S") for number in range(clients)]
    asked = [(syn, fill_iph(syn)) for syn in syns]
    schedule = svc.scheduler.schedule
    chosen = [schedule(svc, syn, header) for syn, header in asked]
    assert len(set(chosen)) > min(dests, clients) // 2

    def case() -> None:
        for number, (syn, header) in enumerate(asked):
            assert schedule(svc, syn, header) is chosen[number]

    return case, floor_of([(syn, Hook.LOCAL_IN) for syn in syns], 1), clients


def s2() -> Figure:
    """mh over 1,000 destinations."""
    return compare("S2", "mh: a choice among 1,000 destinations", *mh_choices(1000, 2000), 10)


def mh_tables(dests: int) -> Case:
    """mh's table dealt out anew after an edit, to 4,093 stores into a list and as many counters."""
    ipvs = director(dests, "mh")
    svc = ipvs.services[0]
    syn = Packet.tcp(client(0), VIP, "S")
    header = fill_iph(syn)
    weights = [2, 1]
    counters = [Floor() for _ in range(dests)]

    def case() -> None:
        weights.reverse()
        ipvs.edit_dest(svc, svc.destinations[0], weight=weights[0])
        assert svc.scheduler.schedule(svc, syn, header) in svc.destinations
        assert sum(dest.refcnt - 1 for dest in svc.destinations) == 4093

    def floor() -> None:
        table: list[Floor | None] = [None] * 4093
        for slot in range(4093):
            table[slot] = counters[slot % dests]
            counters[slot % dests].n += 1

    return case, floor, 1


def s3() -> Figure:
    """mh's table over 1,000 destinations."""
    return compare("S3", "mh: the table of 1,000 destinations dealt out anew", *mh_tables(1000), 25)


def many_services(services: int, conns: int) -> Case:
    """Connections begun and forgotten, spread over many services, to the same over one."""
    directors = []
    for count in (services, 1):
        ipvs = IPVS(QUIET)
        ipvs.sysctl_write("run_estimation", 0)
        for number in range(count):
            svc = ipvs.add_service("tcp", (0xC0000200 + number // 200, 1000 + number % 200), scheduler="rr")
            ipvs.add_dest(svc, (0x0A010000 + number + 1, 8080))
        syns = [Packet.tcp(client(number), (0xC0000200 + number % count // 200, 1000 + number % count % 200), "S", device="cli") for number in range(conns)]
        directors.append((ipvs, syns))

    def play(ipvs: IPVS, syns: list[Packet]) -> None:
        for syn in syns:
            assert ipvs.process(syn).verdict is Verdict.STOLEN
        assert ipvs.ns.conn_count == conns
        ipvs.clock.advance(seconds=63)
        assert ipvs.ns.conn_count == 0

    return lambda: play(*directors[0]), lambda: play(*directors[1]), conns


def s4() -> Figure:
    """1,000 services."""
    return compare("S4", "a connection begun and forgotten with 1,000 services, to the same with one", *many_services(1000, 2000), 1.5, collect=True, rounds=5)


def m1(conns: int = 1_000_000) -> Figure:
    """Memory of a connection in a fresh process: growth of the resident set over so many established ones."""
    script = f"from benchmarks.memory import main; main({conns})"
    result = json.loads(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)
    return Figure("M1", f"resident bytes a connection, {conns:,} established", "B", (result["bytes"],), 450)


CASES = {"E1": e1, "E3": e3, "E4": e4, "E5": e5, "C1": c1, "T1": t1, "S1": s1, "S2": s2, "S3": s3, "S4": s4, "M1": m1}
