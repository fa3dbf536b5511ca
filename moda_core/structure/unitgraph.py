"""The unit graph: a network's layers, and the operations between them.

Traced once per network. Everything that must know the structure asks it: training (which outputs
to regulate), decomposition (what to count), composition (which rows and columns to take), measures
(which weights are shared).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from torch import fx, nn

from moda_core.architectures.catalogue import build
from moda_core.errors import Untraceable
from moda_core.specs import ArchitectureSpec
from moda_core.structure.attention import is_attention
from moda_core.structure.operations import Operation
from moda_core.structure.rules import is_dense, is_gate, operations
from moda_core.structure.tracing import REACHES_ZERO, TRACED_BATCH, Trace, is_activation, trace

__all__ = ["Layer", "UnitGraph", "unit_graph"]


@dataclass(frozen=True)
class Layer:
    """A call whose outputs are units: an activation, or attention with its heads.

    Attributes:
        name: of its node in the traced graph.
        units: how many.
        axis: of the units in its output.
        reaches_zero: whether the activation is exactly zero on an interval; otherwise, and for
            heads, a unit is inactive only within an epsilon above 0.
    """

    name: str
    units: int
    axis: int
    reaches_zero: bool


class UnitGraph:
    """A traced network: its layers by name, its operations in order.

    Attributes:
        image_shape: (channels, height, width) it was traced for.
        eval_trace: the forward pass in eval mode.
        layers: in the order of the forward pass; `layer_nodes` has their nodes.
        operations: by node of `eval_trace`, in order.
        logits: the node that is the network's output.
        classes: number of logits.
        parameters: elements of the network's parameters; `parameter_names` are their names.
        states: by node, the names of the parameters and buffers it uses.
        state_shapes: of every parameter and buffer, by name.
    """

    def __init__(self, eval_trace: Trace, image_shape: tuple[int, int, int]) -> None:
        self.eval_trace, self.image_shape = eval_trace, image_shape
        layer_nodes = _layer_nodes(eval_trace)
        self.operations: dict[fx.Node, Operation] = operations(eval_trace)
        self.layer_nodes = {self._layer(node): node for node in layer_nodes}
        self.layers = tuple(self.layer_nodes)
        self.logits = _logits(eval_trace.graph)
        self.classes = self.operations[self.logits].output.shape[1]
        self.parameter_names = frozenset(name for name, _ in eval_trace.module.named_parameters())
        self.parameters = sum(parameter.numel() for parameter in eval_trace.module.parameters())
        self.states = {node: _states(eval_trace, node) for node in self.operations}
        self.state_shapes = {name: tuple(state.shape) for name, state in eval_trace.module.state_dict().items()}

    @classmethod
    def trace(cls, module: nn.Module, image_shape: tuple[int, int, int]) -> UnitGraph:
        """Trace any classifier for images of shape (channels, height, width).

        Raises:
            Untraceable: if its forward pass cannot be traced.
        """
        return cls(trace(module, image_shape, training=False), image_shape)

    @cached_property
    def train_trace(self) -> Trace:
        """The forward pass in train mode, which has the same layers.

        Raises:
            Untraceable: if it has others.
        """
        train_trace = trace(self.eval_trace.module, self.image_shape, training=True)
        names = [node.name for node in _layer_nodes(train_trace)]
        if names != [layer.name for layer in self.layers]:
            raise Untraceable(
                f"training has the layers {names}, evaluation {[layer.name for layer in self.layers]}",
                "use the same activations in both modes",
            )
        return train_trace

    def _layer(self, node: fx.Node) -> Layer:
        output = self.operations[node].output
        if output.axis is None:
            raise Untraceable(f"the activation {node.name} has no channels", "give it at least two axes")
        if output.shape[0] != TRACED_BATCH:
            raise Untraceable(f"the activation {node.name} has no batch axis first", "keep the samples on axis 0")
        return Layer(node.name, output.width, output.axis, node.target in REACHES_ZERO)


@lru_cache(maxsize=64)
def unit_graph(architecture: ArchitectureSpec) -> UnitGraph:
    """The unit graph of an architecture, traced once per process.

    Raises:
        Untraceable: for a torchvision model with a forward pass that cannot be traced.
    """
    network = build(architecture, device="meta")
    return UnitGraph.trace(network, (architecture.channels, architecture.image_size, architecture.image_size))


def _states(trace: Trace, node: fx.Node) -> tuple[str, ...]:
    if node.op == "get_attr":
        return (str(node.target),)
    if node.op != "call_module":
        return ()
    part = trace.module.get_submodule(str(node.target))
    return tuple(f"{node.target}.{name}" for name in part.state_dict())


def _logits(graph: fx.Graph) -> fx.Node:
    output = next(node for node in reversed(graph.nodes) if node.op == "output").args[0]
    assert isinstance(output, fx.Node)
    return output


def _layer_nodes(trace: Trace) -> list[fx.Node]:
    """Activations and attention that are layers: on the input's path, no gate's, and not on the logits."""
    fed = _fed_by_input(trace.graph)
    ungated = _upstream([_logits(trace.graph)], lambda node: not is_gate(trace, node))
    before_dense = _upstream([node for node in trace.graph.nodes if is_dense(trace, node)], lambda _: True)
    return [
        node
        for node in trace.graph.nodes
        if (is_activation(node) or is_attention(trace, node))
        and node in fed
        and node in ungated
        and node in before_dense
    ]


def _fed_by_input(graph: fx.Graph) -> set[fx.Node]:
    fed: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(source in fed for source in node.all_input_nodes):
            fed.add(node)
    return fed


def _upstream(targets: Sequence[fx.Node], passes: Callable[[fx.Node], bool]) -> set[fx.Node]:
    """Nodes from which a path of nodes that `passes` accepts leads to one of `targets`."""
    found: set[fx.Node] = set()
    waiting = list(targets)
    while waiting:
        for source in waiting.pop().all_input_nodes:
            if source not in found and passes(source):
                found.add(source)
                waiting.append(source)
    return found
