"""One connection followed from the packet that makes it to the timer that removes it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ipvs_model.addresses import parse_endpoint
from ipvs_model.events import ConnRemoved, TimerArmed, TimerFired, TimerPostponed
from ipvs_model.tools.commands.explain import command
from ipvs_model.tools.explain import COMMAND, WAIT, Explainer, ExplainError
from ipvs_model.tools.explain_follow import Follower
from ipvs_model.tools.packet_text import parse_packet
from ipvs_model.tools.pcap import CapturedPacket
from ipvs_model.tools.replay import CLIENT
from ipvs_model.tools.walk import as_mermaid

EXAMPLES = Path(__file__).parents[2] / "examples"
RULES = "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.1.0.11:8080 -m\n-a -t 192.0.2.1:80 -r 10.1.0.12:8080 -m\n"


def client(flags: str, port: int = 40000, wait: str = "") -> str:
    return f"{wait} tcp 203.0.113.5:{port} > 192.0.2.1:80 {flags}".strip()


def server(flags: str, port: int = 40000, wait: str = "") -> str:
    return f"{wait} tcp 192.0.2.1:80 > 203.0.113.5:{port} {flags}".strip()


WHOLE = (client("S"), server("SA", wait="+.1"), client("A", wait="+.1"), server("FA", wait="+1"), client("FA"), server("A"))


def follow(*steps: str, rules: str = RULES, client: tuple[int, int, int] | None = None, **options):
    follower = Follower(Explainer(rules, **options), client)
    return follower, list(follower.steps(steps))


def times(walks, kind) -> list[float]:
    return [(event.now - event.expires) / walk.hz for walk in walks for event in (*walk.before, *walk.events) if isinstance(event, kind)]


def test_a_whole_life_ends_when_the_timer_fires_late_as_the_kernels():
    follower, walks = follow(*WHOLE)
    assert [walk.what for walk in walks] == [*(step.split(" ", 1)[1] if step.startswith("+") else step for step in WHOLE), ""]
    assert walks[-1].kind == WAIT and [type(event) for event in walks[-1].before][:1] == [TimerFired]
    assert isinstance(walks[-1].before[-1], ConnRemoved)
    assert follower.states == ["SYN_RECV", "ESTABLISHED", "FIN_WAIT", "TIME_WAIT"]
    assert times(walks, TimerFired) == [0.624] == [follower.late / 250]
    assert walks[-1].seconds == pytest.approx(1.2 + 120 + 0.624)


def test_every_packet_restarts_the_timer():
    _, walks = follow(*WHOLE)
    armed = [[(event.expires - event.now) // walk.hz for event in walk.events if isinstance(event, TimerArmed)] for walk in walks]
    assert armed == [[60], [60], [900], [120], [120], [120], []]


def test_packets_of_others_are_left_out_and_the_steps_are_numbered_anew():
    _, walks = follow(client("S"), client("S", 40001), client("A", wait="+1"), client("A", 40001), "ipvsadm -Z")
    assert [(walk.number, walk.kind, walk.what) for walk in walks] == [
        (1, CLIENT, client("S")), (2, CLIENT, client("A")), (3, COMMAND, "ipvsadm -Z"), (4, WAIT, ""),
    ]  # fmt: skip
    assert all("40001" not in change.what for walk in walks for change in walk.changes)


def test_only_chooses_whose_connection():
    _, walks = follow(client("S"), client("S", 40001), client("A", 40001), client=parse_endpoint("203.0.113.5:40001"))
    assert [walk.what for walk in walks] == [client("S", 40001), client("A", 40001), ""]


def test_a_life_is_over_though_others_begin_at_the_same_endpoint():
    _, walks = follow(client("S"), client("S", 40001, wait="+100"), client("S", wait="+1"))
    assert [(walk.kind, walk.what) for walk in walks] == [(CLIENT, client("S")), (WAIT, "")]
    assert (walks[-1].seconds, type(walks[-1].before[-1])) == (100, ConnRemoved), "what time brought before the packet of another"


def test_an_entry_that_is_replaced_is_followed_on():
    _, walks = follow(*WHOLE, client("S", wait="+1"))
    replaced = walks[len(WHOLE)]
    assert any("replaced: it is in TIME_WAIT and conn_reuse_mode is 1" in event.describe() for event in replaced.events)
    gone = [str(event.conn) for walk in walks for event in walk.before if isinstance(event, ConnRemoved)]
    assert gone == [f"TCP 203.0.113.5:40000 -> 192.0.2.1:80 -> 10.1.0.{number}:8080" for number in (12, 11)]


def test_a_control_connection_is_postponed_until_its_data_connections_are_gone():
    rules = "-A -t 192.0.2.1:21 -s rr\n-a -t 192.0.2.1:21 -r 10.1.0.11:21 -m\n"
    syn, ack = (client(flags).replace(":80", ":21") for flags in "SA")
    port = b"PORT 203,0,113,5,200,10\r\n".hex()
    fin = client("F").replace(":80", ":21")
    _, walks = follow("modprobe ip_vs_ftp", syn, ack, f"{ack} data={port}", fin, rules=rules)
    assert any(isinstance(event, TimerPostponed) and event.n_control == 1 for walk in walks for event in walk.before)
    assert isinstance(walks[-1].before[-1], ConnRemoved)


def test_a_persistent_connection_shows_its_template_too():
    _, (first, *_) = follow(client("S"), rules=RULES.replace("-s rr", "-s rr -p 300"))
    assert [change.what.split()[0] for change in first.changes] == ["template", "entry", "server", "total"]


def test_a_one_packet_connection_is_over_with_its_packet():
    rules = "-A -u 192.0.2.1:53 -s rr -o\n-a -u 192.0.2.1:53 -r 10.1.0.11:53 -m\n"
    _, walks = follow("udp 203.0.113.5:5000 > 192.0.2.1:53 len=5", rules=rules)
    assert len(walks) == 1 and any(isinstance(event, ConnRemoved) for event in walks[0].events)


def test_a_diagram_of_a_life_has_its_timers():
    _, walks = follow(*WHOLE[:3])
    text = as_mermaid(walks, timers=True)
    assert [line.strip() for line in text.splitlines() if "timer" in line] == [
        "Note over D: timer set to 60 s", "Note over D: timer set to 60 s", "Note over D: timer set to 900 s", "Note over D: timer fired 6.008 s late",
    ]  # fmt: skip
    assert "timer" not in as_mermaid(walks[:3])


def test_nothing_to_follow_is_an_error():
    with pytest.raises(ExplainError, match="no connection begins"):
        follow(client("A"))
    with pytest.raises(ExplainError, match="no connection of 203.0.113.9:0 begins"):
        follow(client("S"), client=(2, 0xCB007109, 0))


# --- of a capture, and as a command -------------------------------------------------------------------------------------
def invoke(*arguments: str):
    return CliRunner().invoke(command, ["--rules", str(EXAMPLES / "web-and-dns.rules"), *arguments])


def test_a_connection_of_a_capture_is_followed_beyond_its_end():
    walks = json.loads(invoke(str(EXAMPLES / "web-and-dns.pcap.gz"), "--follow", "--only", "203.0.113.11:52892", "--json").output)
    assert all("203.0.113.11:52892" in walk["what"] for walk in walks[:-1]) and len(walks) > 5
    assert [event["event"] for event in walks[-1]["before"]] == ["TimerFired", "ConnHashed", "CounterMoved", "ConnRemoved"]
    assert [walk["number"] for walk in walks] == list(range(1, len(walks) + 1))
    explained = json.loads(invoke(str(EXAMPLES / "web-and-dns.pcap.gz"), "--only", "203.0.113.11:52892", "--limit", str(len(walks) - 1), "--json").output)
    assert [walk["left"] for walk in explained] == [walk["left"] for walk in walks[:-1]], "following changes nothing"


def test_a_connection_that_ends_while_others_are_played():
    texts = [(0, client("S")), (50, client("S", 40001)), (100, client("S", 40002)), (200, client("S", 40003)), (201, client("S"))]
    packets = [CapturedPacket(number, 0, seconds * 10**9, parse_packet(text).raw, 0, ()) for number, (seconds, text) in enumerate(texts, 1)]
    walks = list(Follower(Explainer(RULES)).capture(packets))
    assert [(walk.kind, walk.seconds) for walk in walks] == [(CLIENT, 0), (WAIT, 100)]
    assert [type(event).__name__ for event in walks[-1].before] == ["TimerFired", "ConnHashed", "CounterMoved", "ConnRemoved"]


def test_the_text_ends_with_the_sum_of_the_life():
    result = invoke("--follow", *WHOLE)
    assert result.output.splitlines()[-1] == "Its states: SYN_RECV, ESTABLISHED, FIN_WAIT, TIME_WAIT. Its timer fired 0.624 s late."
    assert "timer fired 156 jiffies (0.624 s) after its expiry" in result.output
    assert invoke("--follow", "--mermaid", *WHOLE).output.startswith("sequenceDiagram\n")


def test_nothing_to_follow_gives_one_line_and_status_2():
    result = invoke("--follow", client("A"))
    assert (result.exit_code, result.output) == (2, "Error: no connection begins, so there is none to follow\n")
