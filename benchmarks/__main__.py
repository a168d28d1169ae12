"""``python -m benchmarks [--only E1,C1] [--json [FILE]]``: every figure beside its floor or its peer; exit status 1 if one is worse than good."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TextIO

from benchmarks.cases import CASES
from benchmarks.measure import INTERPRETER, Figure


def _names(text: str) -> list[str]:
    names = text.replace(",", " ").split()
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such row: {' '.join(unknown)} (there are {' '.join(CASES)})")
    return names


def take(names: list[str], out: TextIO) -> list[Figure]:
    """Measure rows and print each as it comes."""
    print(f"{INTERPRETER}; medians of in-run ratios, least and greatest round, CPU time of an operation, goals good/excellent/impossible", file=out)
    figures = []
    for name in names:
        figures.append(CASES[name].measure())
        print(figures[-1], file=out, flush=True)
    return figures


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Figures as ratios to a floor F: a call, a dict lookup, an attribute update.")
    parser.add_argument("--only", type=_names, default=list(CASES), metavar="E1,C1", help="these rows; all by default")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="the figures as one JSON object, by row; without FILE on standard output")
    options = parser.parse_args()
    figures = take(options.only, sys.stderr if options.json == "-" else sys.stdout)
    if options.json:
        text = json.dumps({figure.id: figure.as_json() for figure in figures}, indent=1) + "\n"
        sys.stdout.write(text) if options.json == "-" else Path(options.json).write_text(text)
    return int(any(figure.is_defect for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
