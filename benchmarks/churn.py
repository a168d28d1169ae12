"""C: connections from their first packet to their end, to composite floors made of the same packets and bare Python objects."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.measure import Case, Pair, cpu
from benchmarks.traffic import ACK, SYN, VIP, Floor, client, connect, director
from ipvs_model import IPVS, Hook, Packet
from ipvs_model.flags import AF_INET

FIN = 1
IN, OUT = Hook.LOCAL_IN, Hook.FORWARD
SERVER = 0x0A010001 << 16 | 8080
#: the packets of a connection after its SYN
REST = ((SYN | ACK, OUT), (ACK, IN), (ACK, IN), (ACK, OUT), (FIN | ACK, IN), (FIN | ACK, OUT), (ACK, IN))
PER_TICK = 400  #: packets
build = Packet.tcp_between


def churn(conns: int = 2000, dests: int = 16, scheduler: str = "wlc", weights: tuple[int, ...] = (1,), **service: object) -> Pair:
    """Eight packets built and processed for each connection, then the wait until the last entry has expired.

    Floor for each: the same packets built, 8 floor calls, an object, 2 dict inserts, 2 deletes.
    """
    sources = [client(number) for number in range(conns)]
    forever = 700 if service else 130  #: a template lives as long as its service says

    def live(ipvs: IPVS) -> None:
        process, advance = ipvs.process, ipvs.clock.advance
        for number, source in enumerate(sources):
            if number % (PER_TICK // 8) == 0:
                advance(1)
            real = process(build(AF_INET, source, VIP, SYN, b"", 0, "cli")).real
            for flags, hook in REST:
                if hook is IN:
                    process(build(AF_INET, source, VIP, flags, b"", 0, "cli"))
                else:
                    process(build(AF_INET, real, source, flags, b"", 0, "rs"), hook)
        advance(seconds=forever)

    def model() -> float:
        ipvs = director(dests, scheduler, weights=weights, **service)
        seconds = cpu(lambda: live(ipvs))
        assert ipvs.ns.conn_count == 0 and sum(dest.stats.conns for dest in ipvs.services[0].destinations) == conns
        assert sum(dest.stats.inpkts + dest.stats.outpkts for dest in ipvs.services[0].destinations) == 8 * conns
        return seconds

    return Pair(model, lambda: cpu(lambda: live_floor(sources)), conns)


def live_floor(sources: list[int]) -> None:
    """The composite floor of ``churn``."""
    table: dict[int, Floor] = {}
    get = table.get

    def floor(key: int) -> None:
        counter = get(key)
        counter.n += 1

    for source in sources:
        build(AF_INET, source, VIP, SYN, b"", 0, "cli")
        table[source] = table[-source] = Floor()
        floor(source)
        for flags, hook in REST:
            if hook is IN:
                build(AF_INET, source, VIP, flags, b"", 0, "cli")
            else:
                build(AF_INET, SERVER, source, flags, b"", 0, "rs")
            floor(source)
    for source in sources:
        del table[source], table[-source]


def flood(conns: int = 10_000, held: int = 0) -> Pair:
    """A SYN each from new clients, wlc over 16, into a table that holds ``held`` connections. Floor: packet, object, 2 dict inserts, an update."""
    sources = [client(held + number) for number in range(conns)]
    full = director()
    connect(full, held)

    def arrive(ipvs: IPVS) -> None:
        process, advance = ipvs.process, ipvs.clock.advance
        for number, source in enumerate(sources):
            if number % PER_TICK == 0:
                advance(1)
            process(build(AF_INET, source, VIP, SYN, b"", 0, "cli"))

    def model() -> float:
        ipvs = full if held else director()
        seconds = cpu(lambda: arrive(ipvs))
        assert ipvs.ns.conn_count == held + conns
        if held:  # the entries of this round go, those that were there stay
            ipvs.clock.advance(seconds=70)
            assert ipvs.ns.conn_count == held
        return seconds

    table: dict[int, Floor] = {}
    for number in range(held):
        table[client(number)] = table[-client(number)] = Floor()

    def arrive_floor() -> None:
        counter = Floor()
        for source in sources:
            build(AF_INET, source, VIP, SYN, b"", 0, "cli")
            table[source] = table[-source] = Floor()
            counter.n += 1

    def floor() -> float:
        seconds = cpu(arrive_floor)
        for source in sources:
            del table[source], table[-source]
        return seconds

    return Pair(model, floor, conns)


def _case(id: str, what: str, make: Callable[[], Pair]) -> Case:
    return Case(id, what, make, unit="floors", allocates=True)


CASES = [
    _case("C1", "a connection's whole life: 8 packets built, expiry, wlc over 16", churn),
    _case("C2", "a SYN makes a connection, wlc over 16", flood),
    _case("C2.1M", "C2 into a table of 1,000,000", partial(flood, 10_000, 1_000_000)),
    _case("C1.rr", "C1, rr", partial(churn, scheduler="rr")),
    _case("C1.mixed", "C1, weights 1 to 3", partial(churn, weights=(1, 2, 3))),
    _case("C1.256", "C1, wlc over 256", partial(churn, dests=256)),
    _case("C1.sh", "C1, sh", partial(churn, scheduler="sh")),
    _case("C1.mh", "C1, mh", partial(churn, scheduler="mh")),
    _case("C1.pers", "C1, persistence of 300 s", partial(churn, persistent=300)),
]
