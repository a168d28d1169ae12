"""The toolkit's machine over a whole IPVS, far beyond its default budget: every law and every invariant after every step."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from attrs import frozen
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from ipvs_model.testing.laws import LAWS, Law
from ipvs_model.testing.machine import BUDGET, IPVSMachine
from ipvs_model.testing.snapshots import Step


@frozen
class Outcome:
    """What a run saw: steps by kind, and the states of the connections that were there after them."""

    steps: dict[str, int]
    states: dict[str, int]


class Tally(Law):
    """Nothing is wrong, all is counted."""

    steps: ClassVar[Counter[str]] = Counter()
    states: ClassVar[Counter[str]] = Counter()

    def check(self, step: Step) -> None:
        self.steps[step.kind] += 1
        self.states.update(seen.state for seen in step.after.conns.values())


class Counting(IPVSMachine):
    """The machine, with a tally."""

    LAWS = (*LAWS, Tally)


def run(count: int, number: int) -> Outcome:
    """So many examples of 50 steps. Raises LawBroken or AssertionError with the program that shows it."""
    Tally.steps.clear()
    Tally.states.clear()
    budget = settings(BUDGET, max_examples=count, stateful_step_count=50, database=None, phases=[Phase.generate, Phase.shrink])
    run_state_machine_as_test(seed(number)(Counting), settings=budget)
    return Outcome(dict(Tally.steps), dict(Tally.states.most_common()))
