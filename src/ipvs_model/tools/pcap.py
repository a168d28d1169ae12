"""Captures: pcap (microseconds or nanoseconds) and pcapng, gzip or not, in; pcap out.

dpkt knows the file and interface headers and their options. The loop over the records is ours, because it has to know where each record stands, keep whole
nanoseconds, take several interfaces of different link types, and go as far as a damaged file can be read.
"""

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from struct import Struct, pack
from types import TracebackType
from typing import IO, Any, Final, NamedTuple, Self, TypeAlias

import dpkt
from attrs import define, field, frozen

from ipvs_model.tools.link import LINK_TYPES, Damaged, NotIP, ip_packet

CHUNK: Final = 1 << 18
MAX_RECORD: Final = 1 << 18  #: a record that claims more than this and more than the file's snaplen is damage
LINKTYPE_RAW: Final = 101

#: first four bytes → (byte order, nanoseconds in the unit of the fraction, bytes of a record header)
PCAP_MAGIC: Final = {
    bytes.fromhex("d4c3b2a1"): ("<", 1000, 16),
    bytes.fromhex("a1b2c3d4"): (">", 1000, 16),
    bytes.fromhex("4d3cb2a1"): ("<", 1, 16),
    bytes.fromhex("a1b23c4d"): (">", 1, 16),
    bytes.fromhex("34cdb2a1"): ("<", 1000, 24),
    bytes.fromhex("a1b2cd34"): (">", 1000, 24),
}
PCAPNG_SECTION: Final = 0x0A0D0D0A
PCAPNG_INTERFACE: Final = 1
PCAPNG_PACKET: Final = 2
PCAPNG_SIMPLE: Final = 3
PCAPNG_ENHANCED: Final = 6


class CaptureError(ValueError):
    """The file cannot be read as a capture at all; the text is fit to be shown to the user."""


@frozen
class CaptureProblem:
    """Something in the capture that could not be read or understood."""

    record: int  #: number of the packet record, counted from 1 as other tools count frames
    position: int  #: byte at which the record begins, in the uncompressed file
    text: str  #: what is wrong, in words

    def __str__(self) -> str:
        return f"record {self.record} at byte {self.position}: {self.text}"


@define
class PassedOver:
    """Frames that carry no IP: nothing is wrong with them, IPVS never sees them."""

    count: int
    record: int  #: the first of them
    position: int


class CapturedPacket(NamedTuple):
    """An IP packet of the capture."""

    record: int  #: number of its record, from 1
    position: int  #: byte at which the record begins, in the uncompressed file
    time: int  #: nanoseconds since 1970
    data: bytes  #: from the IP header on, exactly as long as the IP header states
    missing: int  #: bytes at the end that were not captured and stand here as zeros
    repairs: tuple[str, ...]  #: header fields that offloading had left open and that were filled in


#: a record as it stands in the file: position, time in nanoseconds, captured bytes, bytes on the wire as it claims, link type
Frame: TypeAlias = tuple[int, int, bytes, int, int]


class _Source:
    """Bytes of a file, decompressed, with the position; an end in the middle of a gzip stream is an end like any other, with the reason kept."""

    def __init__(self, path: str | Path) -> None:
        if str(path) == "-":
            self._file: IO[bytes] = sys.stdin.buffer
            self._size = 0
        else:
            self._file = open(path, "rb")  # noqa: SIM115 (close() ends it)
            self._size = Path(path).stat().st_size
        self._read: Callable[[int], bytes] = self._file.read
        self._buffer = self._file.read(2)
        if self._buffer == b"\x1f\x8b":
            unzipped = gzip.GzipFile(fileobj=_Rewound(self._buffer, self._file), mode="rb")
            self._buffer = b""
            self._read = unzipped.read1
        self._at = 0
        self.position = 0
        self.broken = ""

    @property
    def fraction(self) -> float:
        """How much of the file has been read, 0 to 1; 0 when its size is not known."""
        return self._file.tell() / self._size if self._size else 0.0

    def window(self) -> tuple[bytes, int]:
        """What has been read ahead, and where in it the next byte stands."""
        return self._buffer, self._at

    def skip_to(self, at: int) -> None:
        """Take everything in the window before `at`."""
        self.position += at - self._at
        self._at = at

    def take(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end."""
        end = self._at + count
        if end > len(self._buffer):
            self._fill(count)
            end = self._at + count
        taken = self._buffer[self._at : end]
        self._at = min(end, len(self._buffer))
        self.position += len(taken)
        return taken

    def _fill(self, count: int) -> None:
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        while have < count and not self.broken:
            try:
                part = self._read(CHUNK)
            except (EOFError, OSError, zlib.error) as error:
                self.broken = str(error)
                break
            if not part:
                break
            parts.append(part)
            have += len(part)
        self._buffer, self._at = b"".join(parts), 0

    def close(self) -> None:
        if self._file is not sys.stdin.buffer:
            self._file.close()


class _Rewound(io.RawIOBase):
    """A file whose first bytes were read already: a pipe cannot seek back."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self._head, self._file = head, file

    def read(self, count: int = -1) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        return self._file.read(count)


@define(slots=False)
class Capture:
    """A capture file, read once from front to back; iterating gives the IP packets.

    `problems` and `passed_over` fill up while it is read. Raises CaptureError (or OSError) on opening when the file is no capture.

    >>> with Capture("examples/web-and-dns.pcap.gz") as capture:
    ...     packets = sum(1 for _ in capture)
    >>> packets, capture.problems
    (3764, [])
    """

    path: str | Path
    problems: list[CaptureProblem] = field(factory=list, init=False)
    passed_over: dict[str, PassedOver] = field(factory=dict, init=False)
    records: int = field(default=0, init=False)  #: packet records met so far
    format: str = field(default="", init=False)
    link_types: set[str] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._source = _Source(self.path)
        try:
            self._walk = self._open()
        except BaseException:
            self._source.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._source.close()

    @property
    def fraction(self) -> float:
        """How much of the file has been read, 0 to 1; 0 for a pipe."""
        return self._source.fraction

    def __iter__(self) -> Iterator[CapturedPacket]:
        for frame in self.frames():
            packet = self.packet(frame)
            if packet is not None:
                yield packet

    def frames(self) -> Iterator[Frame]:
        """The frames as they stand in the file; `records` is the number of the latest, and `packet` finds the IP packet in it."""
        return chain(self._walk, self._end())

    def _end(self) -> Iterator[Frame]:
        """No more frames, but perhaps a reason for it."""
        if self._source.broken:
            self.problems.append(CaptureProblem(self.records + 1, self._source.position, f"the compressed file is damaged: {self._source.broken}"))
        yield from ()

    def packet(self, frame: Frame) -> CapturedPacket | None:
        """The IP packet in the latest frame. If there is none, that is noted among `problems` or `passed_over`."""
        position, time, data, wire_length, link_type = frame
        if link_type not in LINK_TYPES:
            self._pass_over(f"link type {link_type}", position)
            return None
        self.link_types.add(LINK_TYPES[link_type][0])
        try:
            return CapturedPacket(self.records, position, time, *ip_packet(link_type, data, max(wire_length, len(data))))
        except NotIP as other:
            self._pass_over(str(other), position)
        except Damaged as damage:
            self._problem(position, str(damage))
        return None

    def _pass_over(self, what: str, position: int) -> None:
        seen = self.passed_over.setdefault(what, PassedOver(0, self.records, position))
        seen.count += 1

    def _problem(self, position: int, text: str) -> None:
        self.problems.append(CaptureProblem(self.records, position, text))

    # --- containers ---------------------------------------------------------------------------------------------------
    def _open(self) -> Iterator[Frame]:
        magic = self._source.take(4)
        if magic in PCAP_MAGIC:
            return self._open_pcap(magic)
        if magic == pack("<I", PCAPNG_SECTION):
            self.format = "pcapng"
            return self._pcapng()
        if not magic:
            raise CaptureError(f"{self.path}: the file is empty" + (f" ({self._source.broken})" if self._source.broken else ""))
        raise CaptureError(f"{self.path}: neither pcap nor pcapng (it begins with {magic.hex(' ')})")

    def _open_pcap(self, magic: bytes) -> Iterator[Frame]:
        order, unit, header_length = PCAP_MAGIC[magic]
        rest = self._source.take(20)
        if len(rest) < 20:
            raise CaptureError(f"{self.path}: the pcap file header is cut after {4 + len(rest)} of 24 bytes")
        header = (dpkt.pcap.LEFileHdr if order == "<" else dpkt.pcap.FileHdr)(magic + rest)
        link_type = header.linktype & 0xFFFF  # the upper bits say whether frames end in a checksum
        self._need_link_type(link_type)
        self.format = "pcap" if unit > 1 else "pcap, nanoseconds"
        return self._pcap(order, unit, header_length, link_type, max(header.snaplen, MAX_RECORD))

    def _need_link_type(self, link_type: int) -> None:
        if link_type not in LINK_TYPES:
            known = ", ".join(sorted({name for name, _ in LINK_TYPES.values()}))
            raise CaptureError(f"{self.path}: link type {link_type} is not supported (supported: {known})")

    def _pcap(self, order: str, unit: int, header_length: int, link_type: int, limit: int) -> Iterator[Frame]:
        source, unpack = self._source, Struct(order + "IIII").unpack_from
        while True:
            buffer, at = source.window()
            before = source.position - at  # position of the window's first byte
            size = len(buffer)
            while (body := at + header_length) <= size:  # whole records that have been read ahead
                seconds, fraction, captured, wire_length = unpack(buffer, at)
                end = body + captured
                if end > size or captured > limit:
                    break
                self.records += 1
                yield before + at, seconds * 1_000_000_000 + fraction * unit, buffer[body:end], wire_length, link_type
                at = end
            source.skip_to(at)
            position = source.position  # the record across the end of the window
            header = source.take(header_length)
            if len(header) < header_length:
                if header:
                    self.records += 1
                    self._problem(position, f"the file ends in the middle of a record header ({len(header)} of {header_length} bytes)")
                return
            self.records += 1
            seconds, fraction, captured, wire_length = unpack(header)
            if captured > limit:
                self._problem(position, f"it claims {captured} captured bytes, which cannot be; nothing after it can be found")
                return
            frame = source.take(captured)
            if len(frame) < captured:
                self._problem(position, f"the file ends in the middle of it ({len(frame)} of {captured} bytes)")
                return
            yield position, seconds * 1_000_000_000 + fraction * unit, frame, wire_length, link_type

    def _pcapng(self) -> Iterator[Frame]:
        source, order, time = self._source, "<", 0
        interfaces: list[tuple[int, Callable[[int], int], int]] = []
        head = pack("<I", PCAPNG_SECTION)  # the magic was taken to recognise the file
        while True:
            position = source.position - len(head)
            head += source.take(8 - len(head))
            if len(head) < 8:
                if head:
                    self._cut_block(position, len(head), 8)
                return
            kind = int.from_bytes(head[:4], "little" if order == "<" else "big")
            body = b""
            if kind == PCAPNG_SECTION:
                body = source.take(4)
                order = "<" if body == b"\x4d\x3c\x2b\x1a" else ">"
                interfaces = []
            length: int = Struct(order + "I").unpack(head[4:])[0]
            if length < 12 + len(body) or length % 4 or length > MAX_RECORD * 64:
                self.records += 1
                self._problem(position, f"a block claims a length of {length}, which cannot be; nothing after it can be found")
                return
            body += source.take(length - 8 - len(body))
            block, head = head + body, b""
            if len(block) < length:
                self._cut_block(position, len(block), length)
                return
            if kind == PCAPNG_INTERFACE:
                interfaces.append(_interface(block, order))
            elif kind in (PCAPNG_PACKET, PCAPNG_ENHANCED, PCAPNG_SIMPLE):
                self.records += 1
                record = self._packet_block(kind, block, order, interfaces, position, time)
                if record is not None:
                    time = record[1]
                    yield record

    def _cut_block(self, position: int, have: int, length: int) -> None:
        self.records += 1
        self._problem(position, f"the file ends in the middle of a block ({have} of {length} bytes)")

    def _packet_block(
        self, kind: int, block: bytes, order: str, interfaces: list[tuple[int, Callable[[int], int], int]], position: int, time: int
    ) -> Frame | None:
        if kind == PCAPNG_SIMPLE:  # no time of its own: it was captured after the one before
            wire_length: int = Struct(order + "I").unpack_from(block, 8)[0]
            number, start, stamp = 0, 12, None
            captured = min(wire_length, interfaces[0][2] or wire_length, len(block) - 16) if interfaces else 0
        elif len(block) < 32:
            self._problem(position, f"the packet block is too short ({len(block)} bytes)")
            return None
        else:
            number, high, low, captured, wire_length = Struct(order + ("IIIII" if kind == PCAPNG_ENHANCED else "HxxIIII")).unpack_from(block, 8)
            start, stamp = 28, high << 32 | low
        if number >= len(interfaces):
            self._problem(position, f"it names interface {number}, which the file does not describe")
            return None
        if captured > len(block) - start - 4:
            self._problem(position, f"it claims {captured} captured bytes, its block has room for {len(block) - start - 4}")
            return None
        link_type, nanoseconds, _ = interfaces[number]
        when = time if stamp is None else nanoseconds(stamp)
        return position, when, block[start : start + captured], wire_length, link_type


def _interface(block: bytes, order: str) -> tuple[int, Callable[[int], int], int]:
    """Link type, timestamp → nanoseconds, snaplen of an interface block."""
    described: Any = (dpkt.pcapng.InterfaceDescriptionBlockLE if order == "<" else dpkt.pcapng.InterfaceDescriptionBlock)(block)
    base, power, offset = 10, 6, 0
    for option in described.opts:
        if option.code == dpkt.pcapng.PCAPNG_OPT_IF_TSRESOL:
            base, power = (2, option.data[0] & 0x7F) if option.data[0] & 0x80 else (10, option.data[0])
        elif option.code == dpkt.pcapng.PCAPNG_OPT_IF_TSOFFSET:
            offset = int.from_bytes(option.data[:8], "little" if order == "<" else "big", signed=True)
    divisor = int(base**power)

    def nanoseconds(stamp: int) -> int:
        return stamp * 1_000_000_000 // divisor + offset * 1_000_000_000

    return int(described.linktype), nanoseconds, int(described.snaplen)


class CaptureWriter:
    """Writes IP packets into a pcap file (raw IP, nanoseconds); tcpdump and Wireshark read it."""

    def __init__(self, path: str | Path) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 (__exit__ ends it)
        self._file.write(pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, MAX_RECORD, LINKTYPE_RAW))
        self.count = 0

    def write(self, time: int, data: bytes, missing: int = 0) -> None:
        """Add a packet. `time` in nanoseconds; the last `missing` bytes are left out, as a snaplen would have it."""
        kept = data[: len(data) - missing] if missing else data
        self._file.write(pack("<IIII", time // 1_000_000_000, time % 1_000_000_000, len(kept), len(data)) + kept)
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
