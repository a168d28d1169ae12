"""S: the whole packet beside what well-known libraries do for a part of it: simpy and asyncio re-arm a timer, scapy builds a packet and finds its connection."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from functools import partial

import simpy
from scapy.layers.inet import IP, TCP

from benchmarks.measure import Case, Pair, Timed, cpu, timed
from benchmarks.traffic import ACK, VIP, arrivals, client, connect, director, endpoint, tcp
from ipvs_model import Hook, Packet, Verdict
from ipvs_model.flags import AF_INET

CONNS = 1000
PER_TICK = 40
TIMEOUT = 900  #: seconds, as an established connection has
TICK = 1 / 250
PACKETS = 8000


def _model(packets: int = PACKETS) -> Timed:
    """The whole packet: both directions of 1,000 connections, 40 packets a tick; ten times over, so that it runs nearly as long as a peer."""
    ipvs = director()
    connect(ipvs, CONNS)
    pool = arrivals(ipvs, CONNS)
    chunks = [pool[start : start + PER_TICK] for start in range(0, len(pool), PER_TICK)]
    process, advance = ipvs.process, ipvs.clock.advance

    def run() -> None:
        for _ in range(10 * packets // len(pool)):
            for chunk in chunks:
                advance(1)
                for packet, hook in chunk:
                    process(packet, hook)

    return lambda: cpu(run) / 10


def _hits(packets: int = PACKETS) -> list[list[int]]:
    """Which connection each packet is of, a list for each tick."""
    rng = random.Random(1)
    return [[rng.randrange(CONNS) for _ in range(PER_TICK)] for _ in range(packets // PER_TICK)]


def simpy_interrupt() -> Pair:
    """simpy's idiom for a timeout that packets push back: a process waits, a packet interrupts it, it waits anew."""
    hits = _hits()
    expired: list[tuple[float, int]] = []

    def life(env: simpy.Environment, number: int) -> Iterator[simpy.Event]:
        while True:
            try:
                yield env.timeout(TIMEOUT)
                expired.append((env.now, number))
                return
            except simpy.Interrupt:
                pass

    def begin() -> tuple[simpy.Environment, list[simpy.Process]]:
        env = simpy.Environment()
        processes = [env.process(life(env, number)) for number in range(CONNS)]
        env.run(until=TICK)
        return env, processes

    def play(env: simpy.Environment, processes: list[simpy.Process]) -> None:
        for hit in hits:
            for number in hit:
                processes[number].interrupt()
            env.run(until=env.now + TICK)

    env, processes = begin()
    play(env, processes)
    last = env.now
    env.run()
    assert len(expired) == CONNS and last < max(expired)[0] - TIMEOUT + 2 * TICK
    return Pair(_model(), lambda: cpu(partial(play, *begin())), PACKETS)


def simpy_event() -> Pair:
    """One simpy event for each packet, which stores a deadline; nothing is re-armed."""
    hits = _hits()
    deadlines = [0.0] * CONNS

    def packets(env: simpy.Environment) -> Iterator[simpy.Event]:
        for hit in hits:
            for number in hit:
                yield env.timeout(TICK / PER_TICK)
                deadlines[number] = env.now + TIMEOUT

    def play() -> None:
        env = simpy.Environment()
        env.process(packets(env))
        env.run()

    play()
    assert abs(max(deadlines) - len(hits) * TICK - TIMEOUT) < TICK
    return Pair(_model(), timed(play), PACKETS)


def asyncio_timers() -> Pair:
    """asyncio's idiom: cancel the handle, call later anew; the loop turns once a tick."""
    hits = _hits()

    async def play() -> None:
        loop = asyncio.get_running_loop()
        handles = [loop.call_later(TIMEOUT, print) for _ in range(CONNS)]
        for hit in hits:
            for number in hit:
                handles[number].cancel()
                handles[number] = loop.call_later(TIMEOUT, print)
            await asyncio.sleep(0)
        assert not any(handle.cancelled() for handle in handles)
        for handle in handles:
            handle.cancel()

    return Pair(_model(), timed(lambda: asyncio.run(play())), PACKETS)


def scapy_packets(count: int = 200, to_bytes: bool = False) -> Pair:
    """Build a packet and find its connection; ``to_bytes``: translate it and make its bytes. The model also does all the rest."""
    ipvs = director()
    connect(ipvs, count)
    process, build = ipvs.process, Packet.tcp_between
    sources = [cp.client for cp in ipvs.ns.conns]
    ends = [(endpoint(source).rpartition(":")[0], source & 0xFFFF) for source in sources]
    address = endpoint(VIP).rpartition(":")[0]
    table = {(*end, address, 80): (endpoint(cp.real).rpartition(":")[0], cp.dport) for end, cp in zip(ends, ipvs.ns.conns, strict=True)}

    def model() -> bytes:
        raw = b""
        for source in sources:
            packet = build(AF_INET, source, VIP, ACK, b"", 0, "cli")
            left = process(packet).apply(packet)
            if to_bytes:
                raw = left.raw
        return raw

    def scapy() -> bytes:
        raw = b""
        for source, port in ends:
            packet = IP(src=source, dst=address, id=1, flags="DF") / TCP(sport=port, dport=80, flags="A", seq=1000, window=65535)
            ip, segment = packet[IP], packet[TCP]
            real, real_port = table[ip.src, segment.sport, ip.dst, segment.dport]
            if to_bytes:
                ip.dst, segment.dport = real, real_port
                ip.ttl -= 1
                raw = bytes(packet)
        return raw

    assert process(tcp(AF_INET, client(0), VIP, ACK, "cli"), Hook.LOCAL_IN).verdict is Verdict.STOLEN
    assert model() == scapy()

    def repeated() -> None:
        for _ in range(20):
            model()

    return Pair(lambda: cpu(repeated) / 20, timed(scapy), count)


CASES = [
    Case("S1", "the whole packet, to a simpy timeout re-armed by an interrupt", simpy_interrupt),
    Case("S2", "the whole packet, to one bare simpy event", simpy_event),
    Case("S3", "build, process and translate, to scapy's build and a dict lookup", scapy_packets),
    Case("S3B", "the same to translated bytes", partial(scapy_packets, to_bytes=True)),
    Case("S1.asy", "the whole packet, to asyncio's cancel and call_later", asyncio_timers, unit="x"),
]
