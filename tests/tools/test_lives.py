"""Which connections a report follows, what it keeps of them, and that this stays bounded."""

import json
import math

import pytest
from tests.tools.captures import timed
from tests.tools.stories import CLIENTS, EMPTY, RULES, WEB, story

from ipvs_model.packet import Packet
from ipvs_model.tools.explain import WAIT, Explainer
from ipvs_model.tools.lives import EXPLAINED, FIRST, LIVES, POINTS, STEPS, UNLUCKY, Chooser, Line, Lives, follow
from ipvs_model.tools.pcap import Capture
from ipvs_model.tools.replay import Replay
from ipvs_model.tools.report import html_report
from ipvs_model.tools.report_data import report_data
from ipvs_model.tools.result import Result

SERVER = "10.1.0.11:8080"
PLAIN = f"-A -t {WEB} -s rr\n-a -t {WEB} -r {SERVER} -m\n"


def read(tmp_path, capture: bytes, rules: str, **options) -> tuple[Result, Lives, Chooser]:
    path = tmp_path / "capture.pcap"
    path.write_bytes(capture)
    chooser = Chooser(rules, **options)
    with Capture(path) as packets:
        for captured in packets:
            chooser.feed(captured)
        result = chooser.result(packets)
    return result, follow(path, chooser, result, lambda fraction, records: None, **options), chooser


def of(lives: Lives, client: str):
    return next(life for life in lives.lives if f" {client} -> " in str(life.key))


def syn(at: float, number: int, to: str = WEB, **more) -> tuple[float, bytes]:
    return at, Packet.tcp(f"198.51.{number // 60000}.1:{1024 + number % 60000}", to, "S", **more).raw


# --- a life -----------------------------------------------------------------------------------------------------------
def test_states_timer_and_references_of_a_life(tmp_path):
    life = of(read(tmp_path, story(), RULES)[1], "203.0.113.1:40001")
    assert (life.service, life.server, life.packets, life.lost, life.is_template) == (f"TCP {WEB}", "10.1.0.12:8080", 8, 0, False)
    assert life.states == [(0.0, "SYN_RECV"), (0.02, "ESTABLISHED"), (5.0, "CLOSE_WAIT"), (5.1, "TIME_WAIT")]
    deadlines = {point.at: point.value - point.at for point in life.deadlines}
    assert [round(deadlines[at]) for at in (0.0, 0.02, 5.0, 5.1, 5.2)] == [60, 900, 60, 120, 120]
    assert life.ended is not None and 125.2 <= life.ended < 125.2 + 2
    held = [(point.value, point.peak) for point in life.references]
    assert held[0] == (1, 2) and held[-1] == (0, 0) and set(held[1:-1]) == {(1, 2)}


def test_its_packets_are_explained_as_explain_does(tmp_path):
    life = of(read(tmp_path, story(), RULES)[1], "203.0.113.1:40001")
    explainer = Explainer(RULES)
    with Capture(tmp_path / "capture.pcap") as packets:
        walks = {walk.number: walk for walk in map(explainer.packet, packets)}
    explained = [step for step in life.steps if step.record]
    assert len(explained) == 8
    for step in explained:
        walk = walks[step.record]
        assert (step.walk.events, step.walk.left, step.walk.verdict, step.walk.given) == (walk.events, walk.left, walk.verdict, walk.given)
        assert sorted(step.walk.changes, key=str) == sorted(walk.changes, key=str)


def test_what_timers_did_is_a_step_of_its_own(tmp_path):
    life = of(read(tmp_path, story(), RULES)[1], "203.0.113.1:40001")
    step = life.steps[-1]
    assert step.record == 0 and step.walk.kind == WAIT and step.walk.seconds == life.ended
    assert [type(event).__name__ for event in step.walk.events] == ["TimerFired", "ConnHashed", "ControlMoved", "ConnRemoved"]


def test_a_template_lives_on_while_its_connections_do(tmp_path):
    lives = read(tmp_path, story(), RULES)[1]
    template = of(lives, "203.0.113.3:0")
    assert template.is_template and template.ended is None
    postponed = [step.walk for step in template.steps if step.record == 0]
    assert len(postponed) >= 4 and all("n_control 1" in str(walk.events[1]) for walk in postponed)


def test_a_one_packet_entry_is_born_and_gone_at_once(tmp_path):
    life = of(read(tmp_path, story(), RULES)[1], "203.0.113.4:50000")
    assert life.service == "UDP 192.0.2.2:53"
    assert life.began == life.ended == 29.0 and life.states == [(29.0, "UDP")] and life.packets == 1


def test_a_lost_packet_is_counted_and_named(tmp_path):
    result, lives, _ = read(tmp_path, story(), RULES)
    life = of(lives, "203.0.113.2:40002")
    assert life.lost == 1 and [step.walk.reason for step in life.steps if step.lost] == ["its time to live is over"]
    assert sum(life.lost for life in lives.lives if not life.is_template) == CLIENTS // 2 == sum(row.lost for row in result.servers)


def test_the_first_packet_of_each_fate_is_explained(tmp_path):
    result, lives, _ = read(tmp_path, story(), RULES)
    assert set(lives.examples) == {row.first_record for row in result.outcomes}
    refused = next(row for row in result.outcomes if "no destination" in row.text)
    assert EMPTY in lives.examples[refused.first_record].what


def test_a_client_that_comes_again_has_two_lives(tmp_path):
    lives = read(tmp_path, timed(syn(0, 1), syn(100, 1), syn(300, 2)), PLAIN)[1]
    assert [(life.began, life.ended is None) for life in lives.lives] == [(0.0, False), (100.0, False), (300.0, True)]


# --- who is chosen ----------------------------------------------------------------------------------------------------
def test_the_first_ones_of_each_service_are_chosen(tmp_path):
    other = "192.0.2.9:80"
    packets = [syn(number, number) for number in range(FIRST)] + [syn(FIRST + number, number, other) for number in range(FIRST)]
    _, lives, chooser = read(tmp_path, timed(*packets), PLAIN + PLAIN.replace(WEB, other))
    assert len(chooser.chosen) == FIRST // 2  # the same clients went to both
    assert sorted({life.service for life in lives.lives}) == [f"TCP {WEB}", f"TCP {other}"]
    assert lives.connections == 2 * FIRST and len(lives.lives) == FIRST


def test_those_that_lost_a_packet_are_chosen_too_and_from_their_beginning(tmp_path):
    packets = [syn(number, number) for number in range(2 * FIRST)]
    late = (2 * FIRST + 1, Packet.tcp(f"198.51.0.1:{1024 + 2 * FIRST - 1}", WEB, "A", ttl=1).raw)
    _, lives, _ = read(tmp_path, timed(*packets, late), PLAIN)
    assert len(lives.lives) == FIRST + 1
    assert (lives.lives[-1].began, lives.lives[-1].lost, lives.lives[-1].packets) == (2 * FIRST - 1, 1, 2)


# --- bounds -----------------------------------------------------------------------------------------------------------
def test_what_is_kept_is_bounded(tmp_path):
    talker = "203.0.113.7:40000"
    chatter = [(10 + number * 9.0, Packet.tcp(talker, WEB, "A", ttl=1 if number % 7 == 0 else 64).raw) for number in range(400)]
    crowd = [syn(5 + number * 0.01, number) for number in range(FIRST)] + [syn(20 + number * 0.01, number, ttl=1) for number in range(2 * UNLUCKY)]
    packets = timed((0, Packet.tcp(talker, WEB, "S").raw), *crowd, *chatter)
    result, lives, chooser = read(tmp_path, packets, PLAIN.replace("-s rr", "-s rr -p 300"))
    life = of(lives, talker)
    assert life.packets == 401 and life.lost == 58
    assert sum(1 for step in life.steps if step.record) == EXPLAINED and len(life.steps) <= STEPS
    assert all(len(list(line)) <= POINTS + 1 for one in lives.lives for line in (one.deadlines, one.references, one.others))
    assert len(chooser.chosen) <= FIRST + UNLUCKY and len(lives.lives) <= LIVES
    assert len(html_report(result, lives)) < 2_000_000


def test_a_line_keeps_its_ends_and_its_shape():
    line = Line()
    for number in range(10 * POINTS):
        line.add(float(number), math.sin(number / 500))
    points = list(line)
    assert POINTS / 2 < len(points) <= POINTS + 1
    assert points[0].at == 0 and points[-1].at == 10 * POINTS - 1
    assert [point.at for point in points] == sorted(point.at for point in points)
    assert max(point.value for point in points) > 0.999


def test_of_one_moment_the_last_value_and_the_highest_are_kept():
    line = Line()
    for value in (1, 3, 2):
        line.add(0.5, value)
    assert [tuple(point) for point in line] == [(0.5, 2, 3)] and line.value == 2


# --- it changes nothing -----------------------------------------------------------------------------------------------
def test_choosing_and_following_change_nothing(tmp_path):
    result, _, _ = read(tmp_path, story(), RULES)
    plain = Replay(RULES)
    with Capture(tmp_path / "capture.pcap") as packets:
        for captured in packets:
            plain.feed(captured)
        assert plain.result(packets) == result


def test_states_are_counted_at_the_moments_of_the_timeline(tmp_path):
    result, lives, _ = read(tmp_path, story(), RULES)
    assert len(lives.moments) == len(result.timeline)
    data = report_data(result, lives)
    at = next(number for number, time in enumerate(data["times"]) if time >= 22)
    assert data["times"][at] < 27
    assert {name: counts[at] for name, counts in data["states"].items() if counts[at]} == {
        "template": 3, "TCP SYN_RECV": 3, "TCP TIME_WAIT": 2, "TCP ESTABLISHED": 1,
    }  # fmt: skip
    assert sum(counts[-1] for name, counts in data["states"].items() if name != "template") == sum(row.active + row.inactive for row in result.servers)


def test_losses_are_counted_by_reason_as_time_goes_on(tmp_path):
    result, lives, _ = read(tmp_path, story(), RULES)
    losses = report_data(result, lives)["losses"]
    assert {reason: counts[-1] for reason, counts in losses.items()} == {row.text: row.packets for row in result.outcomes if row.lost}
    assert all(counts == sorted(counts) and counts[0] == 0 for counts in losses.values())


@pytest.mark.parametrize("answers", ["nat", "none"])
def test_the_same_options_hold_for_both_readings(tmp_path, answers):
    life = of(read(tmp_path, story(), RULES, answers=answers)[1], "203.0.113.1:40001")
    assert life.packets == (8 if answers == "nat" else 5)


def test_the_data_are_plain_and_the_same_each_time(tmp_path):
    texts = {json.dumps(report_data(*read(tmp_path, story(), RULES)[:2])) for _ in range(2)}
    assert len(texts) == 1
