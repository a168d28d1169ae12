"""E and R: packets of established connections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.measure import Case, Pair, timed
from benchmarks.traffic import ACK, Arrival, arrivals, connect, director, floor_over, tcp, udp
from ipvs_model import IPVS, Hook, Packet
from ipvs_model.flags import AF_INET, AF_INET6

BOTH = (Hook.LOCAL_IN, Hook.FORWARD)
IN = (Hook.LOCAL_IN,)
OUT = (Hook.FORWARD,)
Run = Callable[[], None]


def established(
    conns: int = 1000,
    per_tick: int = 400,
    repeat: int = 20,
    *,
    work: str = "verdict",
    af: int = AF_INET,
    protocol: str = "tcp",
    hooks: tuple[Hook, ...] = BOTH,
    sample: int = 100_000,
    observed: bool = False,
    fast_path: bool = True,
    **service: object,
) -> Pair:
    """Packets of established connections, hit at random, the clock moving every ``per_tick`` packets; ``work`` says what is done with each.

    "verdict": the action; "in place": the packet is built in the loop and its owner wants it translated; "new packet": a translated one beside it;
    "receive": an Outcome with its reason. ``sample``: of how many connections there are packets.
    """
    ipvs = director(af=af, protocol=protocol, **service)
    make = tcp if protocol == "tcp" else udp
    connect(ipvs, conns, af, make)
    packets = arrivals(ipvs, min(conns, sample), af, make, hooks)
    keys = [cp.client for cp in ipvs.ns.conns]
    if observed:
        ipvs.subscribe(lambda event: None)
    run = {"verdict": _verdicts, "in place": _built, "new packet": _translated, "receive": _received}[work](ipvs, packets, per_tick, repeat)
    return Pair(timed(run), timed(floor_over(packets, keys, repeat)), len(packets) * repeat)


def _chunks(packets: list[Any], per_tick: int) -> list[list[Any]]:
    return [packets[start : start + per_tick] for start in range(0, len(packets), per_tick)]


def _verdicts(ipvs: IPVS, packets: list[Arrival], per_tick: int, repeat: int) -> Run:
    process, advance = ipvs.process, ipvs.clock.advance
    chunks = _chunks(packets, per_tick)

    def run() -> None:
        for _ in range(repeat):
            for chunk in chunks:
                advance(1)
                for packet, hook in chunk:
                    process(packet, hook)

    def run_every() -> None:
        for _ in range(repeat):
            for packet, hook in packets:
                advance(1)
                process(packet, hook)

    return run if per_tick > 1 else run_every


def _translated(ipvs: IPVS, packets: list[Arrival], per_tick: int, repeat: int) -> Run:
    process, advance = ipvs.process, ipvs.clock.advance
    chunks = _chunks(packets, per_tick)
    packet, hook = packets[0]
    left = process(packet, hook).apply(packet)
    assert left is not None and left is not packet and left.raw != packet.raw

    def run() -> None:
        for _ in range(repeat):
            for chunk in chunks:
                advance(1)
                for packet, hook in chunk:
                    process(packet, hook).apply(packet)

    return run


def _built(ipvs: IPVS, packets: list[Arrival], per_tick: int, repeat: int) -> Run:
    process, advance, build = ipvs.process, ipvs.clock.advance, Packet.tcp_between
    chunks = _chunks([(packet.src, packet.dst, packet.device, hook) for packet, hook in packets], per_tick)

    def run() -> None:
        for _ in range(repeat):
            for chunk in chunks:
                advance(1)
                for src, dst, device, hook in chunk:
                    packet = build(AF_INET, src, dst, ACK, b"", 0, device)
                    process(packet, hook).apply(packet)

    return run


def _received(ipvs: IPVS, packets: list[Arrival], per_tick: int, repeat: int) -> Run:
    receive, advance = ipvs.receive, ipvs.clock.advance
    chunks = _chunks(packets, per_tick)
    for packet, hook in packets[:100]:
        outcome = receive(packet)
        assert outcome.reason.hook is hook and len(outcome.emitted) == 1 and str(outcome.reason)

    def run() -> None:
        for _ in range(repeat):
            for chunk in chunks:
                advance(1)
                for packet, _hook in chunk:
                    receive(packet)

    return run


CASES = [
    Case("E1", "established NAT packet, 1,000 connections, 400 packets a tick: the verdict", established),
    Case("E2", "E1, packet built in the loop and rewritten", partial(established, work="in place")),
    Case("E3", "E1 with a new translated packet", partial(established, work="new packet")),
    Case("E4", "E1, the clock moves on every packet", partial(established, per_tick=1)),
    Case("E5", "E1 with 100,000 connections hit at random", partial(established, 100_000, repeat=1)),
    Case("E6", "E1 with 1,000,000 connections hit at random", partial(established, 1_000_000, repeat=1, sample=200_000)),
    Case("R1", "E1 through receive(): an Outcome with its reason", partial(established, work="receive", repeat=4)),
    Case("E1.in", "E1, client to server only", partial(established, hooks=IN)),
    Case("E1.out", "E1, server to client only", partial(established, hooks=OUT)),
    Case("E1.40", "E1, 40 packets a tick", partial(established, per_tick=40)),
    Case("E1.dr", "E1, direct routing, client to server", partial(established, hooks=IN, forward="direct")),
    Case("E1.tun", "E1, IPIP tunnel, client to server", partial(established, hooks=IN, forward="tunnel")),
    Case("E3.tun", "E3, IPIP tunnel, client to server", partial(established, hooks=IN, forward="tunnel", work="new packet", repeat=4)),
    Case("E1.v6", "E1, IPv6", partial(established, af=AF_INET6)),
    Case("E1.udp", "E1, UDP", partial(established, protocol="udp")),
    Case("E1.seen", "E1, one observer attached", partial(established, observed=True, repeat=4)),
]
