"""The script language: reading, running, writing for the recorder, and the command."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ipvs_model.packet import Packet
from ipvs_model.testing.script import ScriptError, parse
from ipvs_model.testing.script_export import as_json_lines, scenario_steps
from ipvs_model.testing.script_run import run, run_all
from ipvs_model.tools.command_line import group
from ipvs_model.tools.commands.script import director

HEAD = """
threads: none
server A 10.1.0.11:80
server B 10.1.0.12:80
service web -t 192.0.2.1:80
service dns -u 192.0.2.1:53
scenario one
"""
UP = """
0 ipvsadm -A web -s rr
0 ipvsadm -a web -r A -m
"""


def shown(text: str, *, up: bool = True) -> list[str]:
    """What is not as expected."""
    script = parse(HEAD + (UP if up else "") + text)
    return [f"{line.expected} | {line.got}" for line in run(script, script.scenarios[0], director()) if not line.right]


# --- what is right ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "1 40000 > web S => A",
        "1 40000 > web S,<SA,A => A",
        "1 40000 > web connects => A\n1 40000 > web closes\n1 A is 0/1",
        "1 40000..40003 > web S => A",
        "1 40000..40003 > web S => A*4",
        "1 40000..40003 > web S => {A 4}",
        "1 203.0.113.1..4:40000 > web S => {A 4} as start\n2 203.0.113.1..4:40001 > web S => moved 0 since start",
        "1 40000 > web A => reset",
        "1 A > 40000 SA => itself",
        "1 40000 > dns udp => icmp",
        "1 40000 > web - => reset",
        "1 40000 > web S\n+1 entry 40000: A SYN_RECV 58..59",
        "1 entry 40000: none",
        "1 template 203.0.113.7: none",
        "1 A is 0/0 weight 1\n1 B is gone",
        "1 ipvsadm -A web -s rr => 255\n1 ipvsadm -A web -s rr => 255 Service already exists",
        "1 sysctl conn_reuse_mode=0",
        "1 sync 0",
        "1 198.51.100.9:1 > web S => A",
        "client 198.51.100.9\n1 40000 > web S => A\n1 entry 198.51.100.9:40000: A SYN_RECV",
    ],
)
def test_understood_and_right(text):
    assert shown(text.replace("=> icmp", "=> refused")) == []


def test_direct_routing_and_tunnels_are_seen_by_the_entry():
    for method in ("-g", "-i"):
        text = f"0 ipvsadm -A web -s rr\n0 ipvsadm -a web -r A {method}\n1 40000 > web S => A"
        assert shown(text, up=False) == []


# --- what is wrong ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 40000 > web S => B", "B | A"),
        ("1 40000 > web S => refused", "refused | A"),
        ("1 40000..40001 > web S => A B", "A B | A A"),
        ("1 40000..40001 > web S => {A 1, B 1}", "A 1, B 1 | A 2"),
        ("1 40000 > web S,R => A\n2 40000 > web PA => nothing", "nothing | A"),
        ("1 40000 > web S\n1 A is 0/1", "0/1 | 1/0"),
        ("1 A is 0/0 weight 2", "0/0 weight 2 | 0/0 weight 1"),
        ("1 B is 0/0", "0/0 | gone"),
        ("1 entry 40000: A SYN_RECV", "A SYN_RECV | none"),
        ("1 40000 > web S\n1 entry 40000: A SYN_RECV 5..6", "A SYN_RECV 5..6 | A SYN_RECV 59"),
        ("1 40000 > web S\n1 entry 40000: none", "none | A SYN_RECV 59"),
        ("1 ipvsadm -A web -s rr", "0 | 255"),
        ("1 ipvsadm -A web -s rr => 255 No", "255 No | 255 Service already exists"),
        ("1 sync 1", "1 sync datagrams | 0 sync datagrams"),
        ("1 203.0.113.1..2:1 > web S => as s\n2 ipvsadm -d web -r A\n3 203.0.113.1..2:2 > web S => moved 0 since s", "0 moved | 2 moved"),
    ],
)
def test_a_wrong_expectation_is_told(text, told):
    assert shown(text) == [told]


def test_packets_take_a_jiffy_each_and_a_late_line_waits():
    script = parse(HEAD + UP + "1 40000..40299 > web S\n1.5 entry 40000: A SYN_RECV 59")
    (late,) = [line for line in run(script, script.scenarios[0], director()) if not line.right]
    assert late.got == "A SYN_RECV 58"


def test_every_scenario_has_a_director_of_its_own():
    script = parse(HEAD + UP + "scenario two" + UP)
    assert all(line.right for _, lines in run_all(script, director) for line in lines)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 40000 > wen S", "no service wen"),
        ("1 40000 > web XYZ", "no such packet: XYZ"),
        ("1 40000 > web S => C", "no result C"),
        ("1 40000 > web INIT,<INIT-ACK", "without name is a TCP packet"),
        ("1 C is 0/0", "no server C"),
        ("1 40000 sings", "not understood"),
        ("2 sync 0\n1 sync 0", "time goes back"),
        ("soon sync 0", "Invalid literal"),
        ("1 70000 > web S", "port out of range"),
    ],
)
def test_what_is_not_understood_is_told_with_its_line(text, told):
    with pytest.raises(ScriptError, match=told) as caught:
        parse(HEAD + text)
    assert str(caught.value).startswith(f"line {len((HEAD + text).splitlines())}: ")


def test_a_step_needs_a_scenario():
    with pytest.raises(ScriptError, match="before the first scenario"):
        parse("1 sync 0")


def test_threads_keep_their_number_signs():
    assert parse("threads: kubernetes #1; moby #2\nclaim: one\nclaim: two").headers == {"threads": "kubernetes #1; moby #2", "claim": "one two"}


# --- for the recorder -------------------------------------------------------------------------------------------------
def test_written_for_the_recorder():
    script = parse(
        HEAD + UP + "1 sysctl conn_reuse_mode=0\n1 40000 > web connects => A\n2 A > 40000 PA => web\n3 A is 1/0\n3 entry 40000: A ESTABLISHED 899\n4 sync 0"
    )
    steps = scenario_steps(script, script.scenarios[0])
    assert [step["op"] for step in steps] == [
        "ipvsadm", "ipvsadm", "to", "sysctl", "packet", "reply", "packet", "to", "packet", "to", "dump", "dump", "to", "dump",
    ]  # fmt: skip
    assert steps[0] == {"op": "ipvsadm", "args": "-A -t 192.0.2.1:80 -s rr", "expect": "0", "line": 9}
    assert steps[1]["args"] == "-a -t 192.0.2.1:80 -r 10.1.0.11:80 -m"
    assert steps[2] == {"op": "to", "jiffies": 250}
    assert steps[3] == {"op": "sysctl", "name": "net.ipv4.vs.conn_reuse_mode", "value": "0", "line": 11}
    assert Packet.parse(bytes.fromhex(steps[4]["hex"])) == Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "S")
    assert steps[5] == {"op": "reply", "to": 4, "flags": "SA", "line": 12}
    assert steps[6]["expect"] == "A"
    assert steps[8]["dev"] == "rs"
    assert steps[10]["expect"] == "A is 1/0"


def test_the_steps_of_the_recorder_do_what_the_script_does():
    script = parse(HEAD + UP + "1 40000..40002 > web S => A\n9 40000 > web PA => A")
    host = director()
    start = host.ipvs.clock.now
    for number, step in enumerate(scenario_steps(script, script.scenarios[0])):
        if step["op"] == "to":
            host.run_until(start + step["jiffies"])
        elif step["op"] == "ipvsadm":
            assert host.ipvs.ipvsadm(step["args"]).status == 0
        else:
            host.inject(step["dev"], bytes.fromhex(step["hex"]))
            assert host.drain(), number
    assert host.ipvs.clock.now == start + 9 * 250
    assert len(host.ipvs.conns()) == 3


def test_one_json_object_a_scenario():
    lines = as_json_lines(parse(HEAD + UP + "scenario two" + UP), "file").splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["file: one", "file: two"]
    assert json.loads(lines[0])["threads"] == "none"


# --- the command ------------------------------------------------------------------------------------------------------
def command(tmp_path, text: str, *options: str):
    path = tmp_path / "x.ipvs"
    path.write_text(text)
    return CliRunner().invoke(group(), ["script", *options, str(path)])


def test_the_command_prints_every_line(tmp_path):
    result = command(tmp_path, HEAD + UP + "1 40000 > web S => A")
    assert result.exit_code == 0
    assert result.output.splitlines()[0] == "x.ipvs: one"
    assert "  ok   1 40000 > web S => A" in result.output.splitlines()
    assert result.output.splitlines()[-1] == "scenarios=1 lines=3 failed=0"


def test_the_command_prints_expected_against_got(tmp_path):
    result = command(tmp_path, HEAD + UP + "1 40000 > web S => B", "--failed")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "x.ipvs: one",
        "  FAIL 1 40000 > web S => B",
        "       expected B",
        "       got      A",
        "scenarios=1 lines=3 failed=1",
    ]


def test_the_command_refuses_what_it_cannot_read(tmp_path):
    result = command(tmp_path, "nonsense")
    assert result.exit_code == 2
    assert "x.ipvs: line 1: " in result.output


def test_the_command_writes_scenarios(tmp_path):
    result = command(tmp_path, HEAD + UP, "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["name"] == "x: one"
