"""A network that multiplies each layer's units by masks that come with the images, one per sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, fx

from moda_core.inference.folding import fold
from moda_core.inference.graphs import Calls, calls_of, with_sizes
from moda_core.structure.sliced import assemble
from moda_core.structure.slicing import Plan
from moda_core.structure.unitgraph import Layer

__all__ = ["kept_units", "regulated"]

_REGULATED = "regulated"


def regulated(planned: Plan, weights: Mapping[str, Tensor], *, rewrite: Callable[[Calls], None] = fold) -> Calls:
    """The calls of a plan's network, made with normalised images and, in their type, masks of its kept units.

    A sample's logits are those of the plan's network with that sample's units masked, for every
    mask within those of the plan.

    Args:
        planned: of the network; its logits are the plan's, in the root's order.
        weights: as for `assemble`.
        rewrite: changes the calls, masks included; by default norms go into convolutions, and what else `fold` does.
    """
    calls = with_sizes(calls_of(assemble(planned, weights)), planned.graph)
    with calls.graph.inserting_after(next(iter(calls.graph.nodes))):
        masks = calls.graph.placeholder("masks")
    for name, section in _sections(planned).items():
        _multiply(calls, calls.values[name], masks, section)
    rewrite(calls)
    _in_place(calls)
    return calls


def kept_units(planned: Plan) -> Int64[Tensor, "kept"]:
    """The units that the network of a plan holds, layer after layer, as places among all units of all layers."""
    sections = _sections(planned)
    offset, places = 0, [torch.empty(0, dtype=torch.int64)]
    for layer in planned.graph.layers:
        if layer.name in sections:
            places.append(offset + sections[layer.name].units)
        offset += layer.units
    return torch.cat(places)


@dataclass(frozen=True)
class _Section:
    """A layer's columns of the masks, and the shape in which they meet its output.

    Attributes:
        start: of the first column.
        units: of the layer, one per column.
    """

    start: int
    units: Int64[Tensor, "columns"]
    shape: tuple[int, ...]


def _sections(planned: Plan) -> dict[str, _Section]:
    """By the layers that the plan builds."""
    produced = {call.operation.node: call.produced for call in planned.calls}
    sections: dict[str, _Section] = {}
    start = 0
    for layer, node in planned.graph.layer_nodes.items():
        if node in produced:
            units = torch.from_numpy(np.flatnonzero(produced[node]))
            dims = len(planned.graph.operations[node].output.shape)
            sections[layer.name] = _Section(start, units, _aligned(layer, dims, len(units)))
            start += len(units)
    return sections


def _aligned(layer: Layer, dims: int, units: int) -> tuple[int, ...]:
    shape = [1] * dims
    shape[0], shape[layer.axis] = -1, units
    return tuple(shape)


def _multiply(calls: Calls, node: fx.Node, masks: fx.Node, section: _Section) -> None:
    with calls.graph.inserting_after(node):
        product = calls.graph.call_method("mul", (node,))
    node.replace_all_uses_with(product, delete_user_cb=lambda user: user is not product)
    with calls.graph.inserting_before(product):
        columns = calls.graph.call_method("narrow", (masks, 1, section.start, len(section.units)))
        mask = calls.graph.call_method("reshape", (columns, section.shape))
    product.args = (node, mask)
    product.meta[_REGULATED] = True


def _in_place(calls: Calls) -> None:
    """Masks overwrite what a layer has made, which is new; what was computed beforehand stays."""
    for node in calls.graph.nodes:
        if node.meta.get(_REGULATED) and node.args[0].op == "call_function" and len(node.args[0].users) == 1:
            node.target = "mul_"
