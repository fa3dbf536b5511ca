"""One forward pass that also returns what each layer did.

Both forms run the traced graph with a few calls added to it, not hooks: the whole pass is one
graph, as `torch.compile` likes it, and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, fx, nn

from moda_core.structure.tracing import Trace
from moda_core.structure.unitgraph import Layer, UnitGraph

__all__ = ["activation_vectors", "active_units", "bind", "rewritten", "with_activations", "with_activity"]


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
    return _returning(graph, network, graph.train_trace, activation_vectors).train()


def with_activity(graph: UnitGraph, network: nn.Module, epsilon: float) -> nn.Module:
    """`network` in eval mode, returning (logits, {layer: active units [batch, units]}).

    Parameters and buffers are shared with `network`.
    """
    return _returning(graph, network, graph.eval_trace, active_units, epsilon).eval()


def rewritten(trace: Trace, graph: UnitGraph, change: Callable[[fx.Graph, fx.Node, Layer], None]) -> fx.Graph:
    """A copy of a trace's graph in which `change` was applied to each layer's node."""
    copy = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    copy.output(copy.graph_copy(trace.graph, copies))
    nodes = {node.name: node for node in trace.graph.nodes}
    for layer in graph.layers:
        change(copy, copies[nodes[layer.name]], layer)
    return copy


def bind(network: nn.Module, graph: fx.Graph, **parts: nn.Module) -> fx.GraphModule:
    """A graph made runnable on a network's own parts, and on extra `parts` by name."""
    modules = {node.target: network.get_submodule(node.target) for node in graph.nodes if _is_part(node, parts)}
    states = network.state_dict(keep_vars=True)
    attributes = {node.target: states[node.target] for node in graph.nodes if node.op == "get_attr"}
    extra = {f"{name}.{child}": part for name, owner in parts.items() for child, part in owner.named_children()}
    return fx.GraphModule(modules | attributes | extra, graph)


def _is_part(node: fx.Node, parts: dict[str, nn.Module]) -> bool:
    return node.op == "call_module" and str(node.target).split(".")[0] not in parts


def _returning(
    graph: UnitGraph, network: nn.Module, trace: Trace, measure: Callable[..., Tensor], *arguments: float
) -> nn.Module:
    measured: dict[str, fx.Node] = {}

    def add(copy: fx.Graph, node: fx.Node, layer: Layer) -> None:
        with copy.inserting_after(node):
            measured[layer.name] = copy.call_function(measure, (node, layer.axis, *arguments))

    copy = rewritten(trace, graph, add)
    output = next(node for node in reversed(copy.nodes) if node.op == "output")
    output.args = ((output.args[0], measured),)
    return bind(network, copy)
