"""Measure a stored model, or a composition of it, on a data set's test images."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from moda_core.modularity.composition import check_composable, compose
from moda_core.storage.registry import Registry
from moda_core.storage.workflows.control import Control
from moda_core.storage.workflows.testing import tested

__all__ = ["evaluate"]


def evaluate(
    registry: Registry,
    digest: str,
    labels: Sequence[str] | None,
    dataset: str,
    *,
    threshold: Decimal | None = None,
    device: str,
    control: Control,
) -> dict[str, Any]:
    """Accuracy over the test images of the model's classes, or of a composition's.

    Args:
        registry: where model and data set lie.
        digest: of the model.
        labels: compose the model for these classes first; None for the model as it is.
        dataset: a reference.
        threshold: τ of the composition.
        device: ``cpu`` or a CUDA device.
        control: may stop it between batches.

    Raises:
        Conflict, NotFound: as `compose`.
        InvalidInput: if the data set has none of the classes.
    """
    model = registry.model(digest)
    if labels is not None or threshold is not None:
        modular = check_composable(model)
        model = compose(modular, modular.labels if labels is None else labels, threshold)
    return {"classes": list(model.labels), **tested(model, registry.dataset(dataset), device, control.cancelled)}
