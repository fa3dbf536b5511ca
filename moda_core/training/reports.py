"""What training tells whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from moda_core.errors import InvalidInput

__all__ = ["EpochReport"]


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """One epoch of training, averaged over its samples as they were trained on.

    Attributes:
        epoch: from 1, of `epochs`.
        loss: the sum that was minimised; equal to `cross_entropy` for the standard objective.
        terms: what the loss adds to the cross-entropy, by name, without their weights: affinity,
            dispersion and compactness (eq. 7) for the modular objective.
        accuracy: on the augmented training images, in training mode, from 0 to 1.
        seconds: of the epoch's steps; saving it, and telling of it, is not among them.
        remaining_s: the epochs left at the mean speed of this process, saving not counted.
    """

    epoch: int
    epochs: int
    loss: float
    cross_entropy: float
    terms: Mapping[str, float]
    accuracy: float
    learning_rate: float
    samples_per_s: float
    seconds: float
    remaining_s: float

    def __post_init__(self) -> None:
        for name in self.terms:
            if name in {field.name for field in fields(self)}:
                raise InvalidInput("terms", name, "a field of every report has that name", "give the term another")

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON data, the terms among the other fields."""
        values = asdict(self)
        values.update(values.pop("terms"))
        return values

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EpochReport:
        """The report that `to_json` wrote; what is no other field is a term."""
        known = {field.name for field in fields(cls)} - {"terms"}
        terms = {name: value for name, value in data.items() if name not in known}
        return cls(**{name: data[name] for name in known if name in data}, terms=terms)
