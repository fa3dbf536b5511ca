"""Decomposing a trained model of the disk: its activations are counted once and kept beside it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from experiments.models.moda import Run
from moda_core.data.dataset import Dataset, subset
from moda_core.files import write_atomically
from moda_core.modularity.counts import count_activations
from moda_core.modularity.models import ModularModel
from moda_core.modularity.modules import decomposed
from moda_core.storage.artifacts import decode, encode_counts

__all__ = ["THRESHOLD", "THRESHOLDS", "exact", "modular_model"]

THRESHOLD = Decimal("0.9")
"""The paper's τ."""

THRESHOLDS = tuple(map(Decimal, ("0.1", "0.5", "0.8", "0.9", "0.95")))
"""Those that figure 4 of the paper compares."""


def modular_model(run: Run, dataset: Dataset, threshold: Decimal = THRESHOLD, *, device: str = "cpu") -> ModularModel:
    """The modular model of a run at τ, counted over the images that it was trained on."""
    counts = run.place / "counts.safetensors"
    if not counts.exists():
        images = subset(dataset.train, run.spec.fraction, run.spec.seed)
        counted = count_activations(run.model, images, epsilon=run.spec.epsilon, device=device)
        write_atomically(counts, encode_counts(decomposed(run.model, counted, THRESHOLD)))
    model = decode(run.place / "model.safetensors", counts=counts)
    assert isinstance(model, ModularModel)
    return replace(model, threshold=threshold)


def exact(threshold: Decimal) -> str:
    """τ as it enters a name: ``0.9``."""
    return format(threshold.normalize(), "f")
