"""Let the toolkit look for planted bugs within its default budget: nothing but the machine, the clock's machine and check_scheduler.

python -m tests.testing.planted.hunt [NAME…]     prints what was found, and the seconds that it took
"""

from __future__ import annotations

import sys
import time

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.testing.planted.bugs import BUGS, Bug

from ipvs_model.testing.clock_machine import ClockMachine
from ipvs_model.testing.machine import BUDGET, IPVSMachine
from ipvs_model.testing.properties import check_scheduler

#: the default budget, the same examples each time, without shrinking what is found
SEARCH = settings(BUDGET, database=None, derandomize=True, phases=[Phase.generate])


def search(bug: Bug) -> str | None:
    """What the toolkit says about a bug, None if it does not find it."""
    with pytest.MonkeyPatch.context() as patches:
        bug.patch(patches)
        try:
            if bug.where in ("machine", "clock"):
                run_state_machine_as_test(IPVSMachine if bug.where == "machine" else ClockMachine, settings=SEARCH)
            else:
                check_scheduler(bug.where)
        except Exception as error:  # noqa: BLE001 (a bug may show itself in any way)
            return f"{type(error).__name__}: {error}"
    return None


def main(names: list[str]) -> int:
    """Search for all bugs, or those named; returns how many were not found."""
    missed = 0
    for name in names or BUGS:
        began = time.monotonic()
        said = search(BUGS[name])
        missed += said is None
        print(f"{'found ' if said else 'MISSED'} {name:22} {time.monotonic() - began:5.0f} s  {(said or '').splitlines()[0] if said else ''}", flush=True)
    print(f"bugs={len(names or BUGS)} missed={missed}")
    return missed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) > 2 else 0)
