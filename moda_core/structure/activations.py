"""One forward pass that also returns what each layer did.

Both forms run the traced graph with a few calls added to it, not hooks: the whole pass is one
graph, as `torch.compile` likes it, and nothing is computed twice. For ReLU, which most layers are,
the activation vectors come out of the same call, so that their gradient needs no pass over the
images of its own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the usual name of this module
from jaxtyping import Bool, Float
from torch import Tensor, fx, nn

from moda_core.structure.pooled_relu import PooledRelu
from moda_core.structure.rewriting import bind, rewritten
from moda_core.structure.tracing import Trace
from moda_core.structure.unitgraph import Layer, UnitGraph

__all__ = ["activation_vectors", "active_units", "with_activations", "with_activity"]


def activation_vectors(value: Float[Tensor, "batch ..."], axis: int) -> Float[Tensor, "batch units"]:
    """|y| averaged over all axes but batch and units (eq. 8), in float32 at least."""
    others = [other for other in range(1, value.dim()) if other != axis]
    precision = torch.promote_types(value.dtype, torch.float32)
    magnitude = value.abs()
    return magnitude.mean(others, dtype=precision) if others else magnitude.to(precision)


def active_units(value: Float[Tensor, "batch ..."], axis: int, epsilon: float) -> Bool[Tensor, "batch units"]:
    """Whether |y| > epsilon at any position."""
    others = [other for other in range(1, value.dim()) if other != axis]
    magnitude = value.abs()
    return (magnitude.amax(others) if others else magnitude) > epsilon


def with_activations(graph: UnitGraph, network: nn.Module) -> nn.Module:
    """`network` in train mode, returning (logits, {layer: activation vectors [batch, units]}).

    Parameters and buffers are shared with `network`.
    """
    trace = graph.train_trace

    def add(copy: fx.Graph, node: fx.Node, layer: Layer) -> fx.Node:
        if node.target is not F.relu:
            return _after(node, activation_vectors, node, layer.axis)
        (value,) = node.all_input_nodes
        both = _after(node, _relu_and_vectors, value, layer.axis, _overwritable(trace, value))
        output, vectors = (_after(both, operator.getitem, both, place) for place in (0, 1))
        node.replace_all_uses_with(output)
        copy.erase_node(node)
        return vectors

    return _returning(graph, network, trace, add).train()


def with_activity(graph: UnitGraph, network: nn.Module, epsilon: float) -> nn.Module:
    """`network` in eval mode, returning (logits, {layer: active units [batch, units]}).

    Parameters and buffers are shared with `network`.
    """

    def add(_: fx.Graph, node: fx.Node, layer: Layer) -> fx.Node:
        return _after(node, active_units, node, layer.axis, epsilon)

    return _returning(graph, network, graph.eval_trace, add).eval()


def _returning(
    graph: UnitGraph, network: nn.Module, trace: Trace, measured: Callable[[fx.Graph, fx.Node, Layer], fx.Node]
) -> nn.Module:
    """A network that returns its logits and, by layer, what the node gives that `measured` adds."""
    found: dict[str, fx.Node] = {}

    def add(copy: fx.Graph, node: fx.Node, layer: Layer) -> None:
        found[layer.name] = measured(copy, node, layer)

    copy = rewritten(trace, graph, add)
    output = next(node for node in reversed(copy.nodes) if node.op == "output")
    output.args = ((output.args[0], found),)
    return bind(network, copy)


def _after(node: fx.Node, function: Callable[..., Any], *arguments: Any) -> fx.Node:
    """A call of a function, placed right behind a node."""
    with node.graph.inserting_after(node):
        return node.graph.call_function(function, arguments)


def _overwritable(trace: Trace, value: fx.Node) -> bool:
    """Whether an activation may be computed in place: nobody else reads its input, nor does a backward pass."""
    if len(value.users) > 1:
        return False
    if value.op == "call_module":
        return isinstance(trace.module.get_submodule(str(value.target)), _FORGETTING)
    return value.op == "call_function" and value.target is operator.add


_FORGETTING = (nn.Conv2d, nn.Conv3d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Modules that keep their input, not their output, for the backward pass, and return no view of another tensor."""


def _relu_and_vectors(
    value: Float[Tensor, "batch ..."], axis: int, overwrite: bool
) -> tuple[Float[Tensor, "batch ..."], Float[Tensor, "batch units"]]:
    """ReLU, and its activation vectors."""
    others = [other for other in range(1, value.dim()) if other != axis]
    if not others or torch.compiler.is_compiling():  # the compiler fuses these by itself
        output = F.relu(value)
        return output, activation_vectors(output, axis)
    return PooledRelu.apply(value, others, overwrite)  # type: ignore[no-untyped-call,no-any-return]
