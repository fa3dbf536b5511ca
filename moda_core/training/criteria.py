"""What a run descends on: the cross-entropy alone, or with terms beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from moda_core.errors import Untraceable
from moda_core.specs import TrainingSpec
from moda_core.structure.activations import with_activations
from moda_core.structure.unitgraph import UnitGraph
from moda_core.training.objectives import ClassSums, modular_losses

__all__ = ["Criterion", "Modular", "Standard", "criterion_of"]

Evaluated = tuple[Float[Tensor, "batch classes"], Float[Tensor, ""], Float[Tensor, "terms"]]


@runtime_checkable
class Criterion(Protocol):
    """The loss of a batch under the network that is trained.

    Attributes:
        terms: the names of what the loss adds to the cross-entropy, in order.
    """

    terms: tuple[str, ...]

    def __call__(
        self, pixels: Float[Tensor, "batch channels height width"], labels: Int64[Tensor, "batch"]
    ) -> Evaluated:
        """Logits, the loss (cross-entropy and the weighted terms), and the terms without their weights.

        It is called under the run's autocast, leaves the network in the mode it is in, and reads
        nothing back from the device.
        """


class Standard:
    """Cross-entropy of a network's logits."""

    terms: tuple[str, ...] = ()

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(
        self, pixels: Float[Tensor, "batch channels height width"], labels: Int64[Tensor, "batch"]
    ) -> Evaluated:
        """Logits, cross-entropy, and no term."""
        logits = self.network(pixels)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        return logits, loss, loss.detach().new_empty(0)


class Modular:
    """Eq. 7: cross-entropy, affinity, dispersion and compactness over the layers of a unit graph.

    Args:
        network: its parameters are the ones that are trained, in train mode from here on.
        graph: which of its outputs are regulated.
        alpha, beta, gamma, weighting, compactness: as in `TrainingSpec`.
        reduce: makes the sums of one process those of all of them; see `modular_losses`.
    """

    terms: tuple[str, ...] = ("affinity", "dispersion", "compactness")

    def __init__(
        self,
        network: nn.Module,
        graph: UnitGraph,
        *,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 0.3,
        weighting: Literal["class", "pair"] = "class",
        compactness: Literal["mean", "sum"] = "mean",
        reduce: Callable[[ClassSums], ClassSums] | None = None,
    ) -> None:
        self.network = with_activations(graph, network)
        self.weights = (alpha, beta, gamma)
        self.weighting, self.compactness, self.reduce = weighting, compactness, reduce

    def __call__(
        self, pixels: Float[Tensor, "batch channels height width"], labels: Int64[Tensor, "batch"]
    ) -> Evaluated:
        """Logits, eq. 7, and its three terms."""
        logits, activations = self.network(pixels)
        cross_entropy = nn.functional.cross_entropy(logits.float(), labels)
        losses = modular_losses(
            activations,
            labels,
            logits.shape[1],
            weighting=self.weighting,
            compactness=self.compactness,
            reduce=self.reduce,
        )
        terms = torch.stack((losses.affinity, losses.dispersion, losses.compactness))
        return logits, cross_entropy + losses.weighted(*self.weights), terms


def criterion_of(spec: TrainingSpec, network: nn.Module, graph: UnitGraph | None) -> Criterion:
    """The criterion that a spec asks for.

    Raises:
        Untraceable: for the modular objective without a graph.
    """
    if spec.objective == "standard":
        return Standard(network)
    if graph is None:
        raise Untraceable("this network has no unit graph", "train it with the standard objective")
    return Modular(
        network,
        graph,
        alpha=spec.alpha,
        beta=spec.beta,
        gamma=spec.gamma,
        weighting=spec.weighting,
        compactness=spec.compactness,
    )
