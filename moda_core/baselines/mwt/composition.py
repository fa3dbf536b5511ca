"""Composing MwT's modules: the kernels that some classes keep, cut out of the network.

The union of the classes' masks is cut with the project's own slicer, each convolution by its own mask:
branches of a residual block may keep different kernels and are aligned by index. The stem and the hidden
neurons of fully connected layers stay whole; only the first such layer loses columns.

MwT drops the generators and appends a new head, ReLU and Linear from all N logits to the classes wanted,
which has to be trained (`tuning`). Without training, the composed network answers with the wanted
rows of its own N logits; that is what the MODA paper reports as MwT without fine-tuning. A kept kernel then has
the factor 1 where training had a mask in (0, 1), which is why a fair comparison also looks at generators
that are kept: cut to the kept kernels, they give these the masks they were trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from moda_core.baselines.mwt.generators import GENERATORS, soft_kernel_graph
from moda_core.baselines.mwt.kernels import KernelGraph, kernel_graph
from moda_core.baselines.mwt.modules import ModuleMasks
from moda_core.baselines.mwt.training import MwtModel, mwt_network
from moda_core.data.images import normalise
from moda_core.errors import NotFound
from moda_core.modularity.measures import whole_flops
from moda_core.modularity.networks import Network
from moda_core.specs import InputSpec, check_labels
from moda_core.structure.sliced import SlicedModel, assemble
from moda_core.structure.slicing import Masks, Plan, plan

__all__ = [
    "Answering",
    "MwtSize",
    "class_positions",
    "compose_mwt",
    "compose_with_head",
    "mwt_plan",
    "mwt_size",
    "union_masks",
    "whole_mwt",
]


class Answering(Network):
    """A body behind its input rule: uint8 pixels in, logits out."""

    def __init__(self, labels: tuple[str, ...], rule: InputSpec, body: nn.Module) -> None:
        super().__init__(labels, (rule,))
        self.body = body

    def forward(self, *pixels: UInt8[Tensor, "batch _channels _size _size"]) -> Float[Tensor, "batch classes"]:
        """Logits of images that were fitted to the input rule."""
        logits: Tensor = self.body(normalise(pixels[0], self.inputs[0]))
        return logits


@dataclass(frozen=True)
class MwtSize:
    """What a composed network keeps.

    Attributes:
        kept_parameters, kept_flops: of the composed network, for one image, a multiply-add counted as two;
            generators and head are in it where the network has them.
        original_parameters, original_flops: of the plain network, without generators.
    """

    kept_parameters: int
    original_parameters: int
    kept_flops: int
    original_flops: int


def whole_mwt(model: MwtModel, device: torch.device | str = "cpu") -> Answering:
    """The model as it was trained: every kernel under its generator's mask, ready to answer."""
    body = mwt_network(model, device).masked().requires_grad_(False)
    return Answering(model.labels, model.input, body.eval())


def compose_mwt(
    model: MwtModel,
    modules: ModuleMasks,
    labels: Sequence[str],
    *,
    keep_generators: bool = False,
    device: torch.device | str = "cpu",
) -> Answering:
    """The composed network without fine-tuning: the wanted rows of the original logits, in the model's order.

    Args:
        model: whole.
        modules: of its classes.
        labels: of the classes wanted, in any order.
        keep_generators: let kept kernels have the soft masks of training.
        device: where it answers.

    Raises:
        InvalidInput: for no class, or one named twice.
        NotFound: for a class that the model does not have.
    """
    positions = class_positions(model, labels)
    planned = mwt_plan(model, modules, labels, keep_generators=keep_generators)
    body = _assembled(model, planned, lambda tensor: tensor)
    return Answering(tuple(model.labels[place] for place in positions), model.input, body.to(device))


def compose_with_head(
    model: MwtModel, modules: ModuleMasks, labels: Sequence[str], seed: int, *, keep_generators: bool = False
) -> nn.Sequential:
    """The composed network with all N logits and MwT's new head on them, drawn under `seed`, to be trained.

    Its states are copies. Normalised images in, logits of the wanted classes out, in the model's order.
    """
    wanted = class_positions(model, labels)
    planned = mwt_plan(model, modules, labels, head=True, keep_generators=keep_generators)
    body = _assembled(model, planned, torch.clone)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        head = nn.Linear(len(model.labels), len(wanted))
    return nn.Sequential(body, nn.ReLU(), head).requires_grad_().train()


def mwt_plan(
    model: MwtModel,
    modules: ModuleMasks,
    labels: Sequence[str],
    *,
    head: bool = False,
    keep_generators: bool = False,
    drop: bool = True,
) -> Plan:
    """What a composition holds and costs, by index arithmetic alone; a head itself is not in it.

    Args:
        model: whole.
        modules: of its classes.
        labels: of the classes wanted.
        head: keep all N logits for a head on them.
        keep_generators: as for `compose_mwt`.
        drop: leave out what no reader needs; without it, every masked output keeps its whole mask.
    """
    positions = class_positions(model, labels)
    rows = range(len(model.labels)) if head else positions
    masks = union_masks(modules, labels)
    if not keep_generators:
        return plan(kernel_graph(model.architecture), masks, rows, drop=drop)
    graph = soft_kernel_graph(model.architecture)
    return plan(graph, _renamed(masks, kernel_graph(model.architecture), graph), rows, drop=drop)


def mwt_size(
    model: MwtModel,
    modules: ModuleMasks,
    labels: Sequence[str],
    *,
    head: bool = False,
    keep_generators: bool = False,
) -> MwtSize:
    """Parameters and operations of a composition, with nothing built."""
    graph = kernel_graph(model.architecture)
    planned = mwt_plan(model, modules, labels, head=head, keep_generators=keep_generators)
    products = len(model.labels) * len(labels) if head else 0
    return MwtSize(
        kept_parameters=planned.parameters + products + (len(labels) if head else 0),
        original_parameters=graph.parameters,
        kept_flops=planned.flops + 2 * products,
        original_flops=whole_flops(graph),
    )


def union_masks(modules: ModuleMasks, labels: Sequence[str]) -> Masks:
    """The kernels that any of some classes keeps, by layer."""
    chosen = [modules.masks[label] for label in labels]
    return {layer: torch.stack([masks[layer] for masks in chosen]).any(dim=0) for layer in chosen[0]}


def class_positions(model: MwtModel, labels: Sequence[str]) -> list[int]:
    """The places of some classes among the model's logits, ascending.

    Raises:
        InvalidInput: for no class, or one named twice.
        NotFound: for a class that the model does not have.
    """
    for label in check_labels("classes", labels):
        if label not in model.labels:
            raise NotFound("class", label, f"the model has {', '.join(model.labels)}")
    return sorted(model.labels.index(label) for label in labels)


def _renamed(masks: Masks, graph: KernelGraph, soft: KernelGraph) -> Mapping[str, Tensor]:
    """Masks by the names that layers have in the graph with generators."""
    return {own.name: masks[layer.name] for layer, own in zip(graph.layers, soft.layers, strict=True)}


def _assembled(model: MwtModel, planned: Plan, taken: Callable[[Tensor], Tensor]) -> SlicedModel:
    states: Mapping[str, Tensor] = {
        **model.weights,
        **{f"{GENERATORS}.{name}": state for name, state in model.generators.items()},
    }
    return assemble(planned, {name: taken(_cut(states[name], axes)) for name, axes in planned.held.items()})


def _cut(state: Tensor, axes: tuple[NDArray[np.int64] | None, ...]) -> Tensor:
    for axis, kept in enumerate(axes):
        if kept is not None:
            state = state.index_select(axis, torch.from_numpy(kept).to(state.device))
    return state
