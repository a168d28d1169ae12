"""``python -m benchmarks [CASE …] [--json FILE]``: run cases (all by default); exit status 1 if one misses its limit."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

from benchmarks.cases import CASES


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Figures as ratios to a floor F: a call, a dict lookup, an attribute update.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=" ".join(CASES))
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"no such case: {' '.join(sorted(unknown))}")
    figures = []
    print(f"{platform.python_implementation()} {platform.python_version()}; median of in-run ratios, spread in brackets")
    for name in options.cases or CASES:
        figures.append(CASES[name]())
        print(figures[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps({"python": platform.python_version(), "figures": [figure.as_json() for figure in figures]}, indent=1))
    return 0 if all(figure.good for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
