"""What is answered about a composition and to a prediction, over HTTP and by `--local` alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moda_core.errors import Conflict
from moda_core.modularity.measures import CompositionSize
from moda_core.storage.manifests import canonical_threshold
from service.inference.servables import Servable
from service.schemas import Composition

__all__ = ["composition_answer", "prediction_members"]


def composition_answer(
    meant: Servable, size: CompositionSize, *, links: Mapping[str, str], compose_ms: float | None = None
) -> Composition:
    """A composition with what it keeps of its original, its classes in the caller's order."""
    assert meant.recipe is not None
    return Composition(
        id=meant.recipe.id,
        model=meant.model,
        classes=list(meant.classes),
        threshold=canonical_threshold(meant.recipe.threshold),
        kept_parameters=size.kept_parameters,
        original_parameters=size.original_parameters,
        kept_flops=size.kept_flops,
        original_flops=size.original_flops,
        overlap=size.overlap,
        compose_ms=compose_ms,
        links=dict(links),
    )


def prediction_members(
    meant: Servable, labels: Sequence[str], probabilities: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """The members of a `PredictionList`: one prediction per image, in the order of the caller's classes.

    Args:
        meant: what was asked.
        labels: name the columns of `probabilities`.
        probabilities: one row per image.

    Raises:
        Conflict: where they are not numbers: finite weights can be so large that what they compute is not.
    """
    columns = meant.columns(labels)
    return {
        "model": meant.model,
        "composition": meant.recipe.id if meant.recipe else None,
        "classes": meant.classes,
        "predictions": [_prediction(_ordered(row, columns), meant.classes) for row in probabilities],
    }


def _ordered(row: Sequence[float], columns: Sequence[int] | None) -> Sequence[float]:
    return row if columns is None else [row[column] for column in columns]


def _prediction(row: Sequence[float], classes: Sequence[str]) -> dict[str, Any]:
    probability = max(row)
    if not probability <= 1:
        problem = "the model's values grow beyond what float32 holds, so that its probabilities are not numbers"
        raise Conflict(problem, "train it again, with a lower learning rate, and publish that version")
    return {"label": classes[row.index(probability)], "probability": probability, "probabilities": row}
