"""What each row is to reach, in the order of the printed table. Ratios to a floor are better when small, ratios to a peer when great."""

from __future__ import annotations

from typing import Final

from attrs import frozen


@frozen
class Goal:
    """Three marks of one row, in its unit; None: there is no such mark."""

    unit: str  #: "F": floors; "floors": composite floors; "B": bytes; "x": times faster than the peer
    good: float
    excellent: float | None = None
    impossible: float | None = None
    required: bool = True  #: a row worse than good is a defect

    @property
    def more_is_better(self) -> bool:
        """A peer is left behind: the ratio is peer to model."""
        return self.unit == "x"

    def reached(self, ratio: float) -> str:
        """The best mark that a ratio reaches: "impossible", "excellent", "good", or "" for none."""
        for name in ("impossible", "excellent", "good"):
            mark = getattr(self, name)
            if mark is not None and (ratio >= mark if self.more_is_better else ratio <= mark):
                return name
        return ""


GOALS: Final = {
    #           unit     good  excellent  impossible
    "E1": Goal("F", 6, 3.5, 2.5),
    "E2": Goal("F", 12, 7.5, 5.5),
    "E3": Goal("F", 11, 6.5, 4.5),
    "E4": Goal("F", 10, 6, 4),
    "E5": Goal("F", 2.5, 1.7, 1.35),
    "E6": Goal("F", 2.5, 1.7, 1.4),
    "R1": Goal("F", 12),
    "C1": Goal("floors", 4, 2.5, 1.9),
    "C2": Goal("floors", 6, 3.3, 2.2),
    "M1": Goal("B", 450, 300, 220),
    "T1": Goal("floors", 6, 3.5, 2.2),
    "T2": Goal("floors", 4, 2, 1.3),
    "T3": Goal("F", 4, 2, 1.1),
    "T3I": Goal("F", 4, 2, 1.1),
    "S1": Goal("x", 5, 10, 15),
    "S2": Goal("x", 1.5, 2.5, 4),
    "S3": Goal("x", 25, 50, 100),
    "S3B": Goal("x", 80, 200, 300),
    "P1": Goal("x", 5, 12, 20),
    "P1S": Goal("x", 80, 150, 300),
    "P2": Goal("x", 3, 5, 10),
    "P2S": Goal("x", 30, 55, 150),
    "N1": Goal("x", 8, 18, 25, required=False),
    "D1": Goal("E1", 10),
}
