"""Bugs are planted, and the toolkit finds them: by the small programs that it once found, and from scratch within its default budget.

From scratch a sample is searched for in every run, and all of them in the long one (HYPOTHESIS_PROFILE=soak).
"""

from __future__ import annotations

import os

import pytest
from tests.testing.planted.bugs import BUGS, Bug
from tests.testing.planted.examples import HISTORIES, PROGRAMS
from tests.testing.planted.hunt import search

from ipvs_model.testing import clock_machine, machine
from ipvs_model.testing.properties import KERNEL, PROPERTIES, Trial

SAMPLE = ("udp_active", "lower_zero", "bucket_order", "same_expiry", "lc_tie")
SEARCHED = BUGS if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else SAMPLE


def run_example(bug: Bug) -> None:
    """Run what shows a bug; raises if it shows."""
    if bug.name in HISTORIES:
        name, history = HISTORIES[bug.name]
        promises = KERNEL[bug.where][-1]
        prop = next(prop for prop in PROPERTIES if prop.name == name)
        prop.judge(Trial(bug.where, promises.flags), history, promises)
        return
    state = machine.IPVSMachine() if bug.where == "machine" else clock_machine.ClockMachine()
    exec(PROGRAMS[bug.name], {**vars(machine), "state": state})  # noqa: S102 (a program of ours)
    state.teardown()


@pytest.mark.parametrize("name", BUGS)
def test_the_small_program_shows_the_bug(name, monkeypatch):
    BUGS[name].patch(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017 (a bug may show itself in any way; the next test says that it is the bug which does)
        run_example(BUGS[name])


@pytest.mark.parametrize("name", BUGS)
def test_without_the_bug_the_program_shows_nothing(name):
    run_example(BUGS[name])


@pytest.mark.parametrize("name", SEARCHED)
def test_the_toolkit_finds_it_by_itself(name):
    assert search(BUGS[name]) is not None


def test_all_twenty_five_are_there():
    assert len(BUGS) == 25
    assert BUGS.keys() == PROGRAMS.keys() | HISTORIES.keys()
    for bug in BUGS.values():
        assert bug.sentence.endswith(".")


def test_the_search_finds_nothing_where_nothing_is_planted():
    assert search(Bug("none", "Nothing.", lambda patches: None, "clock")) is None
