"""Several schedulers, the same arrivals."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tools.captures import pcap

from ipvs_model import Packet
from ipvs_model.addresses import parse_endpoint
from ipvs_model.tools.commands.compare import command
from ipvs_model.tools.compare import KERNEL_SCHEDULERS, CompareError, Run, compare, find_schedulers, leavers, targets
from ipvs_model.tools.compare_picture import draw
from ipvs_model.tools.comparison import imbalance
from ipvs_model.tools.pcap import Capture, CapturedPacket
from ipvs_model.tools.replay import Mark, Replay, RulesError
from ipvs_model.tools.workload import KEEP, FromCapture, Generated, Target, WorkloadError, conversation, workload

EXAMPLES = Path(__file__).parents[2] / "examples"
RULES = """
-A -t 192.0.2.1:80 -s rr
-a -t 192.0.2.1:80 -r 10.1.0.11:8080 -m -w 1
-a -t 192.0.2.1:80 -r 10.1.0.12:8080 -m -w 2
-a -t 192.0.2.1:80 -r 10.1.0.13:8080 -m -w 1
"""
SMALL = "poisson:rate=20,duration=10"
OWN = """
from ipvs_model import Scheduler

class Oldest(Scheduler):
    name = "oldest"
    def schedule(self, svc, pkt, iph):
        return svc.destinations[-1]

class Taken(Oldest):
    name = "rr"
"""


def target(text: str = "192.0.2.1:80", protocol: int = 6) -> Target:
    af, addr, port = parse_endpoint(text)
    return Target(protocol, af, addr << 16 | port)


def generated(text: str, *targets: Target) -> Generated:
    return Generated.parse(text, list(targets) or [target()])


def packets(arrivals) -> list[Packet]:
    return [Packet.parse(captured.data) for captured in arrivals]


def begins(arrivals) -> list[float]:
    """Seconds at which connections begin."""
    return [captured.time / 1e9 for captured in arrivals if Packet.parse(captured.data).flags == 2]


def run(*schedulers: str, arrivals: str = SMALL, rules: str = RULES, **options):
    """Compare, and the outcomes of the first service by scheduler."""
    found = compare(rules, find_schedulers(schedulers), lambda places: workload(arrivals, places), **options)
    return {outcome.scheduler: outcome for outcome in found.services[0].outcomes}


# --- workloads --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", [SMALL, "onoff:rate=20,duration=10,skew=1"])
def test_the_same_text_gives_the_same_packets(text):
    arrivals = generated(text)
    assert list(arrivals) == list(arrivals) == list(generated(text))
    assert list(arrivals) != list(generated(text + ",seed=2"))


@pytest.mark.parametrize("text", ["poisson:rate=100,duration=30", "onoff:rate=100,duration=30,sources=50,on=0.3,off=0.7"])
def test_about_as_many_connections_arrive_as_the_rate_says(text):
    assert len(begins(generated(text))) == pytest.approx(3000, rel=0.15)


def test_on_off_arrivals_come_in_bursts():
    """Variance of the connections in a second, over their mean: 1 for Poisson."""

    def dispersion(text: str) -> float:
        times = begins(generated(text + ":rate=50,duration=60"))
        counts = [sum(second <= time < second + 1 for time in times) for second in range(60)]
        mean = sum(counts) / len(counts)
        return sum((count - mean) ** 2 for count in counts) / len(counts) / mean

    assert dispersion("poisson") < 1.5
    assert dispersion("onoff") > 5


def test_packets_are_in_order_of_time_numbered_and_end_with_the_duration():
    arrivals = list(generated(SMALL))
    assert all(one.time <= two.time and one.record + 1 == two.record for one, two in pairwise(arrivals))
    assert arrivals[-1].time <= 10e9


def test_lifetimes_have_the_mean_and_a_heavy_tail():
    arrivals = generated("poisson:rate=500,duration=10,lifetime=0.1,alpha=1.5")
    begun, lives = {}, []
    for captured in arrivals:
        packet = Packet.parse(captured.data)
        if packet.flags == 2:
            begun[packet.src] = captured.time
        elif packet.flags == 17 and packet.src in begun:
            lives.append((captured.time - begun[packet.src]) / 1e9)
    lives.sort()
    assert sum(lives) / len(lives) == pytest.approx(0.1, rel=0.3)
    assert lives[len(lives) // 2] < 0.07  # most are short: the median of this Pareto is 0.053
    assert lives[-1] > 1


def test_a_tcp_conversation():
    told = [(time / 1e9, Packet.parse(data)) for time, data in conversation(target(), 0xC6120001 << 16 | 40000, 700.0, 10**18)]
    assert [(time, packet.src == 0xC6120001 << 16 | 40000, packet.flags) for time, packet in told] == [
        (0, True, 2), (0.001, False, 18), (0.002, True, 16), (300, True, 16), (600, True, 16), (700, True, 17), (700.001, False, 17), (700.002, True, 16),
    ]  # fmt: skip


@pytest.mark.parametrize("protocol,where", [(6, "192.0.2.1:80"), (17, "192.0.2.1:53"), (132, "192.0.2.1:3868"), (6, "[2001:db8::1]:80"), (132, "[2001:db8::1]:3868")])
def test_no_connection_is_forgotten_before_it_ends(protocol, where):
    option = {6: "-t", 17: "-u", 132: "--sctp-service"}[protocol]
    server = "10.1.0.11:80" if where[0] != "[" else "[2001:db8:1::11]:80"
    replay = Replay(f"-A {option} {where} -s rr\n-a {option} {where} -r {server} -m\n")
    rounds = conversation(target(where, protocol), (0xC6120001 if where[0] != "[" else 1 << 64) << 16 | 40000, 4 * KEEP[protocol] + 1, 10**18)
    for time, data in rounds:
        replay.feed(CapturedPacket(1, 0, time, data, 0, ()))
        assert len(replay.ipvs.conns()) == 1
    assert replay.services[0].stats.conns == 1


def test_targets_share_the_connections_and_clients_their_skew():
    places = [target(), target("192.0.2.2:80")]
    seen = [packet for packet in packets(Generated.parse("poisson:rate=200,duration=10,clients=10,skew=1", places)) if packet.flags == 2]
    assert sum(packet.dst == places[0].endpoint for packet in seen) == pytest.approx(len(seen) / 2, rel=0.1)
    busiest = sum(packet.saddr == 0xC6120000 for packet in seen)
    assert busiest / len(seen) == pytest.approx(1 / sum(1 / n for n in range(1, 11)), rel=0.15)
    assert len({packet.src for packet in seen}) == len(seen)


@pytest.mark.parametrize(
    "text,words",
    [
        ("poisson:speed=1", "NAME=VALUE"),
        ("poisson:rate", "NAME=VALUE"),
        ("poisson:rate=fast", "is a number"),
        ("poisson:seed=1.5", "is a whole number"),
        ("poisson:rate=nan", "must be"),
        ("poisson:alpha=1", "must be 1.01 to 100"),
        ("poisson:sources=3", "NAME=VALUE"),
        ("poisson:rate=1e5,duration=1e5", "are too many"),
        ("onoff:clients=0", "must be 1 to 131072"),
        ("no-such-file.pcap", "no such capture"),
        ("pareto:rate=1", "no such capture"),
    ],
)
def test_workloads_that_cannot_be_are_refused(text, words):
    with pytest.raises(WorkloadError, match=words):
        workload(text, [target()])


def test_without_a_target_nothing_can_be_generated():
    with pytest.raises(WorkloadError, match="--mark"):
        workload(SMALL, [])


def test_a_capture_is_read_again_and_its_length_known():
    capture = FromCapture(str(EXAMPLES / "web-and-dns.pcap.gz"))
    with Capture(EXAMPLES / "web-and-dns.pcap.gz") as again:
        assert list(capture) == list(again)
    assert capture.duration == pytest.approx(8.36, abs=0.01)


def test_targets_are_services_with_addresses_and_marks_that_a_service_has():
    rules = RULES + "-A -f 7 -s rr\n-a -f 7 -r 10.1.0.11 -m\n-A -u 192.0.2.2:0 -s rr -p 60\n"
    marks = [Mark.parse("7=tcp:192.0.2.9:443"), Mark.parse("8=tcp:192.0.2.8:443")]
    assert targets(Replay(rules, marks=marks)) == [target(), target("192.0.2.2:80", 17), target("192.0.2.9:443")]


# --- comparing --------------------------------------------------------------------------------------------------------
def test_every_scheduler_gets_the_same_arrivals():
    outcomes = run("all", arrivals="poisson:rate=20,duration=5")
    assert list(outcomes) == list(KERNEL_SCHEDULERS)
    wanted = len(begins(generated("poisson:rate=20,duration=5")))
    assert {sum(outcome.connections) + outcome.refused for outcome in outcomes.values()} == {wanted}
    assert {name for name, outcome in outcomes.items() if outcome.refused} == {"ovf"}


def test_shares_are_those_that_the_schedulers_are_for():
    outcomes = run("rr", "wrr", "wlc", "fo")
    assert outcomes["rr"].share == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=0.01)
    assert outcomes["wrr"].share == pytest.approx((0.25, 0.5, 0.25), abs=0.01)
    assert outcomes["wlc"].share == pytest.approx((0.25, 0.5, 0.25), abs=0.03)
    assert outcomes["fo"].share == (0, 1, 0)
    assert outcomes["wlc"].mean_imbalance < outcomes["rr"].mean_imbalance < outcomes["fo"].mean_imbalance == 2


def test_peaks_are_those_of_the_model_alone():
    """The same packets through one replay, with every server looked at after each."""
    replay = Replay(RULES, scheduler="wlc")
    peaks, held = [0, 0, 0], [0, 0, 0]
    for captured in generated(SMALL):
        replay.feed(captured)
        peaks = [max(peak, dest.activeconns) for peak, (_, dest) in zip(peaks, replay.servers, strict=True)]
        held = [max(peak, dest.totalconns) for peak, (_, dest) in zip(held, replay.servers, strict=True)]
    outcome = run("wlc")["wlc"]
    assert (outcome.peak_active, outcome.peak_held) == (tuple(peaks), tuple(held))


@pytest.mark.parametrize("when", [0.0, 3.0, 10.0])
def test_the_copy_without_a_server_does_not_disturb_the_original(when):
    one, other = run("wlc", "sh"), run("wlc", "sh", leave_at=when)
    assert all(one[name].connections == other[name].connections and one[name].imbalance == other[name].imbalance for name in one)


def test_who_moves_with_a_hash_is_who_another_table_gives_another_server():
    """For sh a connection's server depends on the client alone: the moved ones can be counted with two single models."""
    rules = RULES.replace("-w 2", "-w 1")
    syns = [captured for captured in generated(SMALL) if Packet.parse(captured.data).flags == 2]
    late = [captured for captured in syns if captured.time - syns[0].time >= 5e9]
    with_all, without = Replay(rules, scheduler="sh"), Replay(rules, scheduler="sh")
    without.ipvs.delete_dest(*without.servers[0])
    choices = [[replay.feed(captured)[0].dst for captured in late] for replay in (with_all, without)]
    gone = with_all.servers[0][1].addr
    others = [(before, after) for before, after in zip(*choices, strict=True) if before >> 16 != gone]
    leaving = run("sh", rules=rules)["sh"].leaving
    assert (leaving.others, leaving.moved) == (len(others), sum(before != after for before, after in others))
    assert leaving.moved > len(others) / 4


def test_hardly_anybody_moves_with_mh_and_nobody_with_fo():
    outcomes = run("mh", "fo", arrivals="poisson:rate=50,duration=10")
    assert outcomes["mh"].leaving.moved <= outcomes["mh"].leaving.others * 0.05
    assert outcomes["fo"].leaving.moved == 0


def test_connections_on_the_server_that_leaves_are_cut_off():
    leaving = run("wlc", leave=["10.1.0.12"])["wlc"].leaving
    replay = Replay(RULES, scheduler="wlc")
    arrivals = list(generated(SMALL))
    for captured in arrivals:
        if captured.time - arrivals[0].time >= 5e9:
            break
        replay.feed(captured)
    assert (leaving.server, leaving.at, leaving.cut) == ("10.1.0.12:8080", 5, replay.servers[1][1].activeconns)


def test_a_single_server_cannot_leave():
    rules = "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.1.0.11 -m\n"
    assert run("rr", rules=rules)["rr"].leaving is None
    with pytest.raises(CompareError, match="there are none"):
        run("rr", rules=rules, leave=["10.1.0.11"])


@pytest.mark.parametrize(
    "leave,words",
    [(["10.9.9.9"], "there are 10.1.0.11:8080, 10.1.0.12:8080"), (["10.1.0.11:1"], "no service"), (["nowhere"], "nowhere"), (["10.1.0.11", "10.1.0.12"], "the second")],
)
def test_servers_that_cannot_leave_are_refused(leave, words):
    with pytest.raises(CompareError, match=words):
        leavers(Run(RULES, "rr"), leave)


def test_a_capture_gives_what_its_replay_gives():
    rules, path = (EXAMPLES / "web-and-dns.rules").read_text(), str(EXAMPLES / "web-and-dns.pcap.gz")
    replay = Replay(rules, scheduler="wrr")
    for captured in FromCapture(path):
        replay.feed(captured)
    found = compare(rules, ["wrr"], lambda places: workload(path, places))
    given = [count for service in found.services for count in service.outcomes[0].connections]
    assert given == [dest.stats.conns for _, dest in replay.servers]
    assert [service.counted for service in found.services] == ["active", "held"]


@pytest.mark.parametrize("names,words", [([], "no scheduler is named"), (["best"], "no scheduler 'best'"), (["nowhere:X"], "No module"), (["json:loads"], "has no scheduler")])
def test_schedulers_that_cannot_be_are_refused(names, words):
    with pytest.raises(CompareError, match=words):
        find_schedulers(names)


def test_a_scheduler_of_ones_own_is_compared(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    assert run("rr", f"{tmp_path}/own.py:Oldest")["oldest"].share == (1, 0, 0)
    with pytest.raises(CompareError, match="Taken: .*already existed"):
        run(f"{tmp_path}/own.py:Taken")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(CompareError, match="ZeroDivisionError"):
        find_schedulers([f"{tmp_path}/broken.py:X"])


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 10)), min_size=1))
def test_imbalance_is_at_least_one_and_at_most_what_one_server_alone_has(pairs):
    loads, weights = [load for load, _ in pairs], [weight for _, weight in pairs]
    value = imbalance(loads, weights)
    usable = [weight for weight in weights if weight]
    if value is not None:
        assert 1 - 1e-9 <= value <= sum(usable) / min(usable) + 1e-9
    else:
        assert sum(load for load, weight in pairs if weight) < max(len(usable), 1)


# --- the command ------------------------------------------------------------------------------------------------------
@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules"
    path.write_text(RULES)
    return str(path)


def invoke(rules: str, *more: str, schedulers: str = "rr,wlc", arrivals: str = "poisson:rate=10,duration=4"):
    return CliRunner().invoke(command, ["--rules", rules, "--schedulers", schedulers, "--workload", arrivals, *more])


def test_tables_name_every_scheduler_and_server(rules):
    result = invoke(rules)
    assert result.exit_code == 0, result.output
    for word in ("rr", "wlc", "10.1.0.11:8080", "10.1.0.12:8080", "10.1.0.13:8080", "after 2 s 10.1.0.11:8080 leaves a copy"):
        assert word in result.output
    assert invoke(rules).output == result.output


def test_many_schedulers_go_down_the_page(rules):
    lines = invoke(rules, schedulers="all").output.splitlines()
    assert any(line.startswith("weight ") for line in lines)


def test_json_has_everything(rules):
    found = json.loads(invoke(rules, "--json").output)
    (service,) = found["services"]
    assert [outcome["scheduler"] for outcome in service["outcomes"]] == ["rr", "wlc"]
    assert math.fsum(service["outcomes"][0]["share"]) == pytest.approx(1)
    assert found["kernel"] == "6.12.115"


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_the_same_comparison_gives_the_same_picture(suffix, tmp_path):
    found = compare(RULES, ["rr", "sh"], lambda places: workload("poisson:rate=10,duration=2", places))
    for name in ("one", "two"):
        draw(found, tmp_path / (name + suffix))
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    if suffix == ".svg":
        assert "TCP 192.0.2.1:80" in (tmp_path / "one.svg").read_text()


def test_a_picture_is_written(rules, tmp_path):
    result = invoke(rules, "--picture", str(tmp_path / "out.svg"))
    assert result.exit_code == 0 and f"written: {tmp_path}/out.svg" in result.output
    assert (tmp_path / "out.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    "more,words",
    [
        (["--schedulers", "best"], "no scheduler 'best'"),
        (["--workload", "poisson:rate=-1"], "must be"),
        (["--workload", "nothing.pcap"], "no such capture"),
        (["--rules", "nothing"], "does not exist"),
        (["--leave", "10.9.9.9"], "10.1.0.12:8080"),
        (["--leave-at", "99"], "the workload lasts 4 s"),
        (["--picture", "out.gif"], ".svg, .png, .pdf"),
        (["--picture", "/nowhere/out.svg"], "/nowhere/out.svg"),
        (["--sysctl", "none=1"], "refused"),
        (["--sysctl", "none"], "NAME=VALUE"),
        (["--mark", "7"], "no mark"),
    ],
)
def test_bad_input_gives_one_clear_line_and_status_2(rules, more, words):
    result = invoke(rules, *more)
    assert result.exit_code == 2
    assert words in result.output.splitlines()[-1]


@pytest.mark.parametrize("text,words", [("-A -t nonsense:80\n", "line 1"), ("# nothing\n", "no service"), ("\x00", "line 1")])
def test_rules_that_cannot_be_used_are_refused(tmp_path, text, words):
    (tmp_path / "bad").write_text(text)
    result = invoke(str(tmp_path / "bad"))
    assert (result.exit_code, words in result.output) == (2, True), result.output


def test_a_file_that_is_no_capture_is_refused(rules):
    result = invoke(rules, "--workload", rules)
    assert result.exit_code == 2 and rules in result.output


def test_a_capture_that_is_cut_off_is_compared_as_far_as_it_goes(tmp_path, rules):
    (tmp_path / "cut.pcap").write_bytes(pcap(Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "S").raw, link_type=101) + b"\x01")
    result = invoke(rules, "--workload", str(tmp_path / "cut.pcap"))
    assert result.exit_code == 3, result.output
    assert "1 records could not be read" in result.output


def test_rules_error_is_raised_for_callers_too():
    with pytest.raises(RulesError):
        run("rr", rules="nonsense\n")
