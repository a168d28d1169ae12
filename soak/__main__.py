"""``python -m soak NAME [--seed S]``: one long run; exit status 1 if something went wrong.

malformed, sync, control, machine: [--count N]. fuzz-packets, fuzz-sync: [--seconds N]. mutation: [--module NAME] [--sample N]; see its own --help.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from attrs import asdict

from soak import control, fuzz, machine, malformed, sync

#: name → the run, its usual count, its seed
RUNS: Final[dict[str, tuple[Callable[[int, int], Any], int, int]]] = {
    "malformed": (malformed.run, 200_000, 1),
    "sync": (sync.run, 100_000, 1),
    "control": (control.run, 20_000, 1),
    "machine": (machine.run, 5_000, 1),
}
#: the same for runs under a fuzzer, in seconds
FUZZERS: Final[dict[str, tuple[Callable[[int, int], Any], int, int]]] = {
    "fuzz-packets": (partial(fuzz.run, "packets"), 600, 1),
    "fuzz-sync": (partial(fuzz.run, "sync"), 600, 1),
}


def main(words: list[str] | None = None) -> int:
    """Run it and print what it saw."""
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["mutation"]:
        from soak import mutants  # needs what the extra "soak" brings

        return mutants.main(words[1:])
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("name", choices=[*RUNS, *FUZZERS, "mutation"])
    parser.add_argument("--count", type=int, help="packets, datagrams, commands or examples")
    parser.add_argument("--seconds", type=int, help="how long a fuzzer runs")
    parser.add_argument("--seed", type=int)
    given = parser.parse_args(words)
    run, count, seed = (RUNS | FUZZERS)[given.name]
    wanted = given.seconds if given.name in FUZZERS else given.count
    count = count if wanted is None else wanted
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
