"""What the fuzzers feed: stories of packets for a director, datagrams for a backup. A target takes any bytes and raises only if something is wrong.

``soak.fuzz`` drives them under coverage guidance; ``replay`` does it without, with seeded mutations of the same corpus.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from attrs import frozen
from tests.sync.examples import EXAMPLES, flat
from tests.sync.mutation import backup, feed
from tests.sync.mutation import mutate as mutate_datagram

from ipvs_model.apps import Ftp
from ipvs_model.flags import Hook
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.packet import Packet
from ipvs_model.routing import DefaultRouting
from ipvs_model.transmit.action import REASONS
from soak.malformed import answers_template, same_as_bytes
from soak.mutation import mutate as mutate_packet
from soak.packets import Traffic
from soak.rules import LOCAL, fill

#: hooks by the low bits of a step's first byte; None: routing chooses
HOOKS: Final = (None, Hook.LOCAL_IN, Hook.FORWARD, Hook.LOCAL_OUT)
#: seconds that pass before a packet, by the next two bits
WAITS: Final = (0, 1, 61, 1000)
#: inputs after which a director or backup is made anew
LIFE: Final = 1000


def split(data: bytes) -> list[tuple[int, bytes]]:
    """A story as its steps: one byte that says how, two that say how long, and the packet; the last one may be shorter than it says."""
    steps = []
    at = 0
    while at + 3 <= len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3])
        steps.append((data[at], data[at + 3 : end]))
        at = end
    return steps


def join(steps: list[tuple[int, bytes]]) -> bytes:
    """The story of these steps; ``split`` takes it apart."""
    return b"".join(bytes((how,)) + len(raw).to_bytes(2) + raw for how, raw in steps)


def director() -> IPVS:
    """A director with services of every kind; rates are not estimated, which would take most of the time."""
    ipvs = IPVS(Environment(routing=DefaultRouting(local=LOCAL)), plugins=[Ftp])
    ipvs.sysctl_write("run_estimation", 0)
    fill(ipvs)
    return ipvs


class Packets:
    """The bytes are a story: each packet is parsed and received by a director with services of every kind, then all entries are flushed.

    Besides what ``soak.malformed`` asks: parsing keeps the bytes up to the stated length, ``repr`` makes the packet again, entries can be flushed.
    """

    def __init__(self) -> None:
        self.left = 0

    def __call__(self, data: bytes) -> None:
        if not self.left:
            self.left = LIFE
            self.ipvs = director()
        self.left -= 1
        for how, raw in split(data):
            self.ipvs.clock.advance(seconds=WAITS[how >> 2 & 3])
            self._receive(Packet.parse(raw, mark=how >> 4 & 3, device="eth0" if how & 64 else None), HOOKS[how & 3], raw)
        check(self.ipvs.ns)
        self.ipvs.ns.conns.flush()
        assert not self.ipvs.ns.conn_count, "entries outlive a flush"
        check(self.ipvs.ns)

    def _receive(self, packet: Packet, hook: Hook | None, raw: bytes) -> None:
        before = packet.raw
        assert raw.startswith(before), f"{raw.hex()} became {before.hex()}"
        same_as_bytes(packet)
        assert eval(repr(packet), {"Packet": Packet}) == packet, f"{packet!r} is another packet"
        if answers_template(self.ipvs, packet):
            return
        outcome = self.ipvs.receive(packet, hook)
        assert packet.raw == before, "the packet that came in was changed"
        assert outcome.reason.code in REASONS
        for leaving in outcome.emitted:
            same_as_bytes(leaving)


class Datagrams:
    """The bytes are a sync message for a backup: what it applies is what a second reading of the format allows (see ``tests.sync.mutation``)."""

    def __init__(self) -> None:
        self.left = 0

    def __call__(self, data: bytes) -> None:
        if not self.left:
            self.left = LIFE
            self.ipvs = backup()
        self.left -= 1
        if not feed(self.ipvs, data).usable:
            self.left = 0
            return
        check(self.ipvs.ns)
        if self.left % 50 == 0:
            self.ipvs.clock.advance(seconds=1000)


def packet_corpus(count: int = 200, seed: int = 1) -> list[bytes]:
    """Stories of one to six sound packets, many of which belong together."""
    rng = random.Random(seed)
    traffic = Traffic(rng)
    ipvs = director()
    stories = []
    for _ in range(count):
        steps = []
        for _ in range(rng.randrange(1, 7)):
            conns = list(ipvs.ns.conns)
            packet, hook = traffic.along(rng.choice(conns).key()) if conns and rng.random() < 0.6 else (traffic.packet(), rng.choice(HOOKS))
            ipvs.receive(packet, hook)
            steps.append((HOOKS.index(hook) | rng.choice((0, 0, 0, 4, 8)) | 64, packet.raw))
        ipvs.ns.conns.flush()
        stories.append(join(steps))
    return stories


def datagram_corpus() -> list[bytes]:
    """The messages printed in the specification, of both versions."""
    return [flat(text) for text, _ in EXAMPLES.values()]


def mutate_story(rng: random.Random, story: bytes, stories: list[bytes]) -> bytes:
    """A story with one packet injured, dropped, repeated or put elsewhere, or with a step of another story."""
    steps = split(story)
    others = split(rng.choice(stories))
    if not steps or not others:
        return story + rng.choice(stories)
    at = rng.randrange(len(steps))
    what = rng.randrange(10)
    if what == 0:
        del steps[at]
    elif what == 1:
        steps.insert(rng.randrange(len(steps) + 1), steps[at])
    elif what == 2:
        steps.insert(at, rng.choice(others))
    elif what == 3:
        steps[at] = rng.randrange(256), steps[at][1]
    else:
        steps[at] = steps[at][0], mutate_packet(rng, steps[at][1], rng.choice(others)[1])
    return join(steps)


def mutate_message(rng: random.Random, message: bytes, messages: list[bytes]) -> bytes:
    """A message with some injuries, or pieces of others."""
    return mutate_datagram(rng, [message, message, message, *messages])


@frozen
class Fuzzed:
    """What to fuzz: a maker of targets, a maker of inputs to begin with, and how to change one (with pieces of others)."""

    target: Callable[[], Callable[[bytes], None]]
    corpus: Callable[[], list[bytes]]
    mutate: Callable[[random.Random, bytes, list[bytes]], bytes]


FUZZED: Final = {
    "packets": Fuzzed(Packets, packet_corpus, mutate_story),
    "sync": Fuzzed(Datagrams, datagram_corpus, mutate_message),
}


def replay(name: str, count: int, seed: int) -> None:
    """Give a target its corpus and so many seeded mutations of it, without a fuzzer."""
    rng = random.Random(seed)
    fuzzed = FUZZED[name]
    target = fuzzed.target()
    corpus = fuzzed.corpus()
    for data in corpus:
        target(data)
    for _ in range(count):
        target(fuzzed.mutate(rng, rng.choice(corpus), corpus))
