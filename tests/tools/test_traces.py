"""A damaged trace file is refused, with the line and what is wrong there."""

import gzip
import json

import pytest

from ipvs_model.tools.traces import TraceError, read_traces

STEPS = [
    {"op": "ipvsadm", "args": "-A -t 192.0.2.1:80 -s rr", "at": [0, 1], "rc": 0},
    {"op": "packet", "dev": "cli", "hex": "4500", "at": [2, 2], "emitted": [["rs", "4501"]]},
    {"op": "to", "jiffies": 9, "at": [2, 9]},
    {"op": "dump", "at": [10, 10], "files": {"ip_vs": ["IP Virtual Server"]}},
    {"op": "sysctl", "name": "net.ipv4.vs.conn_reuse_mode", "value": "0", "at": [11, 11], "rc": 0},
    {"op": "sh", "cmd": "true", "at": [12, 12], "rc": 0, "out": ["line"]},
]
TRACE = {"name": "t", "kernel": "6.12.115", "hz": 250, "start_jiffies": 7, "steps": STEPS}


def changed(step: int | None = None, **members: object) -> dict[str, object]:
    """The trace with members of a step (or of itself) set, or removed where the value is None."""
    trace = json.loads(json.dumps(TRACE))
    target = trace if step is None else trace["steps"][step]
    for key, value in members.items():
        if value is None:
            del target[key]
        else:
            target[key] = value
    return trace


@pytest.fixture
def written(tmp_path):
    def write(*traces, text=None):
        path = tmp_path / "traces.jsonl"
        path.write_text(text if text is not None else "".join(json.dumps(trace) + "\n" for trace in traces))
        return path

    return write


def test_a_trace_is_read(written):
    (trace,) = read_traces(written(TRACE))
    assert (trace.name, trace.kernel, trace.hz, trace.start_jiffies, trace.estimation) == ("t", "6.12.115", 250, 7, False)
    assert [step.op for step in trace.steps] == ["ipvsadm", "packet", "to", "dump", "sysctl", "sh"]
    assert trace.steps[0].at == (0, 1)
    assert trace.steps[1].emitted == (("rs", b"\x45\x01"),)
    assert trace.steps[3].operands["files"] == {"ip_vs": ("IP Virtual Server",)}
    assert trace.steps[5].out == ("line",)
    assert [str(step) for step in trace.steps[:3]] == ["ipvsadm -A -t 192.0.2.1:80 -s rr", "packet cli 4500", "to 9"]
    assert [str(step) for step in trace.steps[3:]] == ["dump", "sysctl net.ipv4.vs.conn_reuse_mode=0", "sh true"]


def test_compressed_and_plain_files_are_the_same(written, tmp_path):
    packed = tmp_path / "traces.gz"
    packed.write_bytes(gzip.compress(written(TRACE).read_bytes()))
    assert list(read_traces(packed)) == list(read_traces(tmp_path / "traces.jsonl"))


def test_estimation_is_read(written):
    (trace,) = read_traces(written(changed(estimation=True)))
    assert trace.estimation


DAMAGED = {
    "no name": (changed(name=None), '"name" is missing'),
    "name is a number": (changed(name=3), '"name" is 3, wants str'),
    "hz is true": (changed(hz=True), '"hz" is true, wants int'),
    "hz is 0": (changed(hz=0), "out of range"),
    "start_jiffies has 33 bits": (changed(start_jiffies=1 << 32), "out of range"),
    "steps missing": (changed(steps=None), '"steps" is missing'),
    "unknown operation": (changed(0, op="reboot"), 'step 0: unknown operation "reboot"'),
    "no rc": (changed(0, rc=None), 'step 0: "rc" is missing'),
    "rc is text": (changed(0, rc="0"), '"rc" is "0", wants int'),
    "no at": (changed(2, at=None), 'step 2: "at" is missing'),
    "at has one jiffy": (changed(2, at=[3]), 'step 2: "at" is [3]'),
    "time goes back between steps": (changed(1, at=[0, 2]), "the step before ended at 1"),
    "time goes back in a step": (changed(1, at=[3, 2]), "two jiffies that do not go back"),
    "to ends early": (changed(2, jiffies=10), '"to" 10 ended before that, at 9'),
    "injected half a byte": (changed(1, hex="450"), "step 1: not a packet in hexadecimal"),
    "emitted no hexadecimal": (changed(1, emitted=[["rs", "45zz"]]), "step 1: not a packet in hexadecimal"),
    "emitted without device": (changed(1, emitted=["4500"]), 'wants [device, packet]'),
    "emitted is no list": (changed(1, emitted={}), '"emitted" is {}, wants list'),
    "out is text": (changed(5, out="line"), '"out" is not a list of lines'),
    "a file is text": (changed(3, files={"ip_vs": "x"}), 'file "ip_vs" is not a list of lines'),
    "a step is text": (changed(steps=["dump"]), "step 0: not an object"),
    "a list": ([], "not an object"),
}


@pytest.mark.parametrize(("trace", "why"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_named_with_its_line(written, trace, why):
    path = written(TRACE, trace)
    traces = read_traces(path)
    assert next(traces).name == "t"
    with pytest.raises(TraceError) as caught:
        next(traces)
    assert caught.value.line == 2
    assert str(caught.value).startswith(f"{path}:2: ")
    assert why in str(caught.value)


def test_a_line_that_ends_early_is_not_json(written):
    path = written(text=json.dumps(TRACE) + "\n\n" + json.dumps(TRACE)[:100])
    with pytest.raises(TraceError, match=r":3: not JSON at column \d+ of 100"):
        list(read_traces(path))


def test_a_line_that_is_not_text(tmp_path):
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"{\xff}\n")
    with pytest.raises(TraceError, match=":1: not UTF-8 at byte 1"):
        list(read_traces(path))


@pytest.mark.parametrize("part", [0.3, 0.9, 0.99])
def test_a_compressed_file_that_ends_early(tmp_path, part):
    path = tmp_path / "traces.gz"
    data = gzip.compress("".join(json.dumps(TRACE) + "\n" for _ in range(3)).encode())
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(TraceError, match=r":\d: the file is cut off or damaged here"):
        list(read_traces(path))


def test_a_compressed_file_with_a_wrong_byte(tmp_path):
    path = tmp_path / "traces.gz"
    data = bytearray(gzip.compress(json.dumps(TRACE).encode()))
    data[40] ^= 255
    path.write_bytes(data)
    with pytest.raises(TraceError):
        list(read_traces(path))
