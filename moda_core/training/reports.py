"""What training tells whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["EpochReport"]


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """One epoch of training, averaged over its samples as they were trained on.

    Attributes:
        epoch: from 1, of `epochs`.
        loss: eq. 7, the sum that was minimised; equal to `cross_entropy` for the standard objective.
        accuracy: on the augmented training images, in training mode, from 0 to 1.
        remaining_s: the epochs left at the mean speed of this process.
    """

    epoch: int
    epochs: int
    loss: float
    cross_entropy: float
    affinity: float
    dispersion: float
    compactness: float
    accuracy: float
    learning_rate: float
    samples_per_s: float
    seconds: float
    remaining_s: float

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EpochReport:
        """The report that `to_json` wrote."""
        return cls(**data)
