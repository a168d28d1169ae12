"""``python -m benchmarks.capture OUT.pcap [--packets 1000000] [--connections 100000] [--seed 1]``: a capture of any size, and OUT.rules that go with it.

It is as taken in front of a virtual address: Ethernet frames of TCP connections from the clients' side, woven into each other. It is written as it is
made, so memory does not grow with it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import dpkt

from benchmarks.churn import FIN
from benchmarks.traffic import ACK, SYN, VIP, client, endpoint
from ipvs_model import Packet
from ipvs_model.flags import AF_INET

ETHERNET = bytes.fromhex("0200000000020200000000010800")
START = 1_700_000_000  #: seconds since 1970
AT_ONCE = 1000  #: connections that are open at the same time
PER_SECOND = 100_000  #: packets
PUSH = 8
SIZES = (6, 100, 536, 1400)  #: bytes of data in a segment

Segment = tuple[bool, int, int]  #: from the client?, flags, bytes of data


def conversation(rng: random.Random, packets: int) -> Iterator[Segment]:
    """Handshake, data both ways, FIN from both sides, so many segments in all; with fewer than seven, what there is room for."""
    opening = [(True, SYN, 0), (False, SYN | ACK, 0), (True, ACK, 0)]
    closing = [(True, FIN | ACK, 0), (False, FIN | ACK, 0), (True, ACK, 0)]
    yield from opening[:packets]
    for _ in range(packets - 6):
        yield rng.random() < 0.4, ACK | PUSH, rng.choice(SIZES)
    yield from closing[: max(packets - 3, 0)]


def lengths(packets: int, connections: int) -> Iterator[int]:
    """How many packets each connection has: all together as many as there shall be."""
    each, more = divmod(packets, connections)
    return (each + (number < more) for number in range(connections))


def traffic(packets: int, connections: int, seed: int) -> Iterator[bytes]:
    """The frames, in the order of time."""
    rng = random.Random(seed)
    waiting = enumerate(lengths(packets, connections))
    data = rng.randbytes(max(SIZES))
    live: list[tuple[int, Iterator[Segment]]] = []
    while True:
        if len(live) < AT_ONCE and (following := next(waiting, None)) is not None:
            live.append((client(following[0]), conversation(rng, following[1])))
        if not live:
            return
        place = rng.randrange(len(live))
        source, segments = live[place]
        segment = next(segments, None)
        if segment is None:
            live[place] = live[-1]
            live.pop()
            continue
        from_client, flags, size = segment
        ends = (source, VIP) if from_client else (VIP, source)
        yield ETHERNET + Packet.tcp_between(AF_INET, *ends, flags, data[:size]).raw


def rules(servers: int = 16) -> str:
    """A service and its real servers, as ipvsadm -S writes them."""
    vip = endpoint(VIP)
    return f"-A -t {vip} -s wlc\n" + "".join(f"-a -t {vip} -r {endpoint((0x0A010001 + number) << 16 | 8080)} -m -w 1\n" for number in range(servers))


def write(path: Path, packets: int, connections: int, seed: int) -> int:
    """Write capture and rules; how many packets there are."""
    count = 0
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, nano=True)
        for count, frame in enumerate(traffic(packets, connections, seed), 1):
            writer.writepkt(frame, START + count / PER_SECOND)
    path.with_suffix(".rules").write_text(rules())
    return count


def main() -> None:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capture", description="Make a capture, and the rules that go with it.")
    parser.add_argument("path", type=Path, metavar="OUT.pcap")
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    count = write(options.path, options.packets, options.connections, options.seed)
    print(f"{options.path}: {count:,} packets of {options.connections:,} connections; {options.path.with_suffix('.rules')}")


if __name__ == "__main__":
    main()
