"""``python -m benchmarks.instructions [--update]``: instructions of E1, E2 and C1 beside their floor's, counted by callgrind, to those kept in instructions.json.

Counts do not depend on what else the machine does. Each is the difference of two run lengths, so start-up and preparation drop out. A ratio that is
more than 10 % above the kept one is a regression: exit status 1. ``--update`` keeps what was counted for this version of Python.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.churn import churn
from benchmarks.established import established

KEPT = Path(__file__).with_name("instructions.json")
SLACK = 1.10
LENGTHS = (1, 4)  #: runs
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
MAKERS = {
    "E1": partial(established, repeat=1),
    "E2": partial(established, repeat=1, work="in place"),
    "C1": partial(churn, 300),
}


def run(case: str, side: str, times: int) -> None:
    """What the counted process does: one side of a case, so many times."""
    pair = MAKERS[case]()
    function = getattr(pair, side)
    function()
    gc.collect()
    if case != "C1":
        gc.disable()
    for _ in range(times):
        function()


def count(case: str, side: str, times: int) -> int:
    """Instructions of a process that does it."""
    program = f"from benchmarks.instructions import run; run({case!r}, {side!r}, {times})"
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"})
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"valgrind failed: {done.stderr[-2000:]}")
    return int(found[1])


def ratio(case: str) -> float:
    """Instructions of the model's side for one of the floor's."""
    model, floor = ([count(case, side, times) for times in LENGTHS] for side in ("model", "other"))
    return (model[1] - model[0]) / (floor[1] - floor[0])


def main() -> int:
    """Count, compare, say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description="Instruction counts of E1, E2, C1 relative to the floor's.")
    parser.add_argument("--update", action="store_true", help="keep what is counted for this version of Python")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all by default")
    options = parser.parse_args()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    mine = kept.setdefault(VERSION, {})
    worse = False
    for case in options.cases or MAKERS:
        counted = round(ratio(case), 3)
        fine = options.update or (case in mine and counted <= mine[case] * SLACK)
        worse |= not fine
        known = f"kept {mine[case]:.3f}" if case in mine else f"none kept for Python {VERSION}: --update keeps it"
        print(f"{case} {counted:8.3f} floors  {known}  {'fine' if fine else 'WORSE'}", flush=True)
        if options.update:
            mine[case] = counted
    if options.update:
        KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
