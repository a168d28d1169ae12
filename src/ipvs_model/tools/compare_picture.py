"""A comparison of schedulers as a picture: for each service shares, imbalance over time, peaks, and who moves."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipvs_model.tools.comparison import Comparison, ServiceComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = ("#1f6fb2", "#d9822b", "#3c8d5a", "#a83e6c", "#6b5bb5", "#8a6d3b", "#2b9aa0", "#7f7f7f", "#b8b12f", "#d0605e")
FORMATS: Final = (".svg", ".png", ".pdf")
#: metadata that would differ from run to run, or from one version of matplotlib to the next
METADATA: Final = {
    ".svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    ".png": {"Software": None},
    ".pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
}


def draw(comparison: Comparison, path: Path) -> None:
    """Write the picture; its format is that of the suffix, one of `FORMATS`. The same comparison gives the same bytes. Needs matplotlib (extra: cli)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    lines = max(len(service.outcomes) for service in comparison.services)
    height = 3.4 + 0.22 * lines
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ipvs_model", "font.size": 9}):
        figure = Figure(figsize=(13, 2 * height * len(comparison.services)), layout="constrained")
        for service, part in zip(comparison.services, figure.subfigures(len(comparison.services), 1, squeeze=False).flat, strict=True):
            part.suptitle(f"{service.service}: {comparison.workload}", fontsize=10)
            share, over_time, peaks, moved = part.subplots(2, 2).flat
            _shares(share, service)
            _imbalance(over_time, service, comparison.step)
            _peaks(peaks, service)
            _moved(moved, service)
        figure.savefig(path, format=path.suffix[1:], metadata=METADATA[path.suffix])


def _colours(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def _rows(axes: "Axes", service: ServiceComparison) -> Sequence[int]:
    """One row a scheduler, the first on top."""
    rows = range(len(service.outcomes))
    axes.set_yticks(list(rows), [outcome.scheduler for outcome in service.outcomes])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    return rows


def _shares(axes: "Axes", service: ServiceComparison) -> None:
    rows = _rows(axes, service)
    left = [0.0] * len(rows)
    fair = 0.0
    for number, (server, colour) in enumerate(zip(service.servers, _colours(len(service.servers)), strict=True)):
        widths = [outcome.share[number] * 100 for outcome in service.outcomes]
        axes.barh(rows, widths, left=left, color=colour, height=0.6, label=f"{server} (weight {service.weights[number]})")
        left = [start + width for start, width in zip(left, widths, strict=True)]
        fair += service.fair[number] * 100
        if number < len(service.servers) - 1:
            axes.axvline(fair, color="#1b1f24", linewidth=1, linestyle="--")
    axes.set_xlim(0, 100)
    axes.set(title="share of the connections; dashed: by weight", xlabel="%")
    if len(service.servers) <= len(COLOURS):
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)


def _imbalance(axes: "Axes", service: ServiceComparison, step: float) -> None:
    for outcome, colour in zip(service.outcomes, _colours(len(service.outcomes)), strict=True):
        seconds = [number * step for number in range(len(outcome.imbalance))]
        values = [float("nan") if value is None else value for value in outcome.imbalance]
        axes.plot(seconds, values, color=colour, linewidth=1.2, label=outcome.scheduler)
    axes.axhline(1, color="#1b1f24", linewidth=0.8)
    axes.set(title=f"imbalance ({service.counted} connections of the fullest server for its weight; 1 is even)", xlabel="seconds")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, frameon=False, ncols=2)


def _peaks(axes: "Axes", service: ServiceComparison) -> None:
    _rows(axes, service)
    for row, outcome in enumerate(service.outcomes):
        peaks = outcome.peak_active if service.counted == "active" else outcome.peak_held
        axes.scatter(peaks, [row] * len(peaks), color=_colours(len(peaks)), s=28, zorder=3)
    axes.set_xlim(left=0)
    axes.set(title=f"most {service.counted} connections of each server", xlabel="connections")


def _moved(axes: "Axes", service: ServiceComparison) -> None:
    rows = _rows(axes, service)
    leaving = [outcome.leaving for outcome in service.outcomes]
    axes.barh(rows, [100 * one.moved / one.others if one is not None and one.others else 0.0 for one in leaving], color="#d0605e", height=0.6)
    for row, one in enumerate(leaving):
        if one is not None:
            axes.text(1, row, f"{one.moved} of {one.others}", va="center", fontsize=7)
    axes.set_xlim(0, 100)
    first = next((one for one in leaving if one is not None), None)
    what = f"{first.server} leaves after {first.at:g} s: connections of the others that move" if first is not None else "a single server: none can leave"
    axes.set(title=what, xlabel="%")
