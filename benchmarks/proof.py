"""The proof that a sliced model computes what the masked one does, made so that it can fail.

With random weights and few units the logits hardly depend on the input, and a sliced model whose
first convolution is zeroed would still agree. So a case is *alive*: statistics of norms are set
under the mask, weights without norms are scaled to unit variance, constants that hide a mistake
(zero biases, zero heads, tiny layer scales) are drawn at random, and a case whose logits hardly
vary is drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from moda_core.structure.masking import MaskedModel
from moda_core.structure.operations import Channels, Convolution, Norm, Operation, Pointwise
from moda_core.structure.sliced import SlicedModel, assemble
from moda_core.structure.slicing import Masks, Plan, plan
from moda_core.structure.unitgraph import UnitGraph

__all__ = [
    "LEAST_VARIATION",
    "MOST_DRAWS",
    "MOST_ERROR",
    "MOST_FLOAT32_RATIO",
    "Agreement",
    "Case",
    "NotAlive",
    "agreement",
    "cut",
    "draw_case",
    "draw_masks",
    "enliven",
    "error",
    "settle",
    "variation",
]

MOST_ERROR = 1e-9
MOST_FLOAT32_RATIO = 10.0
LEAST_VARIATION = 0.01
MOST_DRAWS = 50
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class NotAlive(Exception):
    """No draw of a case gave logits that depend on the input."""


@dataclass(frozen=True)
class Case:
    """A network in float64 with masks under which its logits vary.

    Attributes:
        images: normalised, float64.
        reference: the masked model's logits of `rows`, float64.
        redraws: how many draws were thrown away before this one.
    """

    graph: UnitGraph
    network: nn.Module
    masks: Masks
    rows: tuple[int, ...]
    images: Tensor
    reference: Tensor
    redraws: int = 0

    def plan(self) -> Plan:
        """What of the network is kept."""
        return plan(self.graph, self.masks, self.rows)

    def sliced(self) -> SlicedModel:
        """The sliced model, with copies of the kept weights."""
        return cut(self.plan(), self.network.state_dict())


@dataclass(frozen=True)
class Agreement:
    """How near the sliced model is to the masked one; errors in units of the logits' spread."""

    float64: float
    float32: float
    masked_float32: float
    kept: float
    expansions: int
    slicing_ms: float

    @property
    def holds(self) -> bool:
        """Whether both bounds are kept."""
        return self.float64 <= MOST_ERROR and self.float32 <= MOST_FLOAT32_RATIO * self.masked_float32


def error(found: Tensor, reference: Tensor) -> float:
    """The largest difference, in units of the largest standard deviation over inputs of any logit."""
    return float((found.double() - reference).abs().max() / reference.std(0).max())


def variation(logits: Tensor) -> float:
    """The largest standard deviation over inputs of any logit, as a share of the largest magnitude."""
    share = logits.std(0).max() / logits.abs().max()
    return float(share) if torch.isfinite(share) else 0.0


def draw_case(
    build: Callable[[], tuple[UnitGraph, nn.Module]],
    keep: float,
    images: Tensor,
    generator: torch.Generator,
    rows: Sequence[int] | None = None,
    most: int = MOST_DRAWS,
) -> Case:
    """A living case: masks that keep about `keep` of each layer's units.

    Args:
        build: makes a unit graph and a network with fresh weights; called once per draw.
        keep: share of each layer's units.
        images: normalised [batch, channels, height, width].
        generator: of masks and of what `enliven` draws.
        rows: of the classes whose logits are compared; about half of all if None.
        most: draws before giving up.

    Raises:
        NotAlive: after `most` draws whose logits hardly depend on the input.
    """
    images = images.double()
    for redraws in range(most):
        graph, network = build()
        network = enliven(network.double().eval(), generator)
        masks = draw_masks(graph, keep, generator)
        wanted = tuple(rows) if rows is not None else tuple(range(0, graph.classes, 2))
        masked = MaskedModel(graph, network, masks, wanted).eval()
        settle(masked, images)
        with torch.inference_mode():
            reference = masked(images)
        if variation(reference) >= LEAST_VARIATION:
            return Case(graph, network, masks, wanted, images, reference.clone(), redraws)
    raise NotAlive(f"{most} draws of masks keeping {keep:.0%}, and in none do the logits depend on the input")


def draw_masks(graph: UnitGraph, keep: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Random masks; a layer behind a grouped convolution has half its units where the input is live.

    Independent masks would silence a depthwise network: at 5 % nearly every kept filter reads zeros.
    """
    live: dict[object, Channels] = {}
    masks: dict[str, Tensor] = {}
    layers = set(graph.layer_nodes.values())
    for node, operation in graph.operations.items():
        live[node] = operation.live([live[source] for source in operation.sources])
        if node in layers:
            fed = _fed_units(graph, operation, live)
            masks[node.name] = _draw_mask(len(live[node]), keep, fed, generator)
            live[node] = live[node] & masks[node.name].numpy()
    return masks


def enliven(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draw at random what initialisations leave constant, in place: a swapped row must show."""
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if "bias" in name and parameter.dim() == 1:
                _fill(parameter, 0.0, 0.1, generator)
            elif isinstance(module, (*_BATCH_NORMS, nn.LayerNorm)) or parameter.dim() == 1:
                _fill(parameter, 1.0, 0.2, generator)
            elif float(parameter.detach().abs().max()) < 1e-3:
                _fill(parameter, 0.0, 1.0 if not isinstance(module, nn.Linear) else 0.1, generator)
    return network


def settle(masked: MaskedModel, images: Tensor) -> None:
    """Set statistics of batch norms from a batch run under the mask; in place.

    A network without any has its weights and biases scaled instead, so that each convolution's and
    linear layer's outputs have mean 0 and variance 1 over inputs and positions.
    """
    norms = [module for module in masked.modules() if isinstance(module, _BATCH_NORMS)]
    if not norms:
        _scale(masked, images)
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        masked(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def cut(planned: Plan, weights: Mapping[str, Tensor]) -> SlicedModel:
    """The sliced model of a plan, from the root's whole weights."""
    return assemble(planned, {name: _gathered(weights[name], axes) for name, axes in planned.held.items()})


def agreement(case: Case) -> Agreement:
    """Compare the sliced with the masked model in float64 and float32.

    The case's network is float32 afterwards.
    """
    began = perf_counter()
    planned = case.plan()
    sliced = cut(planned, case.network.state_dict())
    slicing_ms = 1e3 * (perf_counter() - began)
    masked = MaskedModel(case.graph, case.network, case.masks, case.rows).eval()
    with torch.inference_mode():
        float64 = error(sliced(case.images), case.reference)
        float32 = error(sliced.float()(case.images.float()), case.reference)
        masked_float32 = error(masked.float()(case.images.float()), case.reference)
    kept = planned.parameters / case.graph.parameters
    return Agreement(float64, float32, masked_float32, kept, planned.expansions, slicing_ms)


def _fill(parameter: Tensor, mean: float, deviation: float, generator: torch.Generator) -> None:
    drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    parameter.data.copy_(mean + deviation * drawn)


def _fed_units(graph: UnitGraph, operation: Operation, live: Mapping[object, Channels]) -> Channels | None:
    """Units of a layer that see more than zeros, where a grouped convolution comes right before it."""
    while isinstance(operation, Norm | Pointwise):
        operation = graph.operations[operation.sources[0]]
    if not isinstance(operation, Convolution) or operation.groups == 1:
        return None
    groups = live[operation.sources[0]].reshape(operation.groups, -1).any(axis=1)
    return np.repeat(groups, operation.output.width // operation.groups)


def _draw_mask(units: int, keep: float, fed: Channels | None, generator: torch.Generator) -> Tensor:
    count = max(1, round(keep * units))
    order = torch.randperm(units, generator=generator)
    if fed is not None:
        first = order[torch.from_numpy(fed)[order]][: (count + 1) // 2]
        order = torch.cat([first, order[~torch.isin(order, first)]])
    mask = torch.zeros(units, dtype=torch.bool)
    mask[order[:count]] = True
    return mask


def _scale(masked: MaskedModel, images: Tensor) -> None:
    seen: set[nn.Module] = set()

    def standardise(module: nn.Module, _inputs: object, output: Tensor) -> Tensor | None:
        if module in seen:
            return None
        weight, bias = module.get_parameter("weight"), module._parameters["bias"]
        seen.add(module)
        axis = output.dim() - 1 if isinstance(module, nn.Linear) else 1
        others = [other for other in range(output.dim()) if other != axis]
        deviation = output.var(others).mean().sqrt()
        if not deviation > 1e-12:
            return None
        mean = output.mean(others) if bias is not None else torch.zeros_like(output.mean(others))
        weight.data /= deviation
        if bias is not None:
            bias.data = (bias.data - mean) / deviation
        aligned = [1] * output.dim()
        aligned[axis] = -1
        return (output - mean.reshape(aligned)) / deviation

    hooks = [part.register_forward_hook(standardise) for part in masked.modules() if isinstance(part, _DENSE)]
    with torch.no_grad():
        masked(images)
    for hook in hooks:
        hook.remove()


def _gathered(weight: Tensor, axes: Sequence[np.ndarray | None]) -> Tensor:
    for axis, kept in enumerate(axes):
        if kept is not None:
            weight = weight.index_select(axis, torch.from_numpy(kept))
    return weight
