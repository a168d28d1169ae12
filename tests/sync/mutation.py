"""Damaged messages by the thousand, against a second reading of the specification that shares no code with the first."""

from __future__ import annotations

import random
from collections import Counter

from attrs import frozen
from tests.sync.examples import EXAMPLES, flat
from tests.sync.lab import BACKUP, director, start, web

from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.sync import SyncRecord

STATES = {6: 11, 17: 1, 132: 14, 51: 1, 50: 1}


@frozen
class Tally:
    """What a run did."""

    datagrams: int
    records: int
    entries: int
    codes: dict[int, int]


LONGEST = 1472  #: bytes that fit a backup's buffer: an MTU of 1500 without IPv4 and UDP headers


def backup() -> IPVS:
    """A backup with the services of the examples."""
    ipvs = director()
    web(ipvs, "10.1.0.11:8080", "10.1.0.12:80")
    web(ipvs, "10.1.0.12:5060", port=5060, protocol="udp", persistent=60, engine="sip")
    web(ipvs, "10.1.0.13:443", port=443, forward="direct", persistent=100)
    six = ipvs.add_service("tcp", "[2001:db8:100::1]:80", scheduler="rr")
    ipvs.add_dest(six, "[2001:db8:1::11]:80")
    start(ipvs, BACKUP, 0)
    ipvs.daemons.engines = ipvs.engines
    return ipvs


def valid_keys(data: bytes) -> set[tuple[int, int, bytes, bytes]]:
    """(family, protocol, client, virtual) of every record that may be applied, as bytes; read from the specification's offsets."""
    if not 4 <= len(data) <= LONGEST or int.from_bytes(data[2:4]) != len(data):
        return set()
    padded = data + bytes(8)
    if padded[0] == 0 and padded[5] == 1 and padded[6:8] == b"\0\0":
        return _valid_v1(data, padded[4])
    found = set()
    at = 4
    for _ in range(data[0]):
        if at + 24 > len(data):
            break
        r = data[at : at + 24]
        flags, state = int.from_bytes(r[20:22]), int.from_bytes(r[22:24])
        size = 48 if flags & 0x600 else 24
        if at + size > len(data):
            break
        if _sane(flags, r[1], state):
            found.add((2, r[1], r[8:12] + r[2:4], r[12:16] + r[4:6]))
        at += size
    return found


def _valid_v1(data: bytes, count: int) -> set[tuple[int, int, bytes, bytes]]:
    found = set()
    at = 8
    for _ in range(count):
        if len(data) - at < 36:
            break
        word = int.from_bytes(data[at + 2 : at + 4])
        size = word % 4096
        r = data[at : at + size]
        if len(r) < size or word >= 4096 or data[at] % 2 == 0 and data[at] != 0:
            break
        fixed, width = (72, 16) if data[at] % 2 else (36, 4)
        if size < fixed:
            break
        fits = _options(r[fixed:])
        if fits is None:
            break
        if fits and _sane(int.from_bytes(r[4:8]), r[1], int.from_bytes(r[8:10])):
            caddr, vaddr = r[24 : 24 + width], r[24 + width : 24 + 2 * width]
            found.add((10 if width == 16 else 2, r[1], caddr + r[10:12], vaddr + r[12:14]))
        at += (size + 3) // 4 * 4
    return found


def _options(rest: bytes) -> bool | None:
    """None: the message ends here. False: the record is skipped."""
    seen: dict[int, bytes] = {}
    while rest:
        if len(rest) == 1 or rest[1] == 0 or len(rest) < 2 + rest[1]:
            return None
        kind, body, rest = rest[0], rest[2 : 2 + rest[1]], rest[2 + rest[1] :]
        known = kind & 0xBF
        if known in (1, 2, 3):
            if known in seen or (known == 1 and len(body) != 24) or (known == 3 and len(body) > 16):
                return None
            seen[known] = body
        elif not kind & 0x40:
            return False
    return 2 not in seen or seen.get(3, b"").split(b"\0")[0] == b"sip"


def _sane(flags: int, protocol: int, state: int) -> bool:
    if flags & 0x2000 or flags & 0x1800 == 0x1800:
        return False
    return state < 2 if flags & 0x1000 else state < STATES.get(protocol, 0)


def mutate(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A message with up to six small injuries; three out of four times its size field is made to fit again."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randrange(7)):
        at = rng.randrange(len(data) + 1)
        what = rng.randrange(7)
        if what == 0:
            data[at : at + 1] = bytes([rng.getrandbits(8)])
        elif what == 1:
            data[at : at + 1] = bytes([rng.choice((0, 1, 2, 3, 0x10, 0x24, 0x40, 0x41, 0x7F, 0x80, 0xFF))])
        elif what == 2:
            del data[at : at + rng.choice((1, 2, 4, 36))]
        elif what == 3:
            data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 12)))
        elif what == 4:
            other = rng.choice(seeds)
            start = rng.randrange(len(other))
            data[at:at] = other[start : start + rng.choice((2, 24, 36, 72))]
        elif what == 5 and data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        else:
            data[4:5] = bytes([rng.randrange(6)])
    if rng.random() < 0.75:
        data[2:4] = (len(data) & 0xFFFF).to_bytes(2, "big")
    return bytes(data)


def has_port(record: SyncRecord | None) -> bool:
    """A template with a client port: the lookup of connections finds it, so that the kernel's own counters go wrong (see test_receiver)."""
    return record is not None and record.is_template and record.client & 0xFFFF != 0


@frozen
class Fed:
    """What a datagram did: result codes of its records, entries made or replaced; not usable: the backup's counters go wrong from here (`has_port`)."""

    codes: list[int]
    entries: int
    usable: bool


def feed(ipvs: IPVS, payload: bytes) -> Fed:
    """Give a backup a datagram. Raises AssertionError if an invalid record was applied or a valid one was not; nothing else may be raised."""
    before = ipvs.ns.conn_count
    report = ipvs.receive_sync(payload)
    made = [found.conn for found in report.records if found.fate in ("created", "replaced") and found.conn is not None]
    applied = {_key(r.af, r.protocol, r.client, r.virt) for found in report.records if found.code == 0 and (r := found.record) is not None}
    assert applied == valid_keys(payload), f"{payload.hex()}: {applied ^ valid_keys(payload)} are read in two ways"
    assert {_key(c.af, c.protocol, c.client, c.virtual) for c in made} <= applied, f"{payload.hex()} made an entry from an invalid record"
    assert ipvs.ns.conn_count == before + len(made), f"{payload.hex()} made entries that it does not report"
    return Fed([found.code for found in report.records], len(made), not any(has_port(found.record) for found in report.records if found.code == 0))


def soak(count: int, seed: int) -> Tally:
    """Give a backup so many damaged messages. Raises AssertionError if an invalid record made an entry, or an invariant broke; nothing else may be raised."""
    rng = random.Random(seed)
    seeds = [flat(text) for text, _ in EXAMPLES.values()]
    ipvs = backup()
    codes: Counter[int] = Counter()
    entries = 0
    for number in range(count):
        fed = feed(ipvs, mutate(rng, seeds))
        codes.update(fed.codes)
        entries += fed.entries
        if not fed.usable:
            ipvs = backup()
        if number % 50 == 49:
            check(ipvs.ns)
            ipvs.clock.advance(seconds=rng.choice((0, 1, 60, 1000)))
    check(ipvs.ns)
    return Tally(count, sum(codes.values()), entries, dict(sorted(codes.items())))


def _key(af: int, protocol: int, client: int, virtual: int) -> tuple[int, int, bytes, bytes]:
    size = 6 if af == 2 else 18
    return af, protocol, client.to_bytes(size), virtual.to_bytes(size)


if __name__ == "__main__":
    print(soak(100_000, 1))
