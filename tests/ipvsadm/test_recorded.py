"""Command lines that ipvsadm 1.31 was given on Linux 6.12.115: exit status and every line that it printed.

``command_lines.json.gz`` holds three sessions: "chosen", odd words of every kind; "random", valid and broken lines drawn from the grammar; "mutated", such
lines with letters and words changed, and restores of them. A step is [words, standard input, exit status, lines]; error output comes first in the lines.
That machine had no services database.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from ipvs_model.ipvsadm import TableResolver, run
from ipvs_model.tools.machine import trace_machine

SESSIONS = [json.loads(line) for line in gzip.decompress((Path(__file__).parent / "command_lines.json.gz").read_bytes()).splitlines()]
NO_NAMES = TableResolver(services=())


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session["name"])
def test_every_command_line_of(session: dict[str, Any]) -> None:
    ipvs = trace_machine(0).ipvs
    # where services that differ by 2**31 and more end up depends on the order in which the kernel lists them
    ipvs.ns.env = evolve(ipvs.ns.env, svc_hash=session["svc_hash"])
    for number, (words, stdin, status, lines) in enumerate(session["steps"]):
        result = run(ipvs.control, ipvs.proc, words, stdin, resolver=NO_NAMES)
        assert (number, words, result.status, (result.err + result.out).split("\n")[:-1]) == (number, words, status, lines)


def test_nothing_is_left_out() -> None:
    assert [(session["name"], session["kernel"], len(session["steps"])) for session in SESSIONS] == [
        ("chosen", "6.12.115", 351),
        ("random", "6.12.115", 1601),
        ("mutated", "6.12.115", 1370),
    ]
