"""``python -m soak malformed | sync | control | machine [--count N] [--seed S]``: one long run; exit status 1 if something went wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, Final

from attrs import asdict

from soak import control, machine, malformed, sync

#: name → the run, its usual count, its seed
RUNS: Final[dict[str, tuple[Callable[[int, int], Any], int, int]]] = {
    "malformed": (malformed.run, 200_000, 1),
    "sync": (sync.run, 100_000, 1),
    "control": (control.run, 20_000, 1),
    "machine": (machine.run, 5_000, 1),
}


def main(words: list[str] | None = None) -> int:
    """Run it and print what it saw."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("name", choices=RUNS)
    parser.add_argument("--count", type=int, help="packets, datagrams, commands or examples")
    parser.add_argument("--seed", type=int)
    given = parser.parse_args(words)
    run, count, seed = RUNS[given.name]
    count = count if given.count is None else given.count
    seed = seed if given.seed is None else given.seed
    try:
        outcome = run(count, seed)
    except (RuntimeError, AssertionError) as error:
        print(f"{given.name}: {count}, seed {seed}: {error}", file=sys.stderr)
        return 1
    print(f"{given.name}: {count}, seed {seed}: nothing wrong")
    for name, value in asdict(outcome).items():
        print(f"  {name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
