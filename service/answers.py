"""What is answered about a composition and to a prediction, over HTTP and by `--local` alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moda_core.modularity.measures import CompositionSize
from moda_core.storage.manifests import canonical_threshold
from service.inference.servables import Servable
from service.schemas import Composition, Prediction, PredictionList

__all__ = ["composition_answer", "prediction_answer"]


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


def prediction_answer(
    meant: Servable, labels: Sequence[str], probabilities: Sequence[Sequence[float]]
) -> PredictionList:
    """One prediction per image, in the order of the caller's classes; `labels` name the columns."""
    columns = meant.columns(labels)
    return PredictionList(
        model=meant.model,
        composition=meant.recipe.id if meant.recipe else None,
        classes=list(meant.classes),
        predictions=[_prediction(_ordered(row, columns), meant.classes) for row in probabilities],
    )


def _ordered(row: Sequence[float], columns: Sequence[int] | None) -> list[float]:
    return list(row) if columns is None else [row[column] for column in columns]


def _prediction(row: list[float], classes: Sequence[str]) -> Prediction:
    best = max(range(len(row)), key=row.__getitem__)
    return Prediction(label=classes[best], probability=row[best], probabilities=row)
