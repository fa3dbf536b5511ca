"""The models of MODA as values: trained, modular (whole or composed), patched.

A network's weights are a flat mapping from its ``state_dict`` names to tensors. Unit and class
indices are always those of the *root*: the trained model that a composed one was first cut from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from jaxtyping import Float, Int32, Int64
from torch import Tensor

from moda_core.specs import ArchitectureSpec, InputSpec

__all__ = [
    "ActivationCounts",
    "HeldIndices",
    "Kind",
    "Model",
    "ModularModel",
    "PatchedModel",
    "TrainedModel",
    "kind_of",
]

HeldIndices = tuple[Int64[Tensor, "_"] | None, ...]


@dataclass(frozen=True)
class TrainedModel:
    """An architecture with its weights, whichever objective trained them.

    Attributes:
        labels: one per logit, in the order of the logits.
    """

    architecture: ArchitectureSpec
    labels: tuple[str, ...]
    input: InputSpec
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class ActivationCounts:
    """How often each unit was active for the samples of each class (eq. 9), by layer.

    Attributes:
        counts: per layer, int32 [classes, held units].
        units: per layer, the root's indices of the held units, ascending; all of them in a root.
        samples: samples counted, one number per class.
        epsilon: a unit counted as active where |y| > epsilon at any position.
    """

    counts: Mapping[str, Int32[Tensor, "classes units"]]
    units: Mapping[str, Int64[Tensor, "units"]]
    samples: tuple[int, ...]
    epsilon: float = 0.0


@dataclass(frozen=True)
class ModularModel:
    """Weights and activation counts of classes: what modules are cut from.

    A composed model is one whose `weights` are only a part of the root's: `held` says which.

    Attributes:
        architecture: of the root, whose class count it states.
        labels: of this model's classes, in the root's order.
        rows: the root's indices of these classes, ascending.
        held: per cut weight, for each leading axis the root's indices along it, ascending
            (None: all). A weight that is not named here is whole.
        threshold: τ at which this model was cut, and the least at which it can be composed.
    """

    architecture: ArchitectureSpec
    labels: tuple[str, ...]
    rows: tuple[int, ...]
    input: InputSpec
    weights: Mapping[str, Tensor]
    counts: ActivationCounts
    threshold: Decimal
    held: Mapping[str, HeldIndices] = field(default_factory=dict)
    composed: bool = False


@dataclass(frozen=True)
class PatchedModel:
    """A weak model, a one-class module of a strong one, and the layer that aligns them (section 3.3).

    Attributes:
        label: the class of `weak` whose logit is the module's.
        weight, bias: of the adaptation layer, for the weak model's k classes.
    """

    weak: Model
    strong: ModularModel
    label: str
    weight: Float[Tensor, "classes classes"]
    bias: Float[Tensor, "classes"]

    @property
    def labels(self) -> tuple[str, ...]:
        """The weak model's labels, in its order."""
        return self.weak.labels


Model = TrainedModel | ModularModel | PatchedModel
Kind = Literal["trained", "modular", "composed", "patched"]


def kind_of(model: Model) -> Kind:
    """The artifact kind under which a model is stored."""
    if isinstance(model, TrainedModel):
        return "trained"
    if isinstance(model, PatchedModel):
        return "patched"
    return "composed" if model.composed else "modular"
