"""Modularizing while training (MwT): cross-entropy, and masks that agree within classes and differ between them.

With S_l the cosine similarities of the masks of layer l over the pairs of a batch, each pair once and
an all-zero mask similar to nothing,

    cohesion = mean over l of (1 - mean of S_l over the pairs of one class)
    coupling = mean over l of the mean of S_l over the pairs of two classes
    loss     = cross-entropy + alpha * cohesion + beta * coupling

These are affinity and dispersion with all pairs weighed alike, of masks in place of activations, so they
are computed in the same way, without a batch x batch matrix; a term without a pair is 0 with gradient 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from moda_core.architectures.catalogue import build
from moda_core.baselines.mwt.generators import MwtNetwork, initial_generators, mask_generators
from moda_core.baselines.mwt.kernels import kernel_graph
from moda_core.data.dataset import Images
from moda_core.errors import Corrupt, InvalidInput
from moda_core.specs import ArchitectureSpec, InputSpec, Spec, TrainingSpec
from moda_core.training.checkpoints import Checkpoints
from moda_core.training.criteria import Evaluated, cross_entropy
from moda_core.training.distributed import ALONE, Ranks
from moda_core.training.execution import EAGER, Execution
from moda_core.training.initial import initial_network
from moda_core.training.loop import descend
from moda_core.training.objectives import modular_losses
from moda_core.training.reports import EpochReport
from moda_core.training.surroundings import never

__all__ = ["MwtCriterion", "MwtModel", "MwtSpec", "initial_mwt", "mwt_model", "mwt_network", "train_mwt"]


@dataclass(frozen=True, kw_only=True)
class MwtSpec(Spec):
    """One MwT training, whole: the MODA paper's recipe with MwT's own weights; network and generators share it.

    Fields are as in `TrainingSpec`, but `alpha` and `beta` are the weights of cohesion and coupling.
    There is no weight decay. MwT's public code mirrors digits too; here the data set is asked.
    """

    dataset: str
    architecture: str
    width: float = 1.0
    image_size: int | None = None
    alpha: float = 0.5
    beta: float = 1.5
    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 0.05
    momentum: float = 0.9
    crop_padding: int = 4
    flip: bool | None = None
    fraction: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.recipe()  # checks the ranges

    def recipe(self) -> TrainingSpec:
        """What every training has."""
        return TrainingSpec(**asdict(self))


@dataclass(frozen=True)
class MwtModel:
    """A network trained by MwT, with its generators.

    Attributes:
        weights: of the plain network, by ``state_dict`` name.
        generators: of the mask generators, as ``<layer>.<name>``.
    """

    architecture: ArchitectureSpec
    labels: tuple[str, ...]
    input: InputSpec
    weights: Mapping[str, Tensor]
    generators: Mapping[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """All numbers, as a safetensors file takes them."""
        parts = {"network": self.weights, "generators": self.generators}
        return {f"{part}/{name}": tensor for part, states in parts.items() for name, tensor in states.items()}

    def to_json(self) -> dict[str, Any]:
        """What the tensors belong to, as plain JSON data."""
        return {
            "architecture": self.architecture.to_json(),
            "labels": list(self.labels),
            "input": self.input.to_json(),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> MwtModel:
        """The model of which `tensors` and `to_json` gave these.

        Raises:
            Corrupt: if the tensors are not those of the architecture described.
        """
        architecture = ArchitectureSpec.from_json(description["architecture"])
        network, generators = (
            {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}
            for part in ("network/", "generators/")
        )
        rule = InputSpec.from_json(description["input"])
        model = cls(architecture, tuple(description["labels"]), rule, network, generators)
        try:
            mwt_network(model)
        except RuntimeError as error:
            raise Corrupt(
                f"the tensors are not those of {architecture.name} and its generators: {error}", "train the model again"
            ) from error
        return model


class MwtCriterion:
    """What MwT descends on; `network` is in train mode from here on."""

    terms: tuple[str, ...] = ("cohesion", "coupling")

    def __init__(self, network: MwtNetwork, *, alpha: float = 0.5, beta: float = 1.5, ranks: Ranks = ALONE) -> None:
        self.network = network.train().masked(training=True, masks=True)
        self.alpha, self.beta, self.ranks = alpha, beta, ranks

    def __call__(
        self, pixels: Float[Tensor, "batch channels height width"], labels: Int64[Tensor, "batch"]
    ) -> Evaluated:
        """Logits, the loss, and its two terms without their weights."""
        logits, masks = self.network(pixels)
        reduce = None if self.ranks.world == 1 else self.ranks.reduced
        losses = modular_losses(masks, labels, logits.shape[1], weighting="pair", reduce=reduce)
        regulation = self.alpha * losses.affinity + self.beta * losses.dispersion
        fit = cross_entropy(logits, labels, self.ranks)
        return Evaluated(logits, fit + regulation, fit, torch.stack((losses.affinity, losses.dispersion)))


def initial_mwt(architecture: ArchitectureSpec, seed: int) -> MwtNetwork:
    """The network that every training under `seed` starts from, and open masks.

    Raises:
        InvalidInput: for a network with no convolution behind the first, which has nothing to mask.
    """
    graph = kernel_graph(architecture)
    if not graph.layers:
        raise InvalidInput(
            "architecture",
            architecture.name,
            "no convolution behind the stem",
            "choose a network with two or more",
        )
    return MwtNetwork(graph, initial_network(architecture, seed), initial_generators(graph, seed))


def train_mwt(
    network: MwtNetwork,
    images: Images,
    spec: MwtSpec,
    input: InputSpec,  # noqa: A002  # the name that every model gives it
    *,
    mirror: bool,
    device: torch.device | str,
    execution: Execution = EAGER,
    ranks: Ranks = ALONE,
    checkpoints: Checkpoints | None = None,
    progress: Callable[[EpochReport], None] | None = None,
    cancelled: Callable[[], bool] = never,
) -> tuple[EpochReport, ...]:
    """Train network and generators in place; arguments, reports and errors are those of `descend`.

    The last epoch is the one that counts: none is selected.
    """
    return descend(
        network,
        partial(MwtCriterion, network, alpha=spec.alpha, beta=spec.beta, ranks=ranks),
        images,
        spec.recipe(),
        input,
        identity=spec.digest(),
        mirror=mirror,
        device=device,
        execution=execution,
        ranks=ranks,
        checkpoints=checkpoints,
        progress=progress,
        cancelled=cancelled,
    )


def mwt_model(
    network: MwtNetwork,
    architecture: ArchitectureSpec,
    labels: tuple[str, ...],
    input: InputSpec,  # noqa: A002  # the name that every model gives it
) -> MwtModel:
    """A trained network as a value, its numbers copied to the CPU."""
    weights, generators = (
        {name: state.detach().to("cpu", copy=True) for name, state in part.state_dict().items()}
        for part in (network.network, network.generators)
    )
    return MwtModel(architecture, labels, input, weights, generators)


def mwt_network(model: MwtModel, device: torch.device | str = "cpu") -> MwtNetwork:
    """Network and generators of a model in eval mode; on the CPU around its own tensors."""
    graph = kernel_graph(model.architecture)
    body = build(model.architecture, device="meta")
    body.load_state_dict(dict(model.weights), assign=True)
    with torch.device("meta"):
        generators = mask_generators(graph)
    generators.load_state_dict(dict(model.generators), assign=True)
    return MwtNetwork(graph, body, generators).to(device).eval()
