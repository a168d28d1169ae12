"""N1: the model and the naive twin on the same trace, with the same results."""

from __future__ import annotations

import random

from benchmarks.churn import REST
from benchmarks.measure import Case, Pair, cpu
from benchmarks.naive import HZ, Endpoint, Flags, Naive, NaivePacket, Server
from benchmarks.traffic import SYN, VIP, client, director
from ipvs_model import IPVS, Hook, Packet
from ipvs_model.events import ConnRemoved
from ipvs_model.flags import AF_INET

Step = tuple[int, int, int, Hook]  #: jiffies that pass first, which client, flags, hook


def trace(conns: int, data: int) -> list[Step]:
    """Conversations woven into each other: each the packets of ``REST`` with ``data`` segments in the middle, in an order of their own."""
    rng = random.Random(5)
    middle = [(16, hook) for _ in range(data // 2) for hook in (Hook.LOCAL_IN, Hook.FORWARD)]
    whole = [(SYN, Hook.LOCAL_IN), *REST[:4], *middle, *REST[4:]]
    turns = [number for number in range(conns) for _ in whole]
    rng.shuffle(turns)
    left = [list(reversed(whole)) for _ in range(conns)]
    return [(int(rng.random() < 0.02), number, *left[number].pop()) for number in turns]


def _endpoint(value: int) -> Endpoint:
    return Endpoint(value >> 16, value & 0xFFFF)


def naive_director(ipvs: IPVS) -> Naive:
    """The naive twin of a director."""
    return Naive(ipvs.clock.now, _endpoint(VIP), [Server(_endpoint(dest.addr << 16 | dest.port)) for dest in ipvs.services[0].destinations])


def play(ipvs: IPVS, steps: list[Step], out: list[tuple[int, int]] | None = None) -> None:
    """The model's turn; with ``out`` the endpoints that leave are kept."""
    process, advance, build = ipvs.process, ipvs.clock.advance, Packet.tcp_between
    reals: dict[int, int] = {}
    for jiffies, number, flags, hook in steps:
        if jiffies:
            advance(jiffies)
        source = client(number)
        if hook is Hook.LOCAL_IN:
            packet = build(AF_INET, source, VIP, flags, b"", 0, "cli")
            left = process(packet).apply(packet)
            if flags == SYN:
                reals[source] = left.dst
        else:
            packet = build(AF_INET, reals[source], source, flags, b"", 0, "rs")
            left = process(packet, hook).apply(packet)
        if out is not None:
            out.append((left.src, left.dst))
    advance(130 * HZ)


def play_naive(naive: Naive, steps: list[Step], out: list[tuple[int, int]] | None = None) -> None:
    """The naive twin's turn."""
    reals: dict[int, Endpoint] = {}
    virtual = naive.virtual
    for jiffies, number, flags, hook in steps:
        if jiffies:
            naive.advance(jiffies)
        source = client(number)
        end = _endpoint(source)
        ends = (end, virtual) if hook is Hook.LOCAL_IN else (reals[source], end)
        left = naive.process(NaivePacket(*ends, Flags(flags), 40, 64))
        if flags == SYN:
            reals[source] = left.dst
        if out is not None:
            assert left is not None
            out.append((left.src.addr << 16 | left.src.port, left.dst.addr << 16 | left.dst.port))
    naive.advance(130 * HZ)


def agree(steps: list[Step]) -> None:
    """Everything that leaves, every expiry and its tick and order, and all counters are the same."""
    ipvs = director()
    naive = naive_director(ipvs)
    expired: list[tuple[int, Endpoint]] = []
    ipvs.subscribe(lambda event: expired.append((ipvs.clock.now, _endpoint(event.conn.client))) if isinstance(event, ConnRemoved) else None)
    left: list[tuple[int, int]] = []
    naive_left: list[tuple[int, int]] = []
    play(ipvs, steps, left)
    play_naive(naive, steps, naive_left)
    assert left == naive_left
    assert expired == naive.expired and expired
    for dest, server in zip(ipvs.services[0].destinations, naive.servers, strict=True):
        assert dest.stats.live()[1:] == (server.inpkts, server.outpkts, server.inbytes, server.outbytes)


def against_naive(conns: int = 200, data: int = 100) -> Pair:
    """Conversations of more than a hundred packets each, from SYN to expiry."""
    steps = trace(conns, data)
    agree(steps)

    def model() -> float:
        ipvs = director()
        return cpu(lambda: play(ipvs, steps))

    def naive() -> float:
        twin = naive_director(director())
        return cpu(lambda: play_naive(twin, steps))

    return Pair(model, naive, len(steps))


CASES = [Case("N1", "the whole model, to the naive one, on the same conversations", against_naive, allocates=True)]
