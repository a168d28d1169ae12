"""P: frames into fields, and frames into verdicts, beside dpkt and scapy. The fields are asserted to be equal before anything is timed."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import dpkt
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader

from benchmarks.measure import Case, Pair, timed
from benchmarks.traffic import ACK, VIP, connect, director
from ipvs_model import IPVS, Hook, Packet, Verdict
from ipvs_model.addresses import parse_addr
from ipvs_model.flags import AF_INET
from ipvs_model.tools.pcap import Capture

CONNS = 1000
ETHERNET = bytes.fromhex("0200000000020200000000010800")
Fields = tuple[int, ...]
PUSH = 8
# a member looked up for every frame would be timed too
from_frame, Ethernet = Packet.from_frame, dpkt.ethernet.Ethernet


def frames(count: int, ipvs: IPVS) -> list[bytes]:
    """Ethernet frames of mixed sizes, both ways of established connections."""
    rng = random.Random(3)
    conns = list(ipvs.ns.conns)
    out = []
    for _ in range(count):
        cp = rng.choice(conns)
        ends = rng.choice(((cp.client, cp.virt), (cp.real, cp.client)))
        packet = Packet.tcp_between(AF_INET, *ends, ACK | PUSH, payload=rng.randbytes(rng.choice((0, 6, 100, 536, 1400))))
        out.append(ETHERNET + packet.raw)
    return out


def world(count: int) -> tuple[IPVS, list[bytes]]:
    """A director with a thousand established connections, and frames of them."""
    ipvs = director()
    connect(ipvs, CONNS)
    return ipvs, frames(count, ipvs)


# --- fields: every public header field is read ----------------------------------------------------------------------------
def own_fields(frame: bytes) -> Fields:
    """By this package."""
    p = from_frame(frame)
    return (p.proto, p.saddr, p.daddr, p.sport, p.dport, p.flags, p.length, p.ttl, p.l4, p.df, p.tos, p.id, p.seq, p.ack)


def dpkt_fields(frame: bytes) -> Fields:
    """By dpkt."""
    ip = Ethernet(frame).data
    seg = ip.data
    saddr, daddr = int.from_bytes(ip.src, "big"), int.from_bytes(ip.dst, "big")
    return (ip.p, saddr, daddr, seg.sport, seg.dport, seg.flags & 0x17, ip.len, ip.ttl, ip.hl * 4, ip.df, ip.tos, ip.id, seg.seq, seg.ack)


def scapy_fields(frame: bytes) -> Fields:
    """By scapy."""
    ip = Ether(frame)[IP]
    seg = ip[TCP]
    saddr, daddr = parse_addr(ip.src)[1], parse_addr(ip.dst)[1]
    flags = int(seg.flags) & 0x17
    return (ip.proto, saddr, daddr, seg.sport, seg.dport, flags, ip.len, ip.ttl, ip.ihl * 4, int(ip.flags) >> 1 & 1, ip.tos, ip.id, seg.seq, seg.ack)


def parse(peer: Callable[[bytes], Fields], count: int = 4000, share: int = 1) -> Pair:
    """Frames in memory into fields; the peer does every ``share``-th of them."""
    _, sample = world(count)
    fewer = sample[::share]
    assert [own_fields(frame) for frame in fewer] == [peer(frame) for frame in fewer]

    def model() -> None:
        for frame in sample:
            own_fields(frame)

    def other() -> None:
        for frame in fewer:
            peer(frame)

    return Pair(timed(model), _scaled(other, share), count)


def _scaled(function: Callable[[], object], share: int) -> Callable[[], float]:
    run = timed(function)
    return lambda: run() * share


# --- verdicts ---------------------------------------------------------------------------------------------------------------
def own_packet(frame: bytes) -> Packet:
    """By this package."""
    return from_frame(frame, device="eth0")


def dpkt_packet(frame: bytes) -> Packet:
    """The packet that the model needs, out of dpkt's fields."""
    ip = Ethernet(frame).data
    seg = ip.data
    src, dst = int.from_bytes(ip.src, "big") << 16 | seg.sport, int.from_bytes(ip.dst, "big") << 16 | seg.dport
    return Packet.tcp_between(AF_INET, src, dst, seg.flags, seg.data, 0, "eth0")


def scapy_packet(frame: bytes) -> Packet:
    """The packet that the model needs, out of scapy's fields."""
    ip = Ether(frame)[IP]
    seg = ip[TCP]
    src, dst = parse_addr(ip.src)[1] << 16 | seg.sport, parse_addr(ip.dst)[1] << 16 | seg.dport
    return Packet.tcp_between(AF_INET, src, dst, int(seg.flags), bytes(seg.payload), 0, "eth0")


def verdicts(ipvs: IPVS, packets: Iterable[Packet]) -> list[Verdict]:
    """Each packet through the hook that it reaches."""
    process, to_vip = ipvs.process, VIP
    return [process(packet, Hook.LOCAL_IN if packet.dst == to_vip else Hook.FORWARD).verdict for packet in packets]


def from_memory(peer: Callable[[bytes], Packet], count: int = 4000, share: int = 1) -> Pair:
    """Frames in memory into verdicts."""
    ipvs, sample = world(count)
    fewer = sample[::share]
    expected = verdicts(ipvs, map(peer, fewer))
    assert verdicts(ipvs, map(own_packet, fewer)) == expected and set(expected) == {Verdict.STOLEN, Verdict.ACCEPT}
    return Pair(timed(lambda: verdicts(ipvs, map(own_packet, sample))), _scaled(lambda: verdicts(ipvs, map(peer, fewer)), share), count)


def own_file(path: Path) -> Iterable[Packet]:
    """The reader and the parser of this package."""
    with Capture(path) as capture:
        for captured in capture:
            yield Packet.parse(captured.data, device="eth0")


def dpkt_file(path: Path) -> Iterable[Packet]:
    """dpkt's reader and parser."""
    with open(path, "rb") as file:
        for _, frame in dpkt.pcap.Reader(file):
            yield dpkt_packet(frame)


def scapy_file(path: Path) -> Iterable[Packet]:
    """scapy's."""
    with RawPcapReader(str(path)) as reader:
        for frame, _ in reader:
            yield scapy_packet(frame)


def from_file(peer: Callable[[Path], Iterable[Packet]], count: int = 4000, peer_count: int = 4000) -> Pair:
    """A capture file into verdicts."""
    ipvs, sample = world(count)
    folder = tempfile.TemporaryDirectory()
    path, shorter = Path(folder.name) / "frames.pcap", Path(folder.name) / "fewer.pcap"
    for name, content in ((path, sample), (shorter, sample[:peer_count])):
        with open(name, "wb") as file:
            writer = dpkt.pcap.Writer(file)
            for number, frame in enumerate(content):
                writer.writepkt(frame, ts=1_700_000_000 + number / 1000)
    assert verdicts(ipvs, own_file(shorter)) == verdicts(ipvs, peer(shorter))
    kept = [folder]  # the files live as long as the functions do
    run = timed(lambda: verdicts(ipvs, peer(shorter)))
    return Pair(timed(lambda: verdicts(ipvs, own_file(path))), lambda: run() * count / peer_count if kept else 0.0, count)


CASES = [
    Case("P1", "a frame into all its header fields, to dpkt", partial(parse, dpkt_fields)),
    Case("P1S", "the same, to scapy", partial(parse, scapy_fields, share=20)),
    Case("P2", "a frame in memory into its verdict, to dpkt and the model", partial(from_memory, dpkt_packet)),
    Case("P2S", "the same, to scapy and the model", partial(from_memory, scapy_packet, share=20)),
    Case("P2F", "the same from a pcap file, to dpkt's reader and parser", partial(from_file, dpkt_file), unit="x"),
    Case("P2FS", "the same, to scapy's reader and parser", partial(from_file, scapy_file, peer_count=200), unit="x"),
]
