"""The model against recorded kernels: every scenario, every step, by the code of `ipvs-model verify`."""

from pathlib import Path

import pytest

from ipvs_model.tools.verify import Report, read_names, select, verify

HERE = Path(__file__).parent
#: file → scenarios and steps in it: nothing may be left out unseen
COUNTS = {
    "churn": (44, 3772),
    "control": (57, 2020),
    "estimator": (29, 2665),
    "fragments": (7, 232),
    "ftp": (12, 601),
    "fwmark": (15, 779),
    "icmp": (26, 1499),
    "incidents": (107, 11291),
    "ipsec": (5, 219),
    "local_and_mixed": (18, 563),
    "long_timers": (13, 860),
    "malformed": (16, 493),
    "mtu": (10, 257),
    "persistence": (26, 1707),
    "reuse": (32, 2070),
    "sctp": (13, 720),
    "sip": (13, 513),
    "sync": (37, 2824),
    "sync_backup": (33, 1529),
    "sysctls": (21, 1617),
    "tcp": (38, 2806),
    "tcp_schedulers": (48, 6173),
    "thresholds": (14, 1553),
    "tunnels": (13, 486),
    "udp": (30, 1695),
    "wheel": (12, 2642),
}
#: random scenarios recorded after the model was written, with seeds of their own: a sample of those that docs/verification.md counts
FRESH = {
    "tcp_schedulers": 60,
    "administration": 100,
    "packet_path": 120,
    "helpers_and_sync": 60,
    "mixed": 184,
    "options_and_fragments": 96,
    "extension_headers": 16,
    "estimator_restarts": 31,
}
CORE = read_names(HERE / "core.txt")  #: scenarios that need only rr, wrr, lc, wlc, TCP and UDP

ADMINISTRATION = read_names(HERE / "administration.txt")  #: what an administrator can say, without SCTP, helpers, other tunnels


def replay(*files: str, names: frozenset[str] | None = None, layered: bool = False) -> Report:
    report = Report(tuple(verify(select([HERE / "traces" / f"{file}.jsonl.gz" for file in files], names), layered=layered)))
    assert not report.divergences, "\n".join(map(str, report.divergences[:5]))
    return report


@pytest.mark.parametrize("layered", [False, True], ids=["quick", "layered"])
@pytest.mark.parametrize("file", COUNTS)
def test_every_scenario_of(file, layered):
    report = replay(file, layered=layered)
    assert (report.scenarios, report.steps, report.kernel) == (*COUNTS[file], "6.12.115")


@pytest.mark.parametrize("layered", [False, True], ids=["quick", "layered"])
@pytest.mark.parametrize("file", FRESH)
def test_fresh_scenarios_of(file, layered):
    report = Report(tuple(verify(select([HERE / "fresh" / f"{file}.jsonl.gz"]), layered=layered)))
    assert not report.divergences, "\n".join(map(str, report.divergences[:5]))
    assert report.scenarios == FRESH[file]


def test_administration_scenarios():
    assert replay(*COUNTS, names=ADMINISTRATION).scenarios == len(ADMINISTRATION) >= 200


def test_core_scenarios():
    assert replay(*COUNTS, names=CORE).scenarios == len(CORE) == 68


def test_no_file_is_left_out():
    assert {path.name.removesuffix(".jsonl.gz") for path in (HERE / "traces").iterdir()} == set(COUNTS)
    assert {path.name.removesuffix(".jsonl.gz") for path in (HERE / "fresh").iterdir()} == set(FRESH)
    assert [sum(column) for column in zip(*COUNTS.values(), strict=True)] == [689, 51586]
