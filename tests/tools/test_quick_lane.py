"""Both lanes of a replay do the same; Ctrl-C; memory that does not grow with the capture."""

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from struct import pack

import pytest
from benchmarks import capture as generator
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.snapshot import whole
from tests.tools.captures import T0

from ipvs_model.addresses import parse_endpoint
from ipvs_model.flags import AF_INET, IPPROTO_TCP
from ipvs_model.packet import Packet
from ipvs_model.tools.commands.replay import play
from ipvs_model.tools.lives import Chooser
from ipvs_model.tools.pcap import Capture
from ipvs_model.tools.quick_lane import quick_lane
from ipvs_model.tools.replay import Mark, Replay

EXAMPLES = Path(__file__).parents[2] / "examples"
ROOT = Path(__file__).parents[2]
VIP = "192.0.2.1:80"
RULES = f"-A -t {VIP} -s rr\n" + "".join(f"-a -t {VIP} -r {server} {method}\n" for server, method in (("10.1.0.11:8080", "-m"), ("10.1.0.12:80", "-g"), ("10.1.0.13:80", "-i")))
ETHERNET = bytes.fromhex("020000000002020000000001")
IPV4 = b"\x08\x00"


def slowly(path: Path, replay: Replay) -> dict:
    with Capture(path) as capture:
        for captured in capture:
            replay.feed(captured)
        return replay.result(capture).as_json()


def frames_taken(path: Path, replay: Replay) -> int:
    count = 0
    with Capture(path) as capture:
        take = quick_lane(replay, capture.link_types)
        for frame in capture.frames():
            if take(frame, capture.records):
                count += 1
            elif (captured := capture.packet(frame)) is not None:
                replay.feed(captured)
    return count


def assert_lanes_agree(path: Path, rules: str, **options) -> None:
    quick, slow = Replay(rules, **options), Replay(rules, **options)
    slow.ipvs.ns.conns.table(AF_INET, IPPROTO_TCP)  # made when the quick lane asks for it
    assert play(str(path), quick).as_json() == slowly(path, slow)
    assert whole(quick.ipvs) == whole(slow.ipvs)


# --- the same results -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["web-and-dns", "web-and-dns-offloaded"])
@pytest.mark.parametrize("answers", ["nat", "all", "none"])
def test_the_examples_go_alike_through_both_lanes(name, answers):
    assert_lanes_agree(EXAMPLES / f"{name}.pcap.gz", (EXAMPLES / "web-and-dns.rules").read_text(), answers=answers)


def test_a_generated_capture_goes_alike_through_both_lanes_most_of_it_quickly(tmp_path):
    path = tmp_path / "capture.pcap"
    generator.write(path, 3000, 300, seed=4)
    assert_lanes_agree(path, generator.rules())
    assert frames_taken(path, Replay(generator.rules())) > 2500


def test_marked_packets_go_the_other_way(tmp_path):
    path = tmp_path / "capture.pcap"
    generator.write(path, 200, 20, seed=4)
    options = {"marks": (Mark.parse(f"7=tcp:{VIP}"),)}
    rules = "-A -f 7 -s rr\n-a -f 7 -r 10.1.0.11:0 -m\n"
    assert_lanes_agree(path, rules, **options)
    assert frames_taken(path, Replay(rules, **options)) == 0


def test_connections_are_chosen_for_the_report_as_ever(tmp_path):
    path = tmp_path / "capture.pcap"
    generator.write(path, 2000, 200, seed=5)
    quick, slow = Chooser(generator.rules()), Chooser(generator.rules())
    play(str(path), quick)
    slowly(path, slow)
    assert quick.chosen == slow.chosen and len(quick.chosen) == 120


CLIENTS = [parse_endpoint(text)[1:] for text in ("203.0.113.7:40000", "203.0.113.8:40000", "192.0.2.1:9999")]
ODDITIES = ("none", "none", "none", "padded", "header checksum", "partial", "partial without length", "cut", "vlan", "ttl 1", "options", "udp", "raw", "elsewhere", "mf")
SEGMENTS = st.tuples(
    st.integers(0, len(CLIENTS) - 1),
    st.booleans(),  # from the client
    st.sampled_from(("S", "SA", "A", "PA", "FA", "R", "", "F")),
    st.sampled_from((0, 10, 1460, 1461, 3000)),
    st.sampled_from(ODDITIES),
    st.sampled_from((0, 1, 3_999_999, 4_000_000, 70_000_000_000, -5_000_000)),  # nanoseconds since the one before
)


def frame_of(client: int, from_client: bool, flags: str, size: int, oddity: str) -> bytes:
    source, target = (CLIENTS[client], VIP) if from_client else (VIP, CLIENTS[client])
    if oddity == "elsewhere":
        target = ("198.51.100.1", 80)
    ttl = 1 if oddity == "ttl 1" else 64
    if oddity == "udp":
        packet = Packet.udp(source, target, bytes(size), ttl=ttl)
    else:
        packet = Packet.tcp(source, target, flags, payload=bytes(size), ttl=ttl, options=bytes(4) if oddity == "options" else b"", df=size != 1461)
    raw = bytearray(packet.raw)
    if oddity == "header checksum":
        raw[10] ^= 0x55
    if oddity == "mf":
        raw = bytearray(Packet.ip(packet.saddr, packet.daddr, 6, packet.l4_bytes).raw)
        raw[6] |= 0x20
    if oddity.startswith("partial"):
        pseudo = packet.saddr + packet.daddr + 6 + (len(raw) - 20 if oddity == "partial" else 0)
        raw[36:38] = (pseudo % 65535 or 0xFFFF).to_bytes(2)
    if oddity == "vlan":
        return ETHERNET + b"\x81\x00\x00\x05" + IPV4 + bytes(raw)
    return ETHERNET + IPV4 + bytes(raw) + (bytes(6) if oddity == "padded" else b"")


@settings(max_examples=150)
@given(st.lists(SEGMENTS, max_size=25), st.sampled_from(("nat", "all", "none")), st.sampled_from((1500, 600)))
def test_odd_packets_go_alike_through_both_lanes(tmp_path_factory, segments, answers, mtu):
    path = tmp_path_factory.mktemp("odd") / "capture.pcap"
    out, now = pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1), T0 * 10**9
    for *what, oddity, passed in segments:
        now += passed
        frame = frame_of(*what, oddity)
        kept = frame[:60] if oddity == "cut" else frame
        out += pack("<IIII", *divmod(now, 10**9), len(kept), len(frame)) + kept
    path.write_bytes(out)
    assert_lanes_agree(path, RULES, answers=answers, mtu=mtu)


def test_link_types_are_noted_whatever_lane_their_frames_take(tmp_path):
    path = tmp_path / "capture.pcap"
    generator.write(path, 100, 10, seed=1)
    assert play(str(path), Replay(generator.rules())).link_types == ("Ethernet",)


# --- memory -----------------------------------------------------------------------------------------------------------
def peak(path: Path, packets: int) -> int:
    """The most memory, in bytes, that a replay of so many packets of 50 connections takes."""
    generator.write(path, packets, 50, seed=2)
    replay = Replay(generator.rules())
    tracemalloc.start()
    try:
        play(str(path), replay)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_packets(tmp_path):
    path = tmp_path / "capture.pcap"
    peak(path, 1000)
    assert peak(path, 24_000) < peak(path, 6000) * 1.1


def test_the_generator_makes_exactly_what_was_asked_for_the_same_each_time(tmp_path):
    frames = list(generator.traffic(1003, 100, seed=1))
    assert len(frames) == 1003 and frames == list(generator.traffic(1003, 100, seed=1)) != list(generator.traffic(1003, 100, seed=2))
    packets = [Packet.parse(frame[14:]) for frame in frames]
    assert len({packet.src for packet in packets if packet.dst == generator.VIP}) == 100
    assert sum(packet.flags == 2 for packet in packets) == 100


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def begun(tmp_path):
    """A replay that reads a pipe which never ends, with 2,000 packets of it played."""
    path = tmp_path / "capture.pcap"
    generator.write(path, 2000, 200, seed=3)
    processes = []

    def begin(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-c", "from ipvs_model.tools.command_line import main; main()", "replay", "-", "--rules", str(path.with_suffix(".rules"))]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        pipe = subprocess.PIPE
        process = subprocess.Popen([*command, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, cwd=tmp_path, env=environment, bufsize=0)
        processes.append(process)
        return process

    yield begin, path.read_bytes()
    for process in processes:
        process.kill()
        process.communicate()


def pour(process: subprocess.Popen, content: bytes) -> None:
    """All of it into the pipe, as fast as it is read."""
    view = memoryview(content)
    while view:
        view = view[process.stdin.write(view) :]


def interrupt_while_reading(process: subprocess.Popen, content: bytes) -> tuple[str, str, int]:
    """Ctrl-C once most of the capture has been read; its records are poured in over and over until nobody reads them any more."""
    pour(process, content)
    process.send_signal(signal.SIGINT)
    with pytest.raises(BrokenPipeError):
        for _ in range(1000):
            pour(process, content[24:])
    out, err = process.communicate(timeout=60)
    return out.decode(), err.decode(), process.returncode


def test_ctrl_c_leaves_json_of_what_was_read(begun):
    begin, content = begun
    out, err, status = interrupt_while_reading(begin("--json"), content)
    found = json.loads(out)
    assert status == 130, err
    assert found["interrupted"] is True
    assert found["notes"][0] == f"Interrupted after record {found['records']}: everything here is about the capture up to that record."
    assert found["client_packets"] + found["answers"] + sum(row["packets"] for row in found["left_out"]) == found["records"] > 0
    assert found["notes"][0] in err


def test_ctrl_c_leaves_tables_and_a_capture_that_can_be_read(begun, tmp_path):
    begin, content = begun
    out, _, status = interrupt_while_reading(begin("--write", "out.pcap"), content)
    assert status == 130
    assert "note: Interrupted after record" in out and "Servers" in out
    emitted = int(out.split(" packets left the director")[0].rsplit(" ", 1)[1])
    with Capture(tmp_path / "out.pcap") as capture:
        assert sum(1 for _ in capture) == emitted > 0
        assert not capture.problems


def test_a_replay_that_is_not_interrupted_says_nothing_of_it(tmp_path):
    path = tmp_path / "capture.pcap"
    generator.write(path, 100, 10, seed=1)
    result = play(str(path), Replay(generator.rules()))
    assert not result.interrupted and not result.notes
