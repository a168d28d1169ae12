"""Captures built byte by byte."""

from struct import pack

T0 = 1_700_000_000  #: seconds at which a built capture begins


def pcap(*frames: bytes, link_type: int = 1, order: str = "<", magic: int = 0xA1B2C3D4, cut: int | None = None, step: int = 1, snaplen: int = 65535) -> bytes:
    """A pcap file; frame n was taken at T0 seconds + n·step units of its fraction. `cut`: captured bytes of each frame."""
    out = pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link_type)
    for n, frame in enumerate(frames):
        kept = frame[:cut]
        out += pack(order + "IIII", T0, n * step, len(kept), len(frame)) + kept
    return out


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    return pack(order + "II", kind, len(body) + 12) + body + pack(order + "I", len(body) + 12)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link_type: int, options: bytes = b"", order: str = "<", snaplen: int = 0) -> bytes:
    return block(1, pack(order + "HHI", link_type, 0, snaplen) + options, order)


def enhanced(interface_number: int, stamp: int, frame: bytes, order: str = "<", wire: int | None = None) -> bytes:
    body = pack(order + "IIIII", interface_number, stamp >> 32, stamp & 0xFFFFFFFF, len(frame), len(frame) if wire is None else wire)
    return block(6, body + frame, order)


def timed(*packets: tuple[float, bytes], ethernet: bool = False) -> bytes:
    """A pcap file of IP packets, each at its second, with Ethernet headers or none."""
    out = pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1 if ethernet else 101)
    for at, raw in sorted(packets, key=lambda packet: packet[0]):
        seconds, microseconds = divmod(round(at * 1_000_000), 1_000_000)
        frame = (bytes(12) + (b"\x08\x00" if raw[0] >> 4 == 4 else b"\x86\xdd") + raw) if ethernet else raw
        out += pack("<IIII", T0 + seconds, microseconds, len(frame), len(frame)) + frame
    return out
