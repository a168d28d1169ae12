"""``python -m benchmarks.page``: the table and the plots of docs/performance.md, from the figures kept in benchmarks/figures.

The figures are taken on each version of Python by ``python -m benchmarks --json benchmarks/figures/3.11.json`` (3.12, 3.13 alike).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure as Plot

ROOT: Final = Path(__file__).parents[1]
FIGURES: Final = ROOT / "benchmarks" / "figures"
PAGE: Final = ROOT / "docs" / "performance.md"
PICTURES: Final = ROOT / "docs" / "pictures"
MARKED: Final = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
MAIN: Final = "3.11"
CURVES: Final = {
    "performance-connections.svg": ("connections", {"an established packet": "GP", "a SYN that makes a connection": "GC"}, "ns of CPU time"),
    "performance-services.svg": ("services", {"an established packet": "GS", "a connection begun and forgotten": "GB"}, "times the price with one service"),
    "performance-destinations.svg": ("destinations", {"rr": "Grr", "mh": "Gmh", "sh": "Gsh", "wlc, equal weights": "Gwlc"}, "times the price with two destinations"),
}
Rows = dict[str, dict[str, Any]]


def figures() -> dict[str, Rows]:
    """Version of Python → rows."""
    files = sorted(FIGURES.glob("*.json"), key=lambda path: [int(part) for part in path.stem.split(".")])
    return {path.stem: json.loads(path.read_text()) for path in files}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _cell(rows: Rows, name: str) -> str:
    row = rows.get(name)
    return "" if row is None else f"{_number(row['ratio'])} ({_number(row['spread'][0])}…{_number(row['spread'][1])})"


def goals_table(versions: dict[str, Rows]) -> str:
    """Rows that have goals."""
    return _table(versions, [name for name, row in versions[MAIN].items() if row["good"] is not None], with_goals=True)


def variants_table(versions: dict[str, Rows]) -> str:
    """Rows without."""
    return _table(versions, [name for name, row in versions[MAIN].items() if row["good"] is None], with_goals=False)


def _table(versions: dict[str, Rows], names: list[str], with_goals: bool) -> str:
    goals = ["good", "excellent", "impossible", "reached"] if with_goals else []
    lines = [["row", "what", "unit", *versions, *goals, "ns"]]
    lines.append(["---"] * len(lines[0]))
    for name in names:
        row = versions[MAIN][name]
        marks = [_number(row[goal]) for goal in goals[:3]] + ([row["reached"] or "**worse than good**"] if with_goals else [])
        lines.append([name, row["what"], row["unit"], *(_cell(rows, name) for rows in versions.values()), *marks, _number(row["nanoseconds"])])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def interpreters(versions: dict[str, Rows]) -> str:
    """What was measured."""
    names = [next(iter(rows.values()))["python"] for rows in versions.values()]
    return f"Taken on {', '.join(names)}.\n"


TEXTS: Final = {"goals": goals_table, "variants": variants_table, "interpreters": interpreters}


def page(text: str) -> str:
    """The page with what stands between its markers made anew."""
    versions = figures()
    return MARKED.sub(lambda found: found[1] + TEXTS[found[2]](versions) + found[3], text)


def curves(name: str) -> Plot:
    """What something costs as something else grows."""
    across, lines, up = CURVES[name]
    rows = figures()[MAIN]
    plot = Plot(figsize=(7, 3), layout="constrained")
    axes = plot.subplots()
    value = "nanoseconds" if up.startswith("ns") else "ratio"
    for label, prefix in lines.items():
        points = [(int(row.partition(".")[2]), found[value]) for row, found in rows.items() if re.fullmatch(rf"{prefix}\.\d+", row)]
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend()
    return plot


def marks() -> Plot:
    """Each row against its goals: 1 is good, below is better."""
    rows = {name: row for name, row in figures()[MAIN].items() if row["good"] is not None}
    plot = Plot(figsize=(7, 0.28 * len(rows) + 0.8), layout="constrained")
    axes = plot.subplots()

    def of_good(row: dict[str, Any], value: float) -> float:
        return row["good"] / value if row["unit"] == "x" else value / row["good"]

    for place, row in enumerate(rows.values()):
        axes.barh(place, of_good(row, row["ratio"]), color="tab:blue", alpha=0.7)
        for mark, colour in (("excellent", "tab:green"), ("impossible", "tab:purple")):
            if row[mark] is not None:
                axes.plot([of_good(row, row[mark])] * 2, [place - 0.4, place + 0.4], color=colour, linewidth=2)
    axes.axvline(1, color="tab:red", linewidth=1)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel("price, as a part of what is good (red); green: excellent, purple: sounds impossible")
    return plot


def main() -> int:
    """Write page and pictures."""
    with mpl.rc_context({"svg.hashsalt": "ipvs_model", "svg.fonttype": "none", "font.size": 9}):
        for name in CURVES:
            curves(name).savefig(PICTURES / name, metadata={"Date": None})
        marks().savefig(PICTURES / "performance-goals.svg", metadata={"Date": None})
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
