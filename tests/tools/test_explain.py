"""Explained packets: the text form, the walk, the diagram."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.captures import T0, pcap

from ipvs_model import Packet, events
from ipvs_model.flags import PKT_CT_CONFIRMED, PKT_HAS_CT
from ipvs_model.packet.fragment import fragment
from ipvs_model.tools.commands.explain import command
from ipvs_model.tools.explain import COMMAND, OWN, PASSING, WAIT, Explainer, ExplainError, HostAnswered, parse_step
from ipvs_model.tools.packet_text import CHUNKS, PacketTextError, describe, parse_packet
from ipvs_model.tools.pcap import Capture, CapturedPacket
from ipvs_model.tools.replay import ANSWER, CLIENT, NO_CONNECTION, PIECE, Mark, Replay
from ipvs_model.tools.walk import PHASES, as_json, as_mermaid, as_text

EXAMPLES = Path(__file__).parents[2] / "examples"
RULES = "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.1.0.11:8080 -m\n-a -t 192.0.2.1:80 -r 10.1.0.12:8080 -m\n"
SYN, SYN_ACK, ACK = "tcp 203.0.113.7:40000 > 192.0.2.1:80 S", "tcp 192.0.2.1:80 > 203.0.113.7:40000 SA", "tcp 203.0.113.7:40000 > 192.0.2.1:80 A"
HANDSHAKE = (SYN, "+0.1 " + SYN_ACK, "+0.1 " + ACK)


def walks(*steps: str, rules: str = RULES, **options):
    return list(Explainer(rules, **options).steps(steps))


def kinds(walk) -> list[str]:
    return [type(event).__name__ for event in walk.events]


def change(walk, beginning: str) -> dict[str, tuple[str | None, str | None]]:
    (found,) = [change for change in walk.changes if change.what.startswith(beginning)]
    return {name: (before, after) for name, before, after in found.members}


# --- packets as text --------------------------------------------------------------------------------------------------
endpoints = st.tuples(st.integers(1, 254), st.integers(0, 65535)).map(lambda pair: f"10.0.0.{pair[0]}:{pair[1]}")
six = st.tuples(st.integers(1, 0xFFFF), st.integers(0, 65535)).map(lambda pair: f"[2001:db8::{pair[0]:x}]:{pair[1]}")
pairs = st.one_of(st.tuples(endpoints, endpoints), st.tuples(six, six))
lengths, ttls = st.integers(0, 100).map(bytes), st.integers(0, 255)


@given(
    st.one_of(
        st.builds(lambda pair, flags, payload, ttl: Packet.tcp(*pair, flags, payload=payload, ttl=ttl), pairs, st.integers(1, 255), lengths, ttls),
        st.builds(lambda pair, payload, ttl: Packet.udp(*pair, payload, ttl=ttl), pairs, lengths, ttls),
        st.builds(lambda pair, kinds: Packet.sctp(*pair, [(kind, 0, bytes(16)) for kind in kinds]), pairs, st.lists(st.sampled_from(list(CHUNKS)), min_size=1, max_size=4)),
        st.builds(lambda kind, code, payload: Packet.icmp("10.0.0.1", "10.0.0.2", kind, code, payload=payload), st.integers(0, 255), st.integers(0, 255), lengths),
    )
)
def test_what_is_described_is_parsed_to_the_same_packet(packet):
    assert parse_packet(describe(packet)).raw == packet.raw
    assert parse_packet(packet.raw.hex()).raw == packet.raw


@pytest.mark.parametrize(
    "text,call",
    [
        (SYN, "Packet.tcp('203.0.113.7:40000', '192.0.2.1:80', 'S')"),
        ("tcp 1.2.3.4:1 > 5.6.7.8:2 PA len=2 mark=7 seq=0x10", "Packet.tcp('1.2.3.4:1', '5.6.7.8:2', 'PA', seq=16, payload=b'\\x00\\x00', mark=7)"),
        ("sctp 1.2.3.4:1 > 5.6.7.8:2", f"Packet.sctp('1.2.3.4:1', '5.6.7.8:2', [(1, 0, {bytes(16)!r})])"),
        ("icmp 1.2.3.4 > 5.6.7.8 3/1", "Packet.icmp('1.2.3.4', '5.6.7.8', 3, 1, b'\\x00\\x00\\x00\\x00', b'')"),
    ],
)
def test_text_forms(text, call):
    assert repr(parse_packet(text)) == call


@pytest.mark.parametrize(
    "text,words",
    [
        ("", "is no packet"),
        ("tcp 1.2.3.4:1 5.6.7.8:2", "is no packet"),
        ("gre 1.2.3.4 > 5.6.7.8", "is no packet"),
        ("tcp 1.2.3.4:1 > 5.6.7.8:2 Z", "unknown TCP flag"),
        ("tcp 1.2.3.4:99999 > 5.6.7.8:2", "port out of range"),
        ("tcp 1.2.3.4:1 > [::1]:2", "different families"),
        ("tcp 1.2.3.4:1 > 5.6.7.8:2 S S", "is not understood"),
        ("tcp 1.2.3.4:1 > 5.6.7.8:2 S vtag=1", "is not understood"),
        ("udp 1.2.3.4:1 > 5.6.7.8:2 S", "is not understood"),
        ("udp 1.2.3.4:1 > 5.6.7.8:2 len=many", "is no number"),
        ("udp 1.2.3.4:1 > 5.6.7.8:2 len=-1", "does not fit"),
        ("udp 1.2.3.4:1 > 5.6.7.8:2 ttl=300", "ttl out of range"),
        ("sctp 1.2.3.4:1 > 5.6.7.8:2 HELLO", "the chunks are DATA"),
        ("icmp 1.2.3.4 > 5.6.7.8 300/1", "TYPE/CODE"),
        ("icmp 1.2.3.4 > 5.6.7.8 echo", "TYPE/CODE"),
        ("tcp 1.2.3.4:1 > 5.6.7.8:2 data=4", "is no number"),
        ("tcp 1.2.3.4:1 > 5.6.7.8:2 ct=3", "'ct=3' does not fit: 0 to 2"),
        ("icmp 1.2.3.4 > 5.6.7.8 3/4 info=-1", "does not fit"),
        ("icmp 1.2.3.4 > 5.6.7.8 3/4 about nothing", "is no packet"),
        ("tcp 1.2.3.4:1 > 5.6.7.8:2 S about tcp 1.2.3.4:1 > 5.6.7.8:2", "only icmp"),
        ("450", "odd number"),
        ("00112233", "is no IP packet"),
    ],
)
def test_text_that_is_no_packet_is_refused(text, words):
    with pytest.raises(PacketTextError, match=words):
        parse_packet(text)


def test_an_icmp_error_quotes_a_packet():
    error = parse_packet("icmp 198.51.100.9 > 192.0.2.1 3/4 info=1300 quote=28 about tcp 192.0.2.1:80 > 203.0.113.7:40000 A len=1400 ttl=60")
    quoted = Packet.tcp("192.0.2.1:80", "203.0.113.7:40000", "A", payload=bytes(1400), ttl=60)
    assert (error.length, error.l4_bytes[4:8], error.l4_bytes[8:]) == (56, b"\0\0\x05\x14", quoted.raw[:28])
    assert describe(error) == "icmp 198.51.100.9 > 192.0.2.1 3/4 len=28 info=1300 about tcp 192.0.2.1:80 > 203.0.113.7:40000 len=8 ttl=60"


def test_payload_and_conntrack_are_written():
    packet = parse_packet("tcp 1.2.3.4:1 > 5.6.7.8:2 PA data=474554 ct=2")
    assert (packet.payload, packet.bits) == (b"GET", PKT_HAS_CT | PKT_CT_CONFIRMED)
    assert parse_packet("tcp 1.2.3.4:1 > 5.6.7.8:2 ct=0").bits == 0


@pytest.mark.parametrize("text,words", [("+x " + SYN, "no time"), ("+-1 " + SYN, "must be"), ("+nan", "must be"), ("", "is no step"), ("+0", "is no step")])
def test_steps_that_cannot_be_are_refused(text, words):
    with pytest.raises(ExplainError, match=words):
        parse_step(text)


def test_a_later_fragment_is_described_without_ports():
    pieces = fragment(Packet.udp("1.2.3.4:1", "5.6.7.8:2", bytes(3000), df=False), 1500)
    assert describe(pieces[1]).startswith("udp 1.2.3.4 > 5.6.7.8 later piece")


# --- the walk ---------------------------------------------------------------------------------------------------------
def test_a_new_connection_is_told_from_hook_to_verdict():
    (walk,) = walks(SYN)
    assert (walk.kind, walk.verdict, walk.reason) == (CLIENT, "STOLEN", "sent to its real server")
    assert [PHASES[type(event)] for event in walk.events if PHASES[type(event)] not in ("counter", "reference")] == [
        "hook", "lookup", "verdict", "hook", "lookup", "lookup", "schedule", "schedule", "schedule", "entry", "entry", "state", "transmit", "timer", "verdict",
    ]  # fmt: skip
    assert walk.left == ("tcp 203.0.113.7:40000 > 10.1.0.12:8080 S ttl=63",)
    assert change(walk, "entry")["refcnt"] == (None, "1")
    assert change(walk, "entry")["timer"] == (None, "60.000 s")
    assert change(walk, "server") == {"refcnt": ("1", "2"), "active": ("0", "1")}


def test_an_answer_is_fed_as_coming_from_the_server_and_changes_are_before_and_after():
    _, answer, ack = walks(*HANDSHAKE)
    assert (answer.kind, answer.given) == (ANSWER, "tcp 10.1.0.12:8080 > 203.0.113.7:40000 SA")
    assert answer.left == ("tcp 192.0.2.1:80 > 203.0.113.7:40000 SA ttl=63",)
    assert change(ack, "entry") == {
        "state": ("SYN_RECV", "ESTABLISHED"), "refcnt": ("1", "1"), "n_control": ("0", "0"), "timer": ("59.900 s", "900.000 s"), "timeout": ("60 s", "900 s"),
        "in_pkts": ("1", "2"),
    }  # fmt: skip


def test_the_replays_own_looks_are_not_told():
    """Of an answer: one search by IPVS, one reference taken and given back."""
    _, answer, _ = walks(*HANDSHAKE)
    assert kinds(answer).count("ConnLookup") == 1
    assert kinds(answer).count("RefMoved") == 2


def test_what_time_brings_is_told_before_the_packet():
    *_, last = walks(*HANDSHAKE, "+1000 " + ACK)
    assert [type(event).__name__ for event in last.before][:1] == ["TimerFired"]
    assert last.reason == "a packet that may not begin a connection"
    (_, wait) = walks(SYN, "+100")
    assert (wait.kind, [type(event).__name__ for event in wait.before][-1]) == (WAIT, "ConnRemoved")


def test_the_first_wait_counts():
    assert walks("+5 " + SYN)[0].seconds == 5


def test_commands_are_told_and_change_what_follows():
    *_, delete, packet, listing = walks(*HANDSHAKE, "ipvsadm -d -t 192.0.2.1:80 -r 10.1.0.12:8080", ACK, "ipvsadm -Ln")
    assert (delete.kind, kinds(delete)) == (COMMAND, ["DestChanged"])
    assert change(delete, "server")["available"] == ("True", "False")
    assert packet.reason == "its destination is deleted and expire_nodest_conn is 0"
    assert "  -> 10.1.0.11:8080               Masq    1      0          0         " in listing.left


def test_a_sysctl_is_set():
    *_, packet = walks("sysctl sloppy_tcp=1", ACK)
    assert packet.verdict == "STOLEN"


@pytest.mark.parametrize("step", ["ipvsadm -d -t 192.0.2.1:80 -r 10.9.9.9:1", "ipvsadm --nonsense", "sysctl nothing=1", "sysctl"])
def test_refused_commands_are_errors(step):
    with pytest.raises(ExplainError, match=step.split()[0]):
        walks(step)


def test_a_persistent_connection_shows_its_template():
    (walk,) = walks(SYN, rules=RULES.replace("-s rr", "-s rr -p 300"))
    assert change(walk, "template")["n_control"] == (None, "1")
    assert change(walk, "entry")["control"][1] == "TCP 203.0.113.7:0 -> 192.0.2.1:80 -> 10.1.0.12:8080"
    assert change(walk, "server")["templates"] == ("0", "1")


def test_packets_that_pass_through_and_unknown_answers():
    through, unknown = walks("tcp 10.1.0.99:1 > 203.0.113.7:1 S", SYN_ACK)
    assert (through.kind, through.verdict) == (PASSING, "ACCEPT")
    assert (unknown.kind, unknown.verdict, unknown.events, unknown.left) == (NO_CONNECTION, "", (), ())


def test_a_written_mark_reaches_its_service():
    rules = "-A -f 7 -s rr\n-a -f 7 -r 10.1.0.11 -m\n"
    assert walks("tcp 203.0.113.7:1 > 192.0.2.9:80 S mark=7", rules=rules)[0].left == ("tcp 203.0.113.7:1 > 10.1.0.11:80 S ttl=63 mark=7",)
    assert walks("tcp 203.0.113.7:1 > 192.0.2.9:80 S", rules=rules, marks=[Mark.parse("7=tcp:192.0.2.9")])[0].verdict == "STOLEN"


def test_pieces_wait_for_the_last():
    pieces = fragment(Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "S", payload=bytes(2000), df=False), 1500)
    first, last = walks(*(piece.raw.hex() for piece in pieces))
    assert (first.kind, first.events) == (PIECE, ())
    assert last.kind == CLIENT and len(last.left) == 2


def test_explaining_changes_nothing():
    """The model after an explained capture is the model after a replayed one."""
    rules = (EXAMPLES / "web-and-dns.rules").read_text()
    explainer, replay = Explainer(rules), Replay(rules)
    with Capture(EXAMPLES / "web-and-dns.pcap.gz") as capture:
        for number, captured in enumerate(capture):
            left = replay.feed(captured)
            if number < 150:
                assert explainer.packet(captured).left == tuple(map(describe, left))
            else:
                explainer.feed(captured)
    for name in ("ip_vs", "ip_vs_conn", "ip_vs_stats"):
        assert explainer.ipvs.proc(name) == replay.ipvs.proc(name)


# --- the director itself ----------------------------------------------------------------------------------------------
HOME = RULES.replace("10.1.0.12:8080", "10.1.0.1:81")


def test_a_packet_of_the_director_itself_passes_local_out():
    (walk,) = walks("tcp 10.1.0.1:40000 > 192.0.2.1:80 S", rules=RULES, addresses=["10.1.0.1"])
    assert (walk.kind, walk.verdict, walk.left) == (OWN, "STOLEN", ("tcp 10.1.0.1:40000 > 10.1.0.12:8080 S ttl=63",))
    assert {event.hook.name for event in walk.events if isinstance(event, events.HookEntered)} == {"LOCAL_OUT"}
    assert [line.strip() for line in as_mermaid([walk]).splitlines()[-4:]] == [
        "D->>S1: tcp S ttl=63", "Note over D: rr chose 10.1.0.12:8080 for TCP 192.0.2.1:80", "Note over D: NONE to SYN_RECV",
        "Note over D: STOLEN: sent to its real server",
    ]  # fmt: skip


def test_a_virtual_address_is_a_client_too():
    (walk,) = walks("tcp 192.0.2.1:40000 > 192.0.2.1:80 S")
    assert (walk.kind, walk.left) == (OWN, ("tcp 192.0.2.1:40000 > 10.1.0.12:8080 S ttl=63",))


def test_the_hosts_own_stack_answers_only_when_asked_to():
    (silent,), (walk,) = walks(SYN, rules=HOME, addresses=["10.1.0.1"]), walks(SYN, rules=HOME, addresses=["10.1.0.1"], local_stack=True)
    assert (silent.verdict, silent.left) == ("ACCEPT", ())
    assert (walk.verdict, walk.left) == ("ACCEPT", ("tcp 192.0.2.1:80 > 203.0.113.7:40000 RA",))
    assert [str(event) for event in walk.events if isinstance(event, HostAnswered)] == [
        "tcp_v4_send_reset: nothing listens, the host answers tcp 10.1.0.1:81 > 203.0.113.7:40000 RA seq=0 ack=1001"
    ]
    assert change(walk, "entry")["state"] == (None, "CLOSE")
    assert "host       tcp_v4_send_reset" in as_text(walk) and "host" in {event["phase"] for event in as_json(walk)["events"]}
    assert as_mermaid([walk]).splitlines()[-1] == "    D->>C1: tcp RA"


@pytest.mark.parametrize(
    "step,answer,function",
    [
        ("icmp 203.0.113.7 > 192.0.2.1", "icmp 192.0.2.1 > 203.0.113.7 0/0", "icmp_echo"),
        ("udp 203.0.113.7:1 > 192.0.2.1:9", "icmp 192.0.2.1 > 203.0.113.7 3/3 len=28 about udp 203.0.113.7:1 > 192.0.2.1:9", "icmp_send"),
        ("tcp [2001:db8::7]:1 > [2001:db8:2::1]:9 A", "tcp [2001:db8:2::1]:9 > [2001:db8::7]:1 R", "tcp_v6_send_reset"),
        ("udp [2001:db8::7]:1 > [2001:db8:2::1]:9", "icmp 2001:db8:2::1 > 2001:db8::7 1/4 len=48 about udp [2001:db8::7]:1 > [2001:db8:2::1]:9", "icmp6_send"),
        ("icmp 2001:db8::7 > 2001:db8:2::1 128/0", "icmp 2001:db8:2::1 > 2001:db8::7 129/0", "icmpv6_echo_reply"),
    ],
)
def test_what_the_stack_says_when_nothing_listens(step, answer, function):
    (walk,) = walks(step, rules=RULES + "-A -t [2001:db8:2::1]:80 -s rr\n", local_stack=True)
    assert walk.left == (answer,)
    assert [event.function for event in walk.events if isinstance(event, HostAnswered)] == [function]


def test_a_reset_has_no_answer():
    assert walks("tcp 203.0.113.7:1 > 192.0.2.1:80 R", local_stack=True)[0].left == ()


def test_the_ftp_module_is_loaded_once_and_on_its_ports():
    rules = "-A -t 192.0.2.1:2121 -s rr\n-a -t 192.0.2.1:2121 -r 10.1.0.11:21 -m\n"
    syn, ack = (f"tcp 203.0.113.7:40000 > 192.0.2.1:2121 {flags}" for flags in "SA")
    *_, walk = walks("modprobe ip_vs_ftp ports=21,2121", syn, ack, f"{ack} data={b'PORT 203,0,113,7,200,10'.hex()}0d0a", rules=rules)
    assert change(walk, "entry TCP 203.0.113.7:51210")["state"] == (None, "LISTEN")
    for wrong in ("modprobe ip_vs", "modprobe ip_vs_ftp ports=x", "modprobe ip_vs_ftp ports=1,2,3,4,5,6,7,8,9"):
        with pytest.raises(ExplainError, match="write modprobe ip_vs_ftp"):
            walks(wrong)
    with pytest.raises(ExplainError, match="once"):
        walks("modprobe ip_vs_ftp", "modprobe ip_vs_ftp")


# --- as text, diagram and data ----------------------------------------------------------------------------------------
def test_every_kind_of_event_has_a_phase():
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)} - {events.Event}
    assert set(PHASES) == kinds


def test_text_numbers_the_decisions():
    text = as_text(walks(*HANDSHAKE)[2])
    assert text.startswith("3  at 0.200 s (jiffy 4294892346): tcp 203.0.113.7:40000 > 192.0.2.1:80 A\n   client packet\n   3.1   hook       ip_vs_out_hook")
    assert "     timer      59.900 s  900.000 s\n" in text
    assert "state_transition           INPUT ack: SYN_RECV -> ESTABLISHED, timeout 225000 jiffies" in text


def test_a_diagram_of_a_handshake():
    assert as_mermaid(walks(*HANDSHAKE)) == """sequenceDiagram
    participant C1 as 203.0.113.7
    participant D as director
    participant S1 as 10.1.0.12
    C1->>D: tcp S
    Note over D: rr chose 10.1.0.12:8080 for TCP 192.0.2.1:80
    Note over D: NONE to SYN_RECV
    D->>S1: tcp S ttl=63
    Note over D: 0.100 s later
    S1->>D: tcp SA
    D->>C1: tcp SA ttl=63
    Note over D: 0.100 s later
    C1->>D: tcp A
    Note over D: SYN_RECV to ESTABLISHED
    D->>S1: tcp A ttl=63
"""


def test_a_diagram_shows_what_is_dropped_and_by_which_command():
    rules = RULES.replace("-m\n", "-g\n")
    text = as_mermaid(walks(SYN, "ipvsadm -d -t 192.0.2.1:80 -r 10.1.0.12:80", ACK, "icmp 203.0.113.7 > 192.0.2.1", rules=rules))
    assert "    D->>S1: tcp S ttl=63\n    Note over D: ipvsadm -d -t 192.0.2.1:80 -r 10.1.0.12:80\n" in text
    assert "    C1-xD: tcp A\n    Note over D: DROP: its destination is deleted" in text
    assert "    C1->>D: icmp 8/0\n    Note over D: ACCEPT: " in text


def test_no_message_of_a_diagram_can_end_early():
    text = as_mermaid(walks("ipvsadm -S", "sysctl sync_ports=1", SYN))
    assert not set(";#") & set(text)


# --- the command ------------------------------------------------------------------------------------------------------
@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules"
    path.write_text(RULES)
    return str(path)


def invoke(rules: str, *arguments: str):
    return CliRunner().invoke(command, ["--rules", rules, *arguments])


def test_steps_are_explained(rules):
    result = invoke(rules, *HANDSHAKE)
    assert result.exit_code == 0
    assert result.output == "\n".join(map(as_text, walks(*HANDSHAKE)))


def test_json_and_mermaid(rules):
    found = json.loads(invoke(rules, "--json", *HANDSHAKE).output)
    assert found == [as_json(walk) for walk in walks(*HANDSHAKE)] and found[0]["events"][0]["function"] == "ip_vs_out_hook"
    assert invoke(rules, "--mermaid", *HANDSHAKE).output == as_mermaid(walks(*HANDSHAKE))


def test_a_terminal_gets_colours_and_a_pipe_does_not(rules, monkeypatch):
    plain = invoke(rules, "--kernel-debug", SYN).output
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = invoke(rules, "--kernel-debug", SYN).output
    assert "\x1b[" in coloured and "\x1b[" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_the_directors_addresses_and_stack_are_options(rules):
    output = invoke(rules, "--address", "10.1.0.1", "--local-stack", "tcp 203.0.113.7:1 > 10.1.0.1:22 S").output
    assert "leaves: tcp 10.1.0.1:22 > 203.0.113.7:1 RA" in output


def test_a_capture_is_explained_as_far_as_wanted():
    rules, capture = str(EXAMPLES / "web-and-dns.rules"), str(EXAMPLES / "web-and-dns.pcap.gz")
    result = invoke(rules, capture, "--limit", "3", "--json")
    assert [walk["number"] for walk in json.loads(result.output)] == [1, 2, 3]
    some = json.loads(invoke(rules, capture, "--limit", "2", "--json", "--only", "203.0.113.11").output)
    assert all("203.0.113.11" in walk["what"] for walk in some)
    assert json.loads(invoke(rules, capture, "--json", "--only", "203.0.113.250").output) == []


def test_what_is_none_of_ipvs_is_not_explained(tmp_path, rules):
    frames = [Packet.tcp("1.1.1.1:1", "2.2.2.2:2", "S").raw, parse_packet(SYN).raw]
    (tmp_path / "two.pcap").write_bytes(pcap(*frames, link_type=101))
    assert [walk["what"] for walk in json.loads(invoke(rules, str(tmp_path / "two.pcap"), "--json").output)] == [SYN]


def test_scheduler_and_sysctl_are_set_first(rules):
    assert "fo chose" in invoke(rules, "--scheduler", "fo", SYN).output
    assert "STOLEN" in invoke(rules, "--sysctl", "sloppy_tcp=1", ACK).output


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["nonsense"], "is no packet"),
        (["+x"], "no time"),
        (["ipvsadm -d -t 192.0.2.1:80 -r 10.9.9.9:1"], "No such destination"),
        (["--only", "nowhere", SYN], "nowhere"),
        (["--address", "nowhere", SYN], "nowhere"),
        (["--scheduler", "best", SYN], "refused"),
        (["--sysctl", "none=1", SYN], "refused"),
        (["--mark", "7", SYN], "no mark"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_gives_one_clear_line_and_status_2(rules, arguments, words):
    result = invoke(rules, *arguments)
    assert result.exit_code == 2
    assert words in result.output.splitlines()[-1]


def test_bad_files_are_refused(tmp_path, rules):
    result = invoke(rules, rules)
    assert (result.exit_code, rules in result.output) == (2, True)
    (tmp_path / "bad").write_text("-A -t x\n")
    result = invoke(str(tmp_path / "bad"), SYN)
    assert (result.exit_code, "line 1" in result.output) == (2, True)


def test_the_entry_point_gives_status_2_too(rules):
    done = subprocess.run([sys.executable, "-m", "ipvs_model.tools.command_line", "explain", "--rules", rules, "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("Error: 'nonsense' is no packet")


def test_a_cut_packet_of_a_capture_does_not_stop_the_walk():
    explainer = Explainer(RULES)
    for length in range(1, 60):
        explainer.packet(CapturedPacket(length, 0, T0 * 10**9, parse_packet(SYN + " len=20").raw[:length], 0, ()))
