"""A replay that must agree does, and a copy of a trace in which anything is changed is caught at exactly that step."""

import gzip
import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.tools.recording import Recorder

from ipvs_model.packet import Packet
from ipvs_model.tools import verify as verify_module
from ipvs_model.tools.commands.verify import command
from ipvs_model.tools.traces import parse_trace, read_traces
from ipvs_model.tools.verify import Report, SelectionError, check, read_names, select, shown, verify

KERNEL = Path(__file__).parents[1] / "kernel" / "traces"
CLIENT, VIP = "203.0.113.7:40000", "192.0.2.1:80"

#: recorded scenarios that are changed: file, name
CHANGED = (
    ("tcp", "tcp-1000218"),
    ("udp", "udp-1000147"),
    ("thresholds", "thresholds-1000233"),
    ("long_timers", "long_timers-1000116"),
    ("estimator", "estimator-1000004"),
    ("sysctls", "sysctls-1000114"),
)
SITES = 4  #: places of each kind at which each of them is changed

Json = dict[str, Any]


def load(file: str, name: str) -> Json:
    (trace,) = (value for value in (json.loads(line) for line in _lines(file)) if value["name"] == name)
    return trace


def _lines(file: str) -> Iterator[str]:
    with gzip.open(KERNEL / f"{file}.jsonl.gz", "rt") as lines:
        yield from lines


def result(trace: Json):
    return check(parse_trace("changed", 1, json.dumps(trace)))


# --- changes ----------------------------------------------------------------------------------------------------------
def flip(text: str, digit: int) -> str:
    """A hexadecimal text with one bit of one digit changed."""
    return text[:digit] + f"{int(text[digit], 16) ^ 1:x}" + text[digit + 1 :]


def other_digit(line: str, at: int) -> str:
    return line[:at] + str((int(line[at]) + 1) % 10) + line[at + 1 :]


def emitting(trace: Json) -> list[int]:
    return [index for index, step in enumerate(trace["steps"]) if step.get("emitted")]


def of(trace: Json, op: str, having: str = "at") -> list[int]:
    return [index for index, step in enumerate(trace["steps"]) if step["op"] == op and step.get(having) not in (None, [])]


def dumps(trace: Json, name: str, pattern: str) -> list[int]:
    """Dumps that have a line of that form in a file."""
    return [index for index in of(trace, "dump") if any(re.search(pattern, line) for line in trace["steps"][index]["files"].get(name, ()))]


def in_file(name: str, pattern: str, change: Callable[[list[str], int], None]) -> Callable[[Json, int], None]:
    def apply(step: Json, seed: int) -> None:
        lines = step["files"][name]
        fitting = [number for number, line in enumerate(lines) if re.search(pattern, line)]
        change(lines, fitting[seed % len(fitting)])

    return apply


def last_digit(lines: list[str], number: int) -> None:
    line = lines[number]
    lines[number] = other_digit(line, max(at for at, char in enumerate(line) if char.isdigit()))


def remove(lines: list[str], number: int) -> None:
    del lines[number]


def double(lines: list[str], number: int) -> None:
    lines.insert(number, lines[number])


def emitted_byte(step: Json, seed: int) -> None:
    pair = step["emitted"][seed % len(step["emitted"])]
    pair[1] = flip(pair[1], seed * 37 % len(pair[1]))


def emitted_dropped(step: Json, seed: int) -> None:
    del step["emitted"][seed % len(step["emitted"])]


def emitted_doubled(step: Json, seed: int) -> None:
    double(step["emitted"], seed % len(step["emitted"]))


def emitted_elsewhere(step: Json, seed: int) -> None:
    pair = step["emitted"][seed % len(step["emitted"])]
    pair[0] = "cli" if pair[0] == "rs" else "rs"


def emitted_longer(step: Json, seed: int) -> None:
    step["emitted"][seed % len(step["emitted"])][1] += "00"


def emitted_from_nothing(step: Json, seed: int) -> None:
    step["emitted"] = [*step.get("emitted", ()), ["cli", Packet.udp("192.0.2.1:1", CLIENT).raw.hex()]]


def injected_byte(step: Json, seed: int) -> None:
    step["hex"] = flip(step["hex"], seed * 37 % len(step["hex"]))


def exit_code(step: Json, seed: int) -> None:
    step["rc"] = 255 if step["rc"] == 0 else 0


def printed_digit(step: Json, seed: int) -> None:
    fitting = [number for number, line in enumerate(step["out"]) if re.search(r"\d", line)]
    last_digit(step["out"], fitting[seed % len(fitting)])


def printed_dropped(step: Json, seed: int) -> None:
    remove(step["out"], seed % len(step["out"]))


def printed_doubled(step: Json, seed: int) -> None:
    double(step["out"], seed % len(step["out"]))


def printed_more(step: Json, seed: int) -> None:
    step["out"] = [*step.get("out", ()), "one line more"]


CONN = r"^(TCP|UDP)"
DEST = r"^  ->.*\d *$"

#: what is changed → the steps at which it can be, and how
CHANGES: dict[str, tuple[Callable[[Json], list[int]], Callable[[Json, int], None]]] = {
    "byte of an emitted packet": (emitting, emitted_byte),
    "emitted packet dropped": (emitting, emitted_dropped),
    "emitted packet doubled": (emitting, emitted_doubled),
    "emitted packet on another device": (emitting, emitted_elsewhere),
    "emitted packet longer": (emitting, emitted_longer),
    "packet from nothing, packet": (lambda trace: of(trace, "packet"), emitted_from_nothing),
    "packet from nothing, ipvsadm": (lambda trace: of(trace, "ipvsadm"), emitted_from_nothing),
    "packet from nothing, dump": (lambda trace: of(trace, "dump"), emitted_from_nothing),
    "byte of an injected packet": (lambda trace: of(trace, "packet", "emitted"), injected_byte),
    "exit code": (lambda trace: of(trace, "ipvsadm"), exit_code),
    "errno": (lambda trace: of(trace, "sysctl"), exit_code),
    "digit of output": (lambda trace: of(trace, "ipvsadm", "out"), printed_digit),
    "line of output dropped": (lambda trace: of(trace, "ipvsadm", "out"), printed_dropped),
    "line of output doubled": (lambda trace: of(trace, "ipvsadm", "out"), printed_doubled),
    "line of output more": (lambda trace: of(trace, "ipvsadm"), printed_more),
    "Expires": (lambda trace: dumps(trace, "ip_vs_conn", CONN), in_file("ip_vs_conn", CONN, last_digit)),
    "Expires in ip_vs_conn_sync": (lambda trace: dumps(trace, "ip_vs_conn_sync", CONN), in_file("ip_vs_conn_sync", CONN, last_digit)),
    "entry dropped": (lambda trace: dumps(trace, "ip_vs_conn", CONN), in_file("ip_vs_conn", CONN, remove)),
    "entry doubled": (lambda trace: dumps(trace, "ip_vs_conn", CONN), in_file("ip_vs_conn", CONN, double)),
    "title of the entries dropped": (lambda trace: of(trace, "dump"), in_file("ip_vs_conn", "^Pro", remove)),
    "counter of a destination": (lambda trace: dumps(trace, "ip_vs", DEST), in_file("ip_vs", DEST, last_digit)),
    "destination dropped": (lambda trace: dumps(trace, "ip_vs", DEST), in_file("ip_vs", DEST, remove)),
    "live counter": (lambda trace: of(trace, "dump"), in_file("ip_vs_stats_percpu", r"^  0", last_digit)),
    "shown counter": (lambda trace: of(trace, "dump"), in_file("ip_vs_stats", r"^ +\d", last_digit)),
}


def sites(trace: Json, kind: str) -> list[int]:
    """Some of the steps at which a kind of change can be made, spread over the scenario."""
    steps = CHANGES[kind][0](trace)
    return steps[:: max(1, len(steps) // SITES)]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Json]:
    return {name: load(file, name) for file, name in CHANGED}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_copy_is_caught_at_exactly_that_step(recorded, kind):
    places = [(name, step) for name, trace in recorded.items() for step in sites(trace, kind)]
    assert len(places) >= 3
    for number, (name, step) in enumerate(places):
        trace = deepcopy(recorded[name])
        CHANGES[kind][1](trace["steps"][step], number)
        checked = result(trace)
        assert checked.divergence is not None, f"{kind} of {name} step {step} goes unseen"
        assert (checked.divergence.scenario, checked.divergence.step) == (name, step), kind
        assert checked.steps == step + 1
        assert checked.divergence.kernel != checked.divergence.model


def test_unchanged_they_agree(recorded):
    for name, trace in recorded.items():
        checked = result(trace)
        assert (checked.divergence, checked.steps, checked.scenario) == (None, len(trace["steps"]), name)


def test_destinations_in_another_order_are_caught(recorded):
    trace = deepcopy(recorded["thresholds-1000233"])
    step = dumps(trace, "ip_vs", DEST)[0]
    lines = trace["steps"][step]["files"]["ip_vs"]
    arrows = [number for number, line in enumerate(lines) if re.search(DEST, line)]
    lines[arrows[0]], lines[arrows[1]] = lines[arrows[1]], lines[arrows[0]]
    assert result(trace).divergence.step == step


# --- choices ----------------------------------------------------------------------------------------------------------
def made() -> Recorder:
    return Recorder().at(1).admin("-A -t 192.0.2.1:80 -s rr").admin("-a -t 192.0.2.1:80 -r 10.1.0.11:80 -m")


def test_what_the_model_records_it_reproduces():
    recorder = made().packet(Packet.tcp(CLIENT, VIP, "S")).admin("-Lnc").to(300).dump().admin("-D -t 192.0.2.9:1").admin("-Ln --stats")
    checked = check(recorder.parsed())
    assert (checked.divergence, checked.choices, checked.steps) == (None, 0, 8)


def estimated(acted: int) -> Recorder:
    """A service that a command of two jiffies, 100 and 101, added in one of them: counters are sampled 491 and 991 jiffies later."""
    recorder = Recorder(estimation=True).at(acted).admin("-A -t 192.0.2.1:80 -s rr", at=(100, 101)).at(102)
    recorder.admin("-a -t 192.0.2.1:80 -r 10.1.0.11:80 -m").packet(Packet.tcp(CLIENT, VIP, "S"))
    recorder.at(591).dump().at(592).dump().packet(Packet.tcp(CLIENT, VIP, "A"))
    return recorder.at(1091).dump().at(1092).dump()


FIRST, SECOND = (3, 4), (6, 7)  #: steps of the dumps around each sample


def stats(recorder: Recorder, step: int) -> list[str]:
    return recorder.steps[step]["files"]["ip_vs_stats"]


@pytest.mark.parametrize(("acted", "choices"), [(101, 0), (100, 1)])
def test_a_long_command_acted_in_its_last_jiffy_or_the_one_before(acted, choices):
    recorder = estimated(acted)
    for before, after in (FIRST, SECOND):
        assert (stats(recorder, before) == stats(recorder, after)) is (acted == 100)
    checked = check(recorder.parsed())
    assert (checked.divergence, checked.choices) == (None, choices)


def test_a_choice_is_kept_for_the_rest_of_the_scenario():
    """The first sample wants one choice, the second one the other: no run agrees, and the one that got furthest is reported."""
    recorder = estimated(100)
    recorder.steps[SECOND[0]]["files"]["ip_vs_stats"] = stats(estimated(101), SECOND[0])
    checked = check(recorder.parsed())
    assert (checked.divergence.step, checked.divergence.what, checked.choices) == (SECOND[0], "file ip_vs_stats", 1)


def test_of_several_long_commands_the_right_one_is_found():
    recorder = estimated(100)
    recorder.steps.insert(1, {"op": "ipvsadm", "args": "--set 0 0 0", "rc": 0, "at": [101, 102]})
    recorder.steps.insert(2, {"op": "ipvsadm", "args": "--set 0 0 0", "rc": 0, "at": [102, 102]})
    recorder.steps.insert(5, {"op": "ipvsadm", "args": "--set 0 0 0", "rc": 0, "at": [500, 502]})
    checked = check(recorder.parsed())
    assert (checked.divergence, checked.choices) == (None, 1)


def change_of_expires() -> int:
    """The last jiffy at which the entry of `entry` shows the seconds it had at first."""
    recorder = entry(1)
    first = recorder.host.ipvs.proc("ip_vs_conn")
    while recorder.host.ipvs.proc("ip_vs_conn") == first:
        recorder.at(recorder.now + 1)
    return recorder.now - 1


def entry(jiffies: int) -> Recorder:
    """A connection, some time later."""
    return made().packet(Packet.tcp(CLIENT, VIP, "S")).at(jiffies)


@pytest.mark.parametrize(("late", "choices"), [(0, 1), (1, 0)])
def test_a_long_listing_may_be_a_jiffy_early(late, choices):
    last = change_of_expires()
    checked = check(entry(last + late).admin("-Lnc", at=(last, last + 1)).parsed())
    assert (checked.divergence, checked.choices) == (None, choices)


def test_a_listing_that_shows_neither_jiffy_is_caught():
    last = change_of_expires()
    assert check(entry(last).admin("-Lnc", at=(last + 1, last + 2)).parsed()).divergence.what == "output"


def test_the_files_of_a_long_dump_are_read_one_after_the_other():
    last = change_of_expires()
    checked = check(entry(last).dump(last, last, last, last + 1, at=(last, last + 1)).parsed())
    assert (checked.divergence, checked.choices) == (None, 1)
    assert check(entry(last).dump(at=(last, last + 1)).parsed()).choices == 0


def test_the_files_of_a_long_dump_do_not_go_back():
    last = change_of_expires()
    late, early = (entry(jiffies).dump(at=(last, last + 1)) for jiffies in (last + 1, last))
    late.steps[-1]["files"]["ip_vs_conn_sync"] = early.steps[-1]["files"]["ip_vs_conn_sync"]
    checked = check(late.parsed())
    assert checked.divergence is not None
    assert checked.divergence.what == "file ip_vs_conn_sync"


def test_entries_may_be_printed_while_time_goes_on_but_not_backwards():
    """A file that took more than a jiffy: its first lines are of the first one, its last lines of the second."""
    last = change_of_expires()
    steps = [made().packet(Packet.tcp(CLIENT, VIP, "S")).packet(Packet.tcp("203.0.113.8:1", VIP, "S")).at(jiffies).dump(at=(last, last + 1)) for jiffies in (last, last + 1)]
    early, late = (recorder.steps[-1]["files"]["ip_vs_conn"] for recorder in steps)
    mixed = steps[1]
    mixed.steps[-1]["files"]["ip_vs_conn"] = [early[0], early[1], late[2]]
    assert early[1] != late[1]
    assert check(mixed.parsed()).choices == 1
    mixed.steps[-1]["files"]["ip_vs_conn"] = [early[0], late[2], early[1]]
    assert check(mixed.parsed()).divergence.what == "file ip_vs_conn"
    mixed.steps[-1]["files"]["ip_vs_conn"] = [early[0], early[1], late[1]]
    assert check(mixed.parsed()).divergence.what == "file ip_vs_conn"


def test_a_refused_command_does_nothing_in_a_second_try():
    """A command that the kernel refused is run once: what the model made of it by mistake must not make it refuse the second time."""
    recorder = Recorder().at(1)
    recorder.steps.append({"op": "ipvsadm", "args": "-A -t 192.0.2.1:80 -s rr", "rc": 255, "out": ["Service already exists"], "at": [1, 2]})
    assert check(recorder.parsed()).divergence.step == 0


# --- the rest of the steps --------------------------------------------------------------------------------------------
def test_connection_counts_of_conntrack_are_not_compared_but_what_leaves_is():
    step = {"op": "sh", "cmd": "cat /proc/sys/net/netfilter/nf_conntrack_count", "rc": 0, "out": ["77"], "at": [2, 2]}
    recorder = made()
    recorder.steps.append(step)
    assert check(recorder.parsed()).divergence is None
    recorder.steps[-1] = {**step, "emitted": [["cli", "4500"]]}
    assert check(recorder.parsed()).divergence.step == 2


def marks(rc=0, out=()):
    command = "iptables -t mangle -A PREROUTING -p tcp -m multiport --dports 80 -j MARK --set-mark 7"
    return {"op": "sh", "cmd": command, "rc": rc, "out": list(out), "at": [2, 2]}


def test_a_rule_that_the_machine_cannot_take_must_have_failed():
    recorder = made()
    recorder.steps.append(marks())
    assert check(recorder.parsed()).divergence.what == "output"
    warning = "Warning: Extension multiport revision 0 not supported, missing kernel module?"
    recorder.steps[-1] = marks(1, [warning, "iptables: No chain/target/match by that name."])
    assert check(recorder.parsed()).divergence is None


def test_an_unknown_sysctl_and_an_unknown_file_are_no_agreement():
    recorder = made()
    recorder.steps.append({"op": "sysctl", "name": "net.ipv4.ip_forward", "value": "0", "rc": 0, "at": [2, 2]})
    assert check(recorder.parsed()).divergence.what == "sysctl"
    recorder.steps[-1] = {"op": "dump", "files": {"ip_vs_app": []}, "at": [2, 2]}
    assert check(recorder.parsed()).divergence.what == "file ip_vs_app"


def test_an_exception_of_the_model_is_a_divergence(monkeypatch):
    def broken(self, device, raw):
        raise ZeroDivisionError("ouch")

    trace = made().packet(Packet.tcp(CLIENT, VIP, "S")).to(9).parsed()
    monkeypatch.setattr(verify_module.Host, "inject", broken)
    checked = check(trace)
    assert (checked.steps, checked.divergence.step, checked.divergence.what) == (3, 2, "the model raised")
    assert checked.divergence.model[0] == "ZeroDivisionError: ouch"


# --- many scenarios ---------------------------------------------------------------------------------------------------
@pytest.fixture
def files(tmp_path):
    """Two files: one scenario that agrees, and one that agrees and one that does not."""
    good, other, bad = made(), made(), made()
    other.trace["name"] = "other"
    bad.trace["name"] = "bad"
    for recorder in (good, other, bad):
        recorder.packet(Packet.tcp(CLIENT, VIP, "S")).dump()
    del bad.steps[2]["emitted"]
    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    paths[0].write_text(json.dumps(good.trace) + "\n")
    paths[1].write_text(json.dumps(bad.trace) + "\n" + json.dumps(other.trace) + "\n")
    return [str(path) for path in paths]


@pytest.fixture
def run():
    def run(*args: str):
        return CliRunner().invoke(command, args, catch_exceptions=False)

    return run


def test_agreement_gives_status_0(run, files):
    done = run(files[0])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "scenarios=1 steps=4 divergences=0"


def test_a_divergence_gives_status_1_and_is_shown(run, files):
    done = run(*files)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "scenarios=3 steps=11 divergences=1"
    assert "bad step 2 at 1..1: packet cli 4500" in done.stdout
    assert "kernel: rs: nothing" in done.stdout
    assert "model : rs: 4500" in done.stdout


def test_show_0_names_them_only(run, files):
    done = run("--show", "0", *files)
    assert "bad step 2: emitted packets\n" in done.stdout
    assert "kernel:" not in done.stdout


def test_json(run, files):
    done = run("--json", *files)
    assert json.loads(done.stdout) == {
        "scenarios": 3, "steps": 11, "divergences": 1, "divergent_scenarios": ["bad"], "choices": 0, "kernel": "model",
    }  # fmt: skip


def test_names_select_whole_scenarios(run, files, tmp_path):
    names = tmp_path / "names"
    names.write_text("# the good ones\nmade\n\nother\nmissing\n")
    done = run("--names", str(names), *files)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "scenarios=2 steps=8 divergences=0"
    assert done.stderr == "not in these files: missing\n"


def test_no_scenario_is_an_error(run, files, tmp_path):
    names = tmp_path / "names"
    names.write_text("missing\n")
    done = run("--names", str(names), *files)
    assert done.exit_code == 2
    assert "none of the scenarios named is in these files" in done.stderr
    names.write_text("")
    done = run(str(names))
    assert done.exit_code == 2
    assert "no scenario in these files" in done.stderr
    with pytest.raises(SelectionError):
        list(select([], None))


def test_a_damaged_file_is_an_error(run, files):
    Path(files[1]).write_text(Path(files[1]).read_text()[:-50])
    done = run(*files)
    assert done.exit_code == 2
    assert f"{files[1]}:2: not JSON at column" in done.stderr


def test_several_processes_give_the_same_report(files):
    traces = [trace for path in files for trace in read_traces(path)]
    assert list(verify(traces, jobs=2)) == list(verify(traces))


def test_the_report_adds_up(files):
    report = Report(tuple(verify(select(files))))
    assert report.summary() == "scenarios=3 steps=11 divergences=1"
    assert [divergence.scenario for divergence in report.divergences] == ["bad"]
    assert read_names(Path(__file__).parents[1] / "kernel" / "core.txt") >= {"tcp-1000218"}


def test_long_differences_are_cut():
    assert shown([str(number) for number in range(20)])[-1] == "… 8 more"
