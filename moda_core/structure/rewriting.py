"""A traced graph with calls added to it, made runnable on a network's own parts."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx, nn

from moda_core.structure.tracing import Trace
from moda_core.structure.unitgraph import Layer, UnitGraph

__all__ = ["bind", "rewritten"]


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
