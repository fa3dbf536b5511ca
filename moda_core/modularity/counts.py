"""Activation counts: how often each unit is active for the samples of each class (eq. 9)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from moda_core.data.batches import evaluation_batches
from moda_core.data.dataset import Images
from moda_core.errors import Cancelled, InvalidInput
from moda_core.modularity.models import ActivationCounts, TrainedModel
from moda_core.modularity.networks import full_network
from moda_core.structure.activations import with_activity
from moda_core.structure.unitgraph import UnitGraph, unit_graph
from moda_core.training.distributed import ALONE, Ranks
from moda_core.training.surroundings import full_float32, never

__all__ = ["check_epsilon", "count_activations"]


def count_activations(
    model: TrainedModel,
    images: Images,
    *,
    epsilon: float = 0.0,
    device: torch.device | str = "cpu",
    batch_size: int = 512,
    ranks: Ranks = ALONE,
    cancelled: Callable[[], bool] = never,
) -> ActivationCounts:
    """Count over training images without augmentation, in eval mode and float32.

    Of several `ranks`, each counts its share of the images, and all have the sum.

    Raises:
        InvalidInput: if a layer's activation never reaches zero and `epsilon` is 0.
        Cancelled: between batches, when `cancelled` says so.
    """
    graph = unit_graph(model.architecture)
    check_epsilon(graph, epsilon)
    classes = len(model.labels)
    network = with_activity(graph, full_network(model.architecture, model.weights, device), epsilon)
    totals = {layer.name: torch.zeros(classes, layer.units, dtype=torch.int32, device=device) for layer in graph.layers}
    mine, stopped = ranks.share(len(images)), False
    share = Images(images.pixels[mine], images.labels[mine])
    for pixels, labels in evaluation_batches(share, model.input, batch_size=batch_size, device=device):
        if stopped := cancelled():
            break
        with torch.inference_mode(), full_float32():
            _, active = network(pixels)
        for layer, units in active.items():
            _add_by_class(totals[layer], units, labels)
    if ranks.agreed(stopped):
        raise Cancelled("counting activations")
    return ActivationCounts(
        counts=ranks.summed({layer: total.cpu() for layer, total in totals.items()}),
        units={layer.name: torch.arange(layer.units) for layer in graph.layers},
        samples=tuple(torch.bincount(images.labels, minlength=classes).tolist()),
        epsilon=epsilon,
    )


def _add_by_class(
    total: Int32[Tensor, "classes units"], active: Bool[Tensor, "batch units"], labels: Int64[Tensor, "batch"]
) -> None:
    total.index_add_(0, labels, active.to(torch.int32))


def check_epsilon(graph: UnitGraph, epsilon: float) -> None:
    """Whether inactivity can be told from activity in every layer.

    Raises:
        InvalidInput: if an activation never reaches zero and `epsilon` is 0.
    """
    never_zero = [layer.name for layer in graph.layers if not layer.reaches_zero]
    if never_zero and epsilon <= 0:
        raise InvalidInput(
            "epsilon",
            epsilon,
            f"the activations {', '.join(never_zero[:3])} never reach zero",
            "give an epsilon above 0 below which a unit counts as inactive",
        )
