"""Captures are built byte by byte here; dpkt's and scapy's readers are not asked, because they cannot tell where a record stands."""

import gzip
import io
import sys
from itertools import pairwise
from pathlib import Path
from struct import pack

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.captures import T0, block, enhanced, interface, pcap, section

from ipvs_model.tools.link import LINK_TYPES, complete_checksum, is_partial_checksum
from ipvs_model.tools.pcap import Capture, CaptureError, CaptureWriter

SYN = bytes.fromhex("450000280001000040067cc6cb007107c0000201" "9c400050000000010000000050022000f5470000")
SYN6 = bytes.fromhex("6000000000140640") + bytes(15) + b"\1" + bytes(15) + b"\2" + SYN[20:]
ETHER = bytes(12)


@pytest.fixture
def read(tmp_path: Path):
    def read(content: bytes):
        path = tmp_path / "capture"
        path.write_bytes(content)
        with Capture(path) as capture:
            packets = list(capture)
        return packets, capture

    return read


FRAMES = {
    "Ethernet": (1, ETHER + b"\x08\x00" + SYN),
    "Ethernet, IPv6": (1, ETHER + b"\x86\xdd" + SYN6),
    "padded to 60 bytes": (1, ETHER + b"\x08\x00" + SYN + bytes(6)),
    "VLAN": (1, ETHER + bytes.fromhex("810000640800") + SYN),
    "QinQ": (1, ETHER + bytes.fromhex("88a800648100000a0800") + SYN),
    "old QinQ": (1, ETHER + bytes.fromhex("910000648100000a0800") + SYN),
    "cooked": (113, bytes(14) + b"\x08\x00" + SYN),
    "cooked, VLAN": (113, bytes(14) + bytes.fromhex("810000640800") + SYN),
    "cooked, IPv6": (113, bytes(14) + b"\x86\xdd" + SYN6),
    "cooked v2": (276, b"\x08\x00" + bytes(18) + SYN),
    "raw": (101, SYN),
    "raw, IPv6": (101, SYN6),
    "raw, BSD number": (12, SYN),
    "raw, OpenBSD number": (14, SYN),
    "raw IPv4": (228, SYN),
    "raw IPv6": (229, SYN6),
    "loopback, little endian": (0, pack("<I", 2) + SYN),
    "loopback, big endian": (0, pack(">I", 2) + SYN),
    "loopback, macOS IPv6": (0, pack("<I", 30) + SYN6),
    "OpenBSD loopback": (108, pack(">I", 24) + SYN6),
}


@pytest.mark.parametrize("link_type,frame", FRAMES.values(), ids=FRAMES)
def test_each_link_type_gives_the_same_packet(read, link_type, frame):
    packets, capture = read(pcap(frame, link_type=link_type))
    assert [packet.data for packet in packets] == [SYN6 if SYN6 in frame else SYN]
    assert not capture.problems and not capture.passed_over


def test_every_link_type_is_in_the_test_above():
    assert {link_type for link_type, _ in FRAMES.values()} == set(LINK_TYPES)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic,unit", [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap_times_are_whole_nanoseconds(read, order, magic, unit):
    packets, _ = read(pcap(SYN, SYN, link_type=101, order=order, magic=magic, step=123_457))
    assert [packet.time for packet in packets] == [T0 * 10**9, T0 * 10**9 + 123_457 * unit]


def test_modified_pcap_has_longer_record_headers(read):
    content = pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 101) + (pack("<IIII", T0, 5, 40, 40) + bytes(8) + SYN) * 2
    packets, _ = read(content)
    assert [packet.data for packet in packets] == [SYN, SYN]


def test_gzip_is_seen_through(tmp_path):
    (tmp_path / "capture").write_bytes(gzip.compress(pcap(SYN, SYN, link_type=101)))
    with Capture(tmp_path / "capture") as capture:
        assert [packet.data for packet in capture] == [SYN, SYN]
        assert capture.fraction == 1.0


def test_a_pipe_is_read_too(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(pcap(SYN, link_type=101)))))
    with Capture("-") as capture:
        assert [packet.data for packet in capture] == [SYN]


def test_records_know_where_they_stand(read):
    packets, _ = read(pcap(SYN, SYN6, SYN, link_type=101))
    assert [(packet.record, packet.position) for packet in packets] == [(1, 24), (2, 24 + 16 + 40), (3, 24 + 16 + 40 + 16 + 60)]


# --- pcapng -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", "<>")
def test_pcapng_with_two_interfaces_of_different_kinds(read, order):
    nanoseconds = pack(order + "HHB3xHH", 9, 1, 9, 0, 0)
    binary = pack(order + "HHB3xHHqHH", 9, 1, 0x80 | 10, 14, 8, 100, 0, 0)
    content = section(order) + interface(1, nanoseconds, order) + interface(113, binary, order) + interface(101, order=order)
    content += enhanced(0, 7_000_000_123, ETHER + b"\x08\x00" + SYN, order)
    content += block(5, bytes(12), order)  # statistics
    content += enhanced(1, 1024 * 3 + 512, bytes(14) + b"\x08\x00" + SYN, order)
    content += enhanced(2, 5, SYN6, order)
    packets, capture = read(content)
    assert [packet.time for packet in packets] == [7_000_000_123, 103_500_000_000, 5000]
    assert [packet.record for packet in packets] == [1, 2, 3] and not capture.problems
    assert content[packets[1].position :].startswith(pack(order + "I", 6))


def test_pcapng_sections_may_change_the_byte_order(read):
    packets, _ = read(section() + interface(101) + enhanced(0, 1, SYN) + section(">") + interface(228, order=">") + enhanced(0, 2, SYN, ">"))
    assert [packet.time for packet in packets] == [1000, 2000]


def test_pcapng_simple_packets_take_the_time_of_the_one_before(read):
    content = section() + interface(101, snaplen=40) + enhanced(0, 9, SYN) + block(3, pack("<I", 40) + SYN)
    packets, _ = read(content)
    assert [(packet.time, packet.data) for packet in packets] == [(9000, SYN)] * 2


def test_pcapng_obsolete_packet_block(read):
    packets, _ = read(section() + interface(101) + block(2, pack("<HHIIII", 0, 0, 0, 8, 40, 40) + SYN))
    assert [(packet.time, packet.data) for packet in packets] == [(8000, SYN)]


def test_pcapng_packet_of_an_unknown_interface_is_reported_and_reading_goes_on(read):
    packets, capture = read(section() + interface(101) + enhanced(4, 1, SYN) + enhanced(0, 2, SYN))
    assert [packet.record for packet in packets] == [2]
    assert str(capture.problems[0]) == "record 1 at byte 48: it names interface 4, which the file does not describe"


def test_pcapng_interface_of_another_link_type_is_passed_over(read):
    packets, capture = read(section() + interface(127) + interface(101) + enhanced(0, 1, b"radio") + enhanced(1, 2, SYN))
    assert len(packets) == 1 and capture.passed_over["link type 127"].count == 1


def test_pcapng_packet_that_does_not_fit_its_block(read):
    bad = block(6, pack("<IIIII", 0, 0, 1, 4000, 4000) + SYN)
    packets, capture = read(section() + interface(101) + bad + block(6, bytes(4)) + enhanced(0, 2, SYN))
    assert [packet.record for packet in packets] == [3]
    too_much, too_short = "it claims 4000 captured bytes, its block has room for 40", "the packet block is too short (16 bytes)"
    assert [problem.text for problem in capture.problems] == [too_much, too_short]


def test_pcapng_block_of_impossible_length_ends_the_reading(read):
    packets, capture = read(section() + interface(101) + enhanced(0, 1, SYN) + pack("<II", 6, 7) + enhanced(0, 1, SYN))
    assert len(packets) == 1
    assert capture.problems[0].record == 2 and "length of 7" in capture.problems[0].text


# --- damage -----------------------------------------------------------------------------------------------------------
def test_file_cut_in_the_middle_of_a_record(read):
    packets, capture = read(pcap(SYN, SYN, link_type=101)[:-5])
    assert len(packets) == 1
    assert list(map(str, capture.problems)) == ["record 2 at byte 80: the file ends in the middle of it (35 of 40 bytes)"]


def test_file_cut_in_the_middle_of_a_record_header(read):
    packets, capture = read(pcap(SYN, SYN, link_type=101)[:-45])
    assert len(packets) == 1
    assert list(map(str, capture.problems)) == ["record 2 at byte 80: the file ends in the middle of a record header (11 of 16 bytes)"]


@given(st.data())
def test_a_capture_cut_anywhere_gives_every_whole_record_and_names_the_cut(tmp_path_factory, data):
    whole = data.draw(st.sampled_from([pcap(SYN, SYN6, SYN, link_type=101), section() + interface(101) + enhanced(0, 1, SYN) + enhanced(0, 2, SYN6)]))
    end = data.draw(st.integers(24, len(whole)))
    path = tmp_path_factory.mktemp("cut") / "capture"
    path.write_bytes(whole)
    with Capture(path) as capture:
        starts = [packet.position for packet in capture] + [len(whole)]
    path.write_bytes(whole[:end])
    with Capture(path) as capture:
        packets = list(capture)
    assert len(packets) == sum(after <= end for _, after in pairwise(starts))
    complete = end in starts or (whole[:4] == b"\n\r\r\n" and end == 28)
    assert bool(capture.problems) is not complete
    if not complete and end > starts[0]:
        assert capture.problems[0].position == max(start for start in starts if start < end)


def test_a_cut_gzip_stream_gives_what_can_be_unpacked(read):
    packets, capture = read(gzip.compress(pcap(*[SYN] * 5000, link_type=101))[:-20])
    assert 0 < len(packets) <= 5000
    assert "compressed file is damaged" in capture.problems[-1].text


def test_record_of_impossible_size_ends_the_reading(read):
    packets, capture = read(pcap(SYN, link_type=101) + pack("<IIII", T0, 0, 0x7FFFFFFF, 0x7FFFFFFF) + SYN)
    assert len(packets) == 1
    assert str(capture.problems[0]).startswith("record 2 at byte 80: it claims 2147483647 captured bytes")


@pytest.mark.parametrize(
    "content,words",
    [(b"", "empty"), (b"GET / HTTP", "neither pcap nor pcapng (it begins with 47 45 54 20)"), (pcap()[:20], "cut after 20 of 24 bytes")],
)
def test_files_that_are_no_captures_are_refused(read, content, words):
    with pytest.raises(CaptureError) as refused:
        read(content)
    assert words in str(refused.value)


def test_unsupported_link_type_is_refused_with_the_list_of_the_supported(read):
    with pytest.raises(CaptureError, match="link type 105 is not supported.*Ethernet"):
        read(pcap(SYN, link_type=105))


# --- packets that are not whole or not IP ----------------------------------------------------------------------------
def test_snaplen_cuts_payload_and_zeros_stand_in_for_it(read):
    long = SYN[:2] + pack("!H", 140) + SYN[4:10] + bytes(2) + SYN[12:] + b"x" * 100
    packets, capture = read(pcap(long, link_type=101, cut=60))
    assert (len(packets[0].data), packets[0].missing) == (140, 80)
    assert packets[0].data[40:] == b"x" * 20 + bytes(80) and not capture.problems


def test_snaplen_that_cuts_headers_is_reported(read):
    packets, capture = read(pcap(SYN, link_type=101, cut=30) + pack("<IIII", T0, 1, 40, 40) + SYN)
    assert [packet.record for packet in packets] == [2]
    assert list(map(str, capture.problems)) == ["record 1 at byte 24: only 30 bytes were captured, its headers take 40"]


DAMAGED = {
    "not even the link header": (1, ETHER[:9], "the capture holds 9 bytes of it, not even a whole Ethernet header"),
    "IPv4 header cut": (1, ETHER + b"\x08\x00" + SYN[:12], "the IPv4 header is not complete"),
    "IPv6 header cut": (1, ETHER + b"\x86\xdd" + SYN6[:12], "the IPv6 header is not complete"),
    "no IPv4": (1, ETHER + b"\x08\x00" + b"\x65" + SYN[1:], "this is no IPv4 header"),
    "IHL 4": (1, ETHER + b"\x08\x00" + b"\x44" + SYN[1:], "this is no IPv4 header"),
    "no IPv6": (1, ETHER + b"\x86\xdd" + b"\x45" + SYN6[1:], "this is no IPv6 header"),
    "shorter than its header": (101, SYN[:2] + pack("!H", 19) + SYN[4:], "the IP header states a length of 19 bytes, its own header takes 20"),
    "longer than the frame": (101, SYN[:2] + pack("!H", 400) + SYN[4:], "the IP header states a length of 400 bytes, the frame carried 40"),
}


@pytest.mark.parametrize("link_type,frame,words", DAMAGED.values(), ids=DAMAGED)
def test_what_cannot_be_an_ip_packet_is_reported(read, link_type, frame, words):
    packets, capture = read(pcap(frame, link_type=link_type))
    assert not packets and [problem.text for problem in capture.problems] == [words]


def test_frames_without_ip_are_counted_by_kind(read):
    arp = ETHER + b"\x08\x06" + bytes(28)
    _, capture = read(pcap(arp, ETHER + b"\x00\x20" + bytes(40), arp, ETHER + b"\x12\x34" + bytes(40)))
    assert {what: (seen.count, seen.record) for what, seen in capture.passed_over.items()} == {"ARP": (2, 1), "IEEE 802.3": (1, 2), "EtherType 0x1234": (1, 4)}
    assert not capture.problems


def test_length_left_to_the_card_is_taken_from_the_frame(read):
    packets, _ = read(pcap(ETHER + b"\x08\x00" + SYN[:2] + bytes(2) + SYN[4:], ETHER + b"\x86\xdd" + SYN6[:4] + bytes(2) + SYN6[6:]))
    assert [packet.data for packet in packets] == [SYN, SYN6]
    assert [packet.repairs for packet in packets] == [("length",), ("length",)]


def test_header_checksum_left_to_the_card_is_filled_in(read):
    packets, _ = read(pcap(SYN[:10] + bytes(2) + SYN[12:], link_type=101))
    assert (packets[0].data, packets[0].repairs) == (SYN, ("header checksum",))


@pytest.mark.parametrize("packet,offset", [(SYN, 20), (SYN6, 40)], ids=["v4", "v6"])
def test_partial_checksum_is_told_from_a_whole_one_and_completed(packet, offset):
    whole = complete_checksum(packet, 6, offset)
    assert not is_partial_checksum(whole, 6, offset, 0)
    addresses = packet[12:20] if offset == 20 else packet[8:40]
    for length in (len(packet) - offset, 0):
        total = sum(int.from_bytes(addresses[i : i + 2]) for i in range(0, len(addresses), 2)) + 6 + length
        open_ = packet[: offset + 16] + pack("!H", total % 65535) + packet[offset + 18 :]
        assert is_partial_checksum(open_, 6, offset, 0)
        assert complete_checksum(open_, 6, offset) == whole


def test_completed_checksum_is_the_one_that_dpkt_computes():
    whole = complete_checksum(SYN, 6, 20)
    theirs = dpkt.ip.IP(SYN)
    theirs.sum = theirs.data.sum = 0
    assert whole == bytes(theirs)


def test_writer_and_reader_agree(tmp_path):
    with CaptureWriter(tmp_path / "out.pcap") as out:
        out.write(T0 * 10**9 + 123_456_789, SYN)
        out.write(T0 * 10**9 + 223_456_789, SYN, missing=0)
    with Capture(tmp_path / "out.pcap") as capture:
        assert [(packet.time, packet.data) for packet in capture] == [(T0 * 10**9 + 123_456_789, SYN), (T0 * 10**9 + 223_456_789, SYN)]
    with open(tmp_path / "out.pcap", "rb") as file:
        assert [frame for _, frame in dpkt.pcap.Reader(file)] == [SYN, SYN]
