"""Conversations, built packet by packet, played through rules."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.tools.captures import T0, pcap

from ipvs_model.errors import IPVSError
from ipvs_model.packet import Packet
from ipvs_model.packet.fragment import fragment
from ipvs_model.tools.commands.replay import command, play
from ipvs_model.tools.link import complete_checksum, is_partial_checksum
from ipvs_model.tools.pcap import Capture, CapturedPacket
from ipvs_model.tools.replay import Mark, Replay, RulesError

EXAMPLES = Path(__file__).parents[2] / "examples"
CLIENT, VIP, A, B = "203.0.113.7:40000", "192.0.2.1:80", "10.1.0.11:8080", "10.1.0.12:8080"
RULES = f"-A -t {VIP} -s rr\n-a -t {VIP} -r {A} -m\n"


def at(seconds: float, packet: Packet, record: int = 1, missing: int = 0) -> CapturedPacket:
    return CapturedPacket(record, 24, T0 * 10**9 + round(seconds * 10**9), packet.raw, missing, ())


def tcp(source: str, target: str, flags: str, payload: bytes = b"", **more) -> Packet:
    return Packet.tcp(source, target, flags, payload=payload, **more)


def ends(packets: list[Packet]) -> list[tuple[str, str]]:
    from ipvs_model.addresses import format_endpoint

    return [(format_endpoint(packet.af, packet.src), format_endpoint(packet.af, packet.dst)) for packet in packets]


# --- which packets are fed, and as what -------------------------------------------------------------------------------
def test_client_packets_go_to_the_server_and_its_answers_leave_from_the_virtual_address():
    replay = Replay(RULES)
    assert ends(replay.feed(at(0, tcp(CLIENT, VIP, "S")))) == [(CLIENT, A)]
    assert ends(replay.feed(at(0.01, tcp(VIP, CLIENT, "SA")))) == [(VIP, CLIENT)]
    assert ends(replay.feed(at(0.02, tcp(CLIENT, VIP, "A")))) == [(CLIENT, A)]
    assert [cp.state.name for cp in replay.ipvs.ns.conns] == ["ESTABLISHED"]


def test_an_answer_goes_through_the_model_and_keeps_a_right_checksum():
    replay = Replay(RULES)
    replay.feed(at(0, tcp(CLIENT, VIP, "S")))
    answer = tcp(VIP, CLIENT, "PA", b"hello", seq=1, ttl=64)
    left = replay.feed(at(1, answer))
    assert left[0].raw == tcp(VIP, CLIENT, "PA", b"hello", seq=1, ttl=63).raw


def test_answers_of_unknown_connections_are_left_out():
    replay = Replay(RULES)
    assert replay.feed(at(0, tcp(VIP, CLIENT, "SA"))) == []
    with_capture = replay.result(FakeCapture())
    assert [(row.packets, row.why) for row in with_capture.left_out] == [(1, "answer of a connection that the model does not have")]


class FakeCapture:
    path, format, link_types, records, problems, passed_over = "capture", "pcap", {"raw IP"}, 1, [], {}


@pytest.mark.parametrize("method", ["-g", "-i"])
def test_direct_answers_are_fed_only_when_asked_for(method):
    rules = f"-A -t {VIP} -s rr\n-a -t {VIP} -r 10.1.0.11:80 {method}\n"
    for answers, state in (("nat", "SYN_RECV"), ("all", "SYN_RECV"), ("none", "SYN_RECV")):
        replay = Replay(rules, answers=answers)
        replay.feed(at(0, tcp(CLIENT, VIP, "S")))
        left = replay.feed(at(1, tcp(VIP, CLIENT, "FA")))
        assert len(left) == (answers == "all"), (answers, state)


def test_quoting_icmp_errors_of_the_server_are_answers_too():
    replay = Replay("-A -u 192.0.2.1:53 -s rr\n-a -u 192.0.2.1:53 -r 10.1.0.11:5300 -m\n")
    query = Packet.udp("203.0.113.7:40000", "192.0.2.1:53", payload=b"query")
    replay.feed(at(0, query))
    left = replay.feed(at(1, Packet.icmp("192.0.2.1", "203.0.113.7", 3, 3, payload=query.raw)))
    assert left[0].raw[28 + 16 : 28 + 20] == query.raw[16:20] and left[0].saddr == query.daddr


def test_fragmented_queries_and_answers_go_through_in_pieces():
    replay = Replay("-A -u 192.0.2.1:53 -s rr\n-a -u 192.0.2.1:53 -r 10.1.0.11:5300 -m\n")
    query = Packet.udp("203.0.113.7:40000", "192.0.2.1:53", payload=bytes(2000), id=7)
    answer = Packet.udp("192.0.2.1:53", "203.0.113.7:40000", payload=bytes(3000), id=8)
    left = [replay.feed(at(n, piece)) for n, piece in enumerate(fragment(query, 1500))]
    assert [len(packets) for packets in left] == [0, 2]
    assert Packet.parse(left[1][0].raw).dst == replay.servers[0][1].addr << 16 | 5300
    left = [replay.feed(at(2 + n, piece)) for n, piece in enumerate(fragment(answer, 1500))]
    assert [len(packets) for packets in left] == [0, 0, 3]
    assert left[2][0].src == answer.src and replay.client_packets == 1 and replay.answers_fed == 1
    assert replay.result(FakeCapture()).lost == 0


def test_ipv6_goes_through_both_ways():
    client, vip, server = "[2001:db8:9::7]:40000", "[2001:db8::1]:80", "[2001:db8:1::11]:8080"
    replay = Replay(f"-A -t {vip} -s rr\n-a -t {vip} -r {server} -m\n")
    assert ends(replay.feed(at(0, tcp(client, vip, "S")))) == [(client, server)]
    answer = tcp(vip, client, "SA", ttl=64)
    assert [packet.raw for packet in replay.feed(at(1, answer))] == [tcp(vip, client, "SA", ttl=63).raw]


def test_icmp_echo_to_the_virtual_address_does_not_reach_a_server():
    replay = Replay(RULES)
    assert replay.feed(at(0, Packet.icmp("203.0.113.7", "192.0.2.1", 8, 0))) == []


def test_other_traffic_is_left_alone_and_the_busiest_is_named():
    replay = Replay(RULES)
    for _ in range(3):
        assert replay.feed(at(0, tcp(CLIENT, "192.0.2.9:443", "S"))) == []
    result = replay.result(FakeCapture())
    assert result.left_out[0].packets == 3
    assert "No packet went to a virtual address of the rules (192.0.2.1). Most packets went to: TCP 192.0.2.9:443 (3)." in result.notes


# --- time -------------------------------------------------------------------------------------------------------------
def test_the_clock_follows_the_capture():
    replay = Replay(RULES)
    start = replay.ipvs.clock.now
    replay.feed(at(0, tcp(CLIENT, VIP, "S")))
    replay.feed(at(10.003, tcp(CLIENT, VIP, "A")))
    assert replay.ipvs.clock.now == start + 2500


def test_connections_expire_in_a_gap_of_the_capture():
    replay = Replay(RULES)
    replay.feed(at(0, tcp(CLIENT, VIP, "S")))
    replay.feed(at(3600, tcp("203.0.113.8:1", VIP, "S")))
    assert len(replay.ipvs.ns.conns) == 1
    assert len(replay.timeline.samples) < 241


def test_packets_that_go_back_in_time_are_fed_now_and_noted():
    replay = Replay(RULES)
    replay.feed(at(5, tcp(CLIENT, VIP, "S")))
    assert replay.feed(at(4, tcp(CLIENT, VIP, "A")))
    assert any("older than one before" in note for note in replay.result(FakeCapture()).notes)


# --- offloading -------------------------------------------------------------------------------------------------------
def test_partial_checksums_leave_complete():
    whole = tcp(CLIENT, VIP, "PA", b"data")
    raw = bytearray(whole.raw)
    words = sum(int.from_bytes(raw[i : i + 2]) for i in range(12, 20, 2)) + 6 + len(raw) - 20
    raw[36:38] = (words % 65535).to_bytes(2)
    replay = Replay(RULES)
    replay.feed(at(0, tcp(CLIENT, VIP, "S")))
    left = replay.feed(CapturedPacket(2, 24, T0 * 10**9, bytes(raw), 0, ()))
    assert left[0].raw == tcp(CLIENT, A, "PA", b"data", ttl=left[0].ttl).raw
    assert not is_partial_checksum(left[0].raw, 6, 20, 0)


def test_aggregates_larger_than_the_mtu_pass_and_are_noted():
    replay = Replay(RULES)
    replay.feed(at(0, tcp(CLIENT, VIP, "S")))
    assert len(replay.feed(at(0.1, tcp(CLIENT, VIP, "A", bytes(20_000), df=True)))) == 1
    assert len(replay.feed(at(0.2, tcp(CLIENT, VIP, "A", bytes(1400), df=True)))) == 1
    assert replay.emitted == 3
    assert any(note.startswith("1 packets are larger than the MTU of 1500 bytes") for note in replay.result(FakeCapture()).notes)


def test_full_size_packets_still_do_not_fit_a_tunnel_after_an_aggregate():
    replay = Replay(f"-A -t {VIP} -s rr\n-a -t {VIP} -r 10.1.0.11:80 -i\n")
    full = tcp(CLIENT, VIP, "A", bytes(1460), df=True)
    replay.feed(at(0, tcp(CLIENT, VIP, "S")))
    assert replay.feed(at(0.1, tcp(CLIENT, VIP, "A", bytes(9000), df=True)))[0].length > 9000
    refused = replay.feed(at(0.2, full))
    assert all(packet.length < 1000 for packet in refused)
    assert replay.result(FakeCapture()).servers[0].lost == 1


# --- rules and options ------------------------------------------------------------------------------------------------
def test_comments_and_empty_lines_in_rules_are_skipped():
    assert len(Replay("# web\n\n" + RULES).services) == 1


@pytest.mark.parametrize("rules,words", [("-A -t nonsense:80\n", "line 1"), (RULES + "-A -t 192.0.2.1:80\n", "line 3"), (RULES + "-A -t 192.0.2.2:80 -s best\n", "line 3")])
def test_a_refused_rule_is_named(rules, words):
    with pytest.raises(RulesError, match=words):
        Replay(rules)


def test_scheduler_of_every_service_is_replaced():
    replay = Replay(RULES + "-A -u 192.0.2.2:53 -s wlc\n", scheduler="sh")
    assert {svc.scheduler.name for svc in replay.services} == {"sh"}


def test_sysctls_are_set_first_and_refused_ones_raise():
    replay = Replay(RULES, sysctls=[("net.ipv4.vs.sloppy_tcp", "1")])
    assert replay.feed(at(0, tcp(CLIENT, VIP, "A")))
    with pytest.raises(IPVSError):
        Replay(RULES, sysctls=[("no_such_sysctl", "1")])


def test_connections_from_before_the_capture_are_explained():
    replay = Replay(RULES)
    assert replay.feed(at(0, tcp(CLIENT, VIP, "A"))) == []
    assert any("sloppy_tcp" in note for note in replay.result(FakeCapture()).notes)


def test_marks_reach_fwmark_services():
    replay = Replay(f"-A -f 7 -s rr\n-a -f 7 -r {A} -m\n", marks=[Mark.parse("7=tcp:192.0.2.1")])
    assert ends(replay.feed(at(0, tcp(CLIENT, VIP, "S")))) == [(CLIENT, A)]


def test_services_whose_mark_no_packet_has_are_noted():
    assert "firewall mark 7" in Replay(f"-A -f 7 -s rr\n-a -f 7 -r {A} -m\n").result(FakeCapture()).notes[0]


@pytest.mark.parametrize("text", ["7", "x=tcp:1.2.3.4", "7=icmp:1.2.3.4", "7=tcp", "7=tcp:nowhere:80"])
def test_marks_that_cannot_be_are_refused(text):
    with pytest.raises(ValueError, match="no mark"):
        Mark.parse(text)


# --- the example, and what is counted ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def example():
    return play(str(EXAMPLES / "web-and-dns.pcap.gz"), Replay((EXAMPLES / "web-and-dns.rules").read_text()))


def test_example_every_record_is_accounted_for(example):
    fed = example.client_packets + example.answers
    assert fed + sum(row.packets for row in example.left_out) == example.records == 3764
    assert sum(row.packets for row in example.outcomes) == fed
    assert not example.problems


def test_example_counters_agree_with_the_packets(example):
    through = {what: sum(row.packets for row in example.outcomes if row.what == what and row.went == "on") for what in ("client packet", "answer")}
    assert sum(row.inpkts for row in example.servers) == through["client packet"]
    assert sum(row.outpkts for row in example.servers) == through["answer"]


def test_example_shares_are_those_of_the_connections(example):
    for service in {row.service for row in example.servers}:
        assert sum(row.share for row in example.servers if row.service == service) == pytest.approx(1)


def test_example_timeline_ends_in_the_final_counters(example):
    assert [sample.conns for sample in example.timeline[-1]] == [row.connections for row in example.servers]
    for earlier, later in zip(example.timeline, example.timeline[1:], strict=False):
        assert all(a.conns <= b.conns and a.bytes <= b.bytes for a, b in zip(earlier, later, strict=True))


def test_offloaded_example_leaves_with_right_checksums():
    replay = Replay((EXAMPLES / "web-and-dns.rules").read_text())
    with Capture(EXAMPLES / "web-and-dns-offloaded.pcap.gz") as capture:
        for captured in capture:
            for packet in replay.feed(captured):
                assert complete_checksum(packet.raw, packet.proto, packet.l4) == packet.raw, captured
        result = replay.result(capture)
    assert (result.records, result.lost) == (2977, 1)
    assert [note.split(" ", 1)[0] for note in result.notes] == ["2970", "99"]


# --- the command ------------------------------------------------------------------------------------------------------
@pytest.fixture
def run(tmp_path):
    (tmp_path / "rules").write_text(RULES)

    def run(content: bytes, *arguments: str):
        (tmp_path / "capture").write_bytes(content)
        return CliRunner().invoke(command, [str(tmp_path / "capture"), "--rules", str(tmp_path / "rules"), *arguments])

    return run


TALK = [tcp(CLIENT, VIP, "S").raw, tcp(VIP, CLIENT, "SA").raw, tcp(CLIENT, VIP, "A").raw]


def test_command_prints_listing_and_tables(run):
    done = run(pcap(*TALK, link_type=101))
    assert done.exit_code == 0, done.output
    assert "IP Virtual Server version" in done.output and re.search(r"TCP 192.0.2.1:80 +10.1.0.11:8080 +Masq +1 +1 +100.0%", done.output)


def test_command_json_is_one_object(run):
    found = json.loads(run(pcap(*TALK, link_type=101), "--json").output)
    assert (found["client_packets"], found["answers"], found["lost"]) == (2, 1, 0)
    assert found["servers"][0]["connections"] == 1


def test_command_writes_what_left(run, tmp_path):
    run(pcap(*TALK, link_type=101), "--write", str(tmp_path / "out.pcap"))
    with Capture(tmp_path / "out.pcap") as capture:
        assert ends([Packet.parse(packet.data) for packet in capture]) == [(CLIENT, A), (VIP, CLIENT), (CLIENT, A)]


def test_command_writes_cut_packets_cut(run, tmp_path):
    run(pcap(TALK[0], tcp(CLIENT, VIP, "PA", bytes(500)).raw, link_type=101, cut=100), "--write", str(tmp_path / "out.pcap"))
    with Capture(tmp_path / "out.pcap") as capture:
        assert [(len(packet.data), packet.missing) for packet in capture] == [(40, 0), (540, 440)]


def test_command_report_stands_alone(run, tmp_path):
    done = run(pcap(*TALK, link_type=101), "--report", str(tmp_path / "report.html"))
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 1 and "10.1.0.11:8080" in page
    assert not re.search(r"""(src|href)\s*=\s*["']https?:""", page.replace("xlink:href", ""))


def test_command_on_a_cut_capture_replays_the_rest_and_says_where(run):
    done = run(pcap(*TALK, link_type=101)[:-5])
    assert done.exit_code == 3
    assert "record 3 at byte 136: the file ends in the middle of it (35 of 40 bytes)" in done.output
    assert "1 of 3 records could not be read" in done.stderr


def test_command_on_no_capture_says_so(run):
    done = run(b"hello, world")
    assert done.exit_code == 2 and "neither pcap nor pcapng" in done.stderr


@pytest.mark.parametrize("arguments", [["--sysctl", "sloppy_tcp"], ["--sysctl", "nonsense=1"], ["--mark", "7"], ["--scheduler", "best"]])
def test_command_refuses_wrong_options(run, arguments):
    assert run(pcap(*TALK, link_type=101), *arguments).exit_code == 2
