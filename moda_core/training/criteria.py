"""What a run descends on: the cross-entropy alone, or with terms beside it."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from moda_core.errors import Untraceable
from moda_core.specs import TrainingSpec
from moda_core.structure.activations import with_activations
from moda_core.structure.unitgraph import UnitGraph
from moda_core.training.distributed import ALONE, Ranks
from moda_core.training.objectives import modular_losses

__all__ = ["Criterion", "Evaluated", "Modular", "Standard", "criterion_of", "cross_entropy"]


class Evaluated(NamedTuple):
    """What a criterion finds of a batch; all but the logits is of the joint batch of all ranks.

    Attributes:
        loss: cross-entropy and the weighted terms.
        terms: without their weights.
    """

    logits: Float[Tensor, "batch classes"]
    loss: Float[Tensor, ""]
    cross_entropy: Float[Tensor, ""]
    terms: Float[Tensor, "terms"]


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
        """The batch under the network as it is now.

        It is called under the run's autocast, leaves the network in the mode it is in, and reads
        nothing back from the device.
        """


class Standard:
    """Cross-entropy of a network's logits, over the joint batch of all `ranks`."""

    terms: tuple[str, ...] = ()

    def __init__(self, network: nn.Module, *, ranks: Ranks = ALONE) -> None:
        self.network, self.ranks = network, ranks

    def __call__(
        self, pixels: Float[Tensor, "batch channels height width"], labels: Int64[Tensor, "batch"]
    ) -> Evaluated:
        """Logits, cross-entropy, and no term."""
        logits = self.network(pixels)
        loss = cross_entropy(logits, labels, self.ranks)
        return Evaluated(logits, loss, loss, loss.detach().new_empty(0))


class Modular:
    """Eq. 7: cross-entropy, affinity, dispersion and compactness over the layers of a unit graph.

    Args:
        network: its parameters are the ones that are trained, in train mode from here on.
        graph: which of its outputs are regulated.
        alpha, beta, gamma, weighting, compactness: as in `TrainingSpec`.
        ranks: the processes that a batch is shared among; every one has the loss of the joint batch.
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
        ranks: Ranks = ALONE,
    ) -> None:
        self.network = with_activations(graph, network)
        self.weights = (alpha, beta, gamma)
        self.weighting, self.compactness, self.ranks = weighting, compactness, ranks

    def __call__(
        self, pixels: Float[Tensor, "batch channels height width"], labels: Int64[Tensor, "batch"]
    ) -> Evaluated:
        """Logits, eq. 7, and its three terms."""
        logits, activations = self.network(pixels)
        losses = modular_losses(
            activations,
            labels,
            logits.shape[1],
            weighting=self.weighting,
            compactness=self.compactness,
            reduce=self.ranks.reduced,
        )
        terms = torch.stack((losses.affinity, losses.dispersion, losses.compactness))
        fit = cross_entropy(logits, labels, self.ranks)
        return Evaluated(logits, fit + losses.weighted(*self.weights), fit, terms)


def cross_entropy(
    logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, "batch"], ranks: Ranks = ALONE
) -> Float[Tensor, ""]:
    """The mean over the joint batch of all ranks, whose shares may differ in size, in float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if ranks.world == 1:  # not for its cost: a sum that is divided rounds in other ways than a mean
        return nn.functional.cross_entropy(logits, labels)
    summed = nn.functional.cross_entropy(logits, labels, reduction="sum")
    joint = ranks.total(torch.stack((summed, summed.new_full((), len(labels)))))
    return joint[0] / joint[1]


def criterion_of(spec: TrainingSpec, network: nn.Module, graph: UnitGraph | None, ranks: Ranks = ALONE) -> Criterion:
    """The criterion that a spec asks for, over the joint batch of all `ranks`.

    Raises:
        Untraceable: for the modular objective without a graph.
    """
    if spec.objective == "standard":
        return Standard(network, ranks=ranks)
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
        ranks=ranks,
    )
