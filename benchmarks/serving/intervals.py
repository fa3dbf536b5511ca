"""Medians over rounds with their intervals, and when a difference is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Interval", "interval", "paired_ratio"]

_RESAMPLES = 10_000
_FEWEST = 3


@dataclass(frozen=True)
class Interval:
    """A median over rounds, and the middle 95 % of the medians of bootstrapped rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def enough(self) -> bool:
        """Whether there are rounds enough to say anything."""
        return self.rounds >= _FEWEST

    @property
    def differs_from_one(self) -> bool:
        """Whether a ratio is a difference: from three rounds on, and with 1 outside the interval."""
        return self.enough and not self.low <= 1.0 <= self.high

    def against(self, goal: float, *, at_most: bool = False) -> str:
        """``met`` or ``not met`` when the whole interval says so, else what the median says, and that it is not sure."""
        low, middle, high = (
            value <= goal if at_most else value >= goal for value in (self.low, self.median, self.high)
        )
        verdict = "met" if middle else "not met"
        if not self.enough:
            return f"too few rounds ({verdict} by the median)"
        return verdict if low == high else f"within noise ({verdict} by the median)"

    def text(self, form: str = ".2f") -> str:
        """Median and interval, as tables show them."""
        return f"{self.median:{form}} [{self.low:{form}}, {self.high:{form}}]"


def interval(values: Sequence[float]) -> Interval:
    """The interval of some rounds' values; the same values give the same interval."""
    found = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(0).integers(0, len(found), (_RESAMPLES, len(found)))
    low, high = np.quantile(np.median(found[drawn], axis=1), [0.025, 0.975])
    return Interval(float(np.median(found)), float(low), float(high), len(found))


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """The interval of ours / theirs, round by round: what slowed both down in a round cancels out.

    Raises:
        ValueError: if the rounds are not the same.
    """
    if any(value <= 0 for value in theirs):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    return interval([own / other for own, other in zip(ours, theirs, strict=True)])
