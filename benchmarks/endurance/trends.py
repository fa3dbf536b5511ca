"""Whether something grows: a slope, how sure of it we are, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Trend", "last_half", "trend"]

_MOST_ALIKE = 0.99
_FEWEST = 4


@dataclass(frozen=True)
class Trend:
    """A least-squares line's slope, in units of the values per step, with its standard error."""

    slope: float
    error: float

    @property
    def at_most(self) -> float:
        """Two standard errors above the slope: growth that the values do not rule out."""
        return self.slope + 2 * self.error

    def grows(self, tolerated: float) -> bool:
        """Whether the slope is above its own noise and above what is tolerated."""
        return self.slope > max(2 * self.error, tolerated)


def trend(steps: Sequence[float], values: Sequence[float]) -> Trend:
    """The trend of values over steps.

    Memory at one moment resembles memory a moment before, so the n residuals say less than n independent
    ones would. The error is that of independent ones times sqrt((1 + r) / (1 - r)), with r the correlation of
    each residual with the next, where that is positive.

    Raises:
        ValueError: for fewer than four values, or steps that are all the same.
    """
    if len(values) < _FEWEST or min(steps) == max(steps):
        raise ValueError(f"a trend needs {_FEWEST} values at different steps, not {len(values)}")
    at, found = np.asarray(steps, dtype=float) - np.mean(steps), np.asarray(values, dtype=float)
    spread = float(at @ at)
    slope = float(at @ found) / spread
    residuals = found - found.mean() - slope * at
    independent = float(np.sqrt(residuals @ residuals / (len(found) - 2) / spread))
    alike = _likeness(residuals)
    return Trend(slope, independent * float(np.sqrt((1 + alike) / (1 - alike))))


def last_half(steps: Sequence[float], values: Sequence[float]) -> Trend:
    """The trend after the first half of the steps, which are ascending: what came before is warm-up."""
    middle = (steps[0] + steps[-1]) / 2
    kept = [(step, value) for step, value in zip(steps, values, strict=True) if step >= middle]
    return trend([step for step, _ in kept], [value for _, value in kept])


def _likeness(residuals: NDArray[np.float64]) -> float:
    """Correlation of each residual with the next, from 0 to nearly 1."""
    total = float(residuals @ residuals)
    alike = float(residuals[:-1] @ residuals[1:]) / total if total else 0.0
    return min(max(alike, 0.0), _MOST_ALIKE)
