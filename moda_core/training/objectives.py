"""The three objectives of modular training (section 3.1 of the MODA paper), exact in linear time.

The paper's sums over pairs of samples come out of sums over classes. With ŷ_p the activation vector
of sample p at length 1, n_c the samples of class c in the batch, and S_c the sum of ŷ_p over them,

    Σ_{p≠q} cos(y_p, y_q) = |S_c|² - Σ_p |ŷ_p|²             over the samples of one class c
    Σ_{c≠c'} μ_c · μ_c'   = |Σ_c μ_c|² - Σ_c |μ_c|²          over the classes, with μ_c = S_c / n_c

so no batch x batch matrix is formed: the cost is O((batch + classes) x units).

Where the paper is silent: averages run over the classes (pairs) that are present in the batch; a
term that has none is 0 with gradient 0; a zero vector is similar to nothing, itself included; and
each term is averaged over the layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "ClassSums",
    "ModularLosses",
    "affinity_loss",
    "class_sums",
    "compactness_loss",
    "dispersion_loss",
    "modular_losses",
]

Weighting = Literal["class", "pair"]
_ZERO_LENGTH = 1e-8


@dataclass(frozen=True)
class ClassSums:
    """All that the objectives need to know of a batch: sums over the samples of each class.

    They add up: the sums of two batches are the sums of their union.

    Attributes:
        samples: n_c, the number of samples per class.
        directions: S_c, the sum of the activation vectors, each at length 1 (or 0).
        squares: Σ|ŷ_p|², which is the number of activation vectors that are not zero.
        norms: the sum of the activation vectors' l1 norms.
    """

    samples: Float[Tensor, "classes"]
    directions: Float[Tensor, "layers classes units"]
    squares: Float[Tensor, "layers classes"]
    norms: Float[Tensor, "layers classes"]


@dataclass(frozen=True)
class ModularLosses:
    """The three modular losses of one batch, each a scalar averaged over layers."""

    affinity: Float[Tensor, ""]
    dispersion: Float[Tensor, ""]
    compactness: Float[Tensor, ""]

    def weighted(self, alpha: float, beta: float, gamma: float) -> Float[Tensor, ""]:
        """What eq. 7 adds to the cross-entropy: each loss times its weight, summed."""
        return alpha * self.affinity + beta * self.dispersion + gamma * self.compactness


def modular_losses(
    activations: Mapping[str, Float[Tensor, "batch _"]],
    labels: Int[Tensor, "batch"],
    classes: int,
    *,
    weighting: Weighting = "class",
    compactness: Literal["mean", "sum"] = "mean",
    reduce: Callable[[Sequence[ClassSums]], Sequence[ClassSums]] | None = None,
) -> ModularLosses:
    """Affinity (eq. 5), dispersion (eq. 3) and compactness (eq. 6) of a batch, averaged over layers.

    They are computed in float32 at least, outside autocast. Layers of equal width go together.

    Args:
        activations: each layer's activation vectors (eq. 1 and 8), by layer name.
        labels: class indices.
        classes: how many there are; labels lie in [0, classes).
        weighting: ``class`` averages over classes and their pairs, as the equations do; ``pair``
            gives every pair of samples (for compactness: every sample) the same weight.
        compactness: ``mean`` over a layer's units, or the ``sum`` that eq. 6 prints, with which the
            widest layers drown everything else.
        reduce: given the sums of this part of a batch, one `ClassSums` for every width of layers,
            returns those of the whole batch; None where the part is the whole.
    """
    with torch.autocast(labels.device.type, enabled=False):
        per_layer = [torch.zeros(3, 0, device=labels.device)]
        groups: Sequence[ClassSums] = [class_sums(layers, labels, classes) for layers in _by_width(activations)]
        for sums in groups if reduce is None else reduce(groups):
            scale = sums.directions.shape[-1] if compactness == "mean" else 1
            compact = compactness_loss(sums, weighting) / scale
            losses = (affinity_loss(sums, weighting), dispersion_loss(sums, weighting), compact)
            per_layer.append(torch.stack(losses))
        return ModularLosses(*torch.cat(per_layer, dim=1).sum(dim=1).div(max(len(activations), 1)))


def dispersion_loss(sums: ClassSums, weighting: Weighting = "class") -> Float[Tensor, "layers"]:
    """Inter-class dispersion loss (eq. 3): the mean cosine similarity of samples of different classes."""
    if weighting == "pair":
        vectors, weights = sums.directions, sums.samples
    else:
        vectors = sums.directions / sums.samples.clamp(min=1)[:, None]
        weights = (sums.samples > 0).to(sums.samples.dtype)
    pairs = weights.sum().square() - weights.square().sum()
    similarity = vectors.sum(dim=1).square().sum(dim=-1) - vectors.square().sum(dim=(1, 2))
    return (similarity / pairs.clamp(min=1)).where(pairs > 0, 0)


def affinity_loss(sums: ClassSums, weighting: Weighting = "class") -> Float[Tensor, "layers"]:
    """Intra-class affinity loss (eq. 5): one minus the mean cosine similarity of samples of a class."""
    pairs = sums.samples * (sums.samples - 1)
    similarity = (sums.directions.square().sum(dim=-1) - sums.squares).where(pairs > 0, 0)
    if weighting == "pair":
        affinity = similarity.sum(dim=1) / pairs.sum().clamp(min=1)
    else:
        affinity = _mean_over(pairs > 0, similarity / pairs.clamp(min=1))
    return (1 - affinity).where((pairs > 0).any(), 0)


def compactness_loss(sums: ClassSums, weighting: Weighting = "class") -> Float[Tensor, "layers"]:
    """Compactness loss as printed (eq. 6): the mean l1 norm of the activation vectors."""
    if weighting == "pair":
        return sums.norms.sum(dim=1) / sums.samples.sum().clamp(min=1)
    return _mean_over(sums.samples > 0, sums.norms / sums.samples.clamp(min=1))


def class_sums(
    activations: Float[Tensor, "layers batch units"], labels: Int[Tensor, "batch"], classes: int
) -> ClassSums:
    """Sum the activation vectors of a batch by class, for layers of equal width."""
    lengths = torch.linalg.vector_norm(activations, dim=-1, keepdim=True)
    zero = lengths < _ZERO_LENGTH
    directions = activations / lengths.masked_fill(zero, torch.inf)
    counts = torch.cat([activations.abs().sum(dim=-1, keepdim=True), (~zero).to(activations)], dim=-1)
    norms, squares = _sum_by_class(counts, labels, classes).unbind(dim=-1)
    return ClassSums(
        samples=activations.new_zeros(classes).index_add(0, labels, activations.new_ones(len(labels))),
        directions=_sum_by_class(directions, labels, classes),
        squares=squares,
        norms=norms,
    )


def _by_width(activations: Mapping[str, Float[Tensor, "batch _"]]) -> list[Float[Tensor, "layers batch _"]]:
    """The layers in stacks of equal width, so that a deep network costs few kernel launches."""
    widths: dict[int, list[Tensor]] = defaultdict(list)
    for layer in activations.values():
        widths[layer.shape[1]].append(layer.to(torch.promote_types(layer.dtype, torch.float32)))
    return [torch.stack(layers) for layers in widths.values()]


def _sum_by_class(
    values: Float[Tensor, "layers batch columns"], labels: Int[Tensor, "batch"], classes: int
) -> Float[Tensor, "layers classes columns"]:
    zeros = values.new_zeros(values.shape[0], classes, values.shape[2])
    return zeros.index_add(1, labels, values)


def _mean_over(present: Tensor, values: Float[Tensor, "layers classes"]) -> Float[Tensor, "layers"]:
    """The mean over the classes that are present; 0 where none is."""
    return values.where(present, 0).sum(dim=1) / present.sum().clamp(min=1)
