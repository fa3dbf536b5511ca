"""Sliced against masked on a trained modular model, over all its test images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from benchmarks.proof import error
from moda_core.data.batches import evaluation_batches
from moda_core.data.dataset import Images
from moda_core.data.sources import load
from moda_core.modularity.composition import check_composable, compose, composition_masks
from moda_core.modularity.models import ModularModel
from moda_core.modularity.networks import full_network, network
from moda_core.storage.artifacts import decode
from moda_core.structure.masking import MaskedModel
from moda_core.structure.unitgraph import unit_graph

__all__ = ["compare_trained"]


def compare_trained(model: Path, source: str, limit: int | None = None) -> list[dict[str, Any]]:
    """One line per set of classes: errors, and on how many images the answers differ.

    Args:
        model: an artifact file of a modular model.
        source: of the data set whose test images are asked.
        limit: the first so many of them; None takes all.
    """
    modular = check_composable(decode(model))
    test = load(source).test
    images = Images(test.pixels[:limit], test.labels[:limit])
    return [_line(modular, classes, images) for classes in _class_sets(modular.labels)]


def _class_sets(labels: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """All classes, and from every second one on 5, 3, 2 and 1 of them."""
    yield labels
    for count in (5, 3, 2, 1):
        for first in range(0, len(labels), max(2, len(labels) // 3)):
            if count < len(labels):
                yield tuple(labels[(first + place) % len(labels)] for place in range(count))


def _line(modular: ModularModel, labels: tuple[str, ...], images: Images) -> dict[str, Any]:
    began = perf_counter()
    composed = compose(modular, labels)
    sliced = network(composed).get_submodule("body")
    milliseconds = 1e3 * (perf_counter() - began)
    graph = unit_graph(modular.architecture)
    full = full_network(modular.architecture, modular.weights)
    masked = MaskedModel(graph, full, composition_masks(modular, labels), composed.rows).eval()
    small, reference = _logits(sliced, modular, images), _logits(masked, modular, images)
    differing = int((small.argmax(1) != reference.argmax(1)).sum())
    kept = sum(parameter.numel() for parameter in sliced.parameters()) / graph.parameters
    few = Images(images.pixels[:256], images.labels[:256])
    exact = error(
        _logits(sliced.double(), modular, few, torch.float64), _logits(masked.double(), modular, few, torch.float64)
    )
    return {
        "classes": ", ".join(composed.labels),
        "elements kept": f"{kept:.1%}",
        "images": len(images.labels),
        "answers that differ": differing,
        "float32 error": error(small, reference.double()),
        "float64 error (256 images)": exact,
        "compose ms": milliseconds,
        "holds": "yes" if differing == 0 and exact <= 1e-9 else "NO",
    }


def _logits(
    asked: torch.nn.Module, modular: ModularModel, images: Images, dtype: torch.dtype = torch.float32
) -> Tensor:
    with torch.inference_mode():
        batches = evaluation_batches(images, modular.input, batch_size=250, device="cpu")
        return torch.cat([asked(pixels.to(dtype)) for pixels, _ in batches])
