"""Which kernels MwT masks, found on the traced graph of any network.

Every convolution is masked but the stem, the first one: downsampling ones and (as the MODA paper
extended MwT to MobileNet) depthwise ones too. Fully connected layers never are. The mask multiplies
what comes out of the batch norm behind the convolution, or of the convolution where there is none,
before any activation or sum. These outputs are the layers of a `KernelGraph`, so that slicing, sizes
and the masked reference are those of every other unit graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

from torch import fx

from moda_core.errors import Untraceable
from moda_core.specs import ArchitectureSpec
from moda_core.structure.operations import Convolution, Multiply, Norm, Operation, Pointwise
from moda_core.structure.tracing import Trace, trace
from moda_core.structure.unitgraph import Layer, UnitGraph, unit_graph

__all__ = ["KernelGraph", "kernel_graph"]


class KernelGraph(UnitGraph):
    """A unit graph whose layers are the outputs that MwT masks, in the order of their convolutions.

    Args:
        eval_trace: of a network, or of one with mask generators in it.
        image_shape: it was traced for.
        soft: there are generators in it; the layers are then the products with their masks.
    """

    def __init__(self, eval_trace: Trace, image_shape: tuple[int, int, int], *, soft: bool = False) -> None:
        super().__init__(eval_trace, image_shape)
        behind = (Norm, Multiply) if soft else (Norm,)
        convolutions = [node for node, operation in self.operations.items() if isinstance(operation, Convolution)]
        masked = [self._last(node, behind) for node in convolutions[1:]]
        self.layer_nodes = {Layer(node.name, self.operations[node].output.width, 1, True): node for node in masked}
        self.layers = tuple(self.layer_nodes)
        for node in masked if soft else ():
            self._spread_channelwise(self.operations[node].sources[1])

    @cached_property
    def train_trace(self) -> Trace:
        """The forward pass in train mode, which has the same layers.

        Raises:
            Untraceable: if it lacks one.
        """
        train_trace = trace(self.eval_trace.module, self.image_shape, training=True)
        calls = {node.name: node.target for node in train_trace.graph.nodes}
        missing = [layer.name for layer, node in self.layer_nodes.items() if calls.get(layer.name) != node.target]
        if missing:
            raise Untraceable(
                f"training does without the convolutions before {missing}", "use the same ones in both modes"
            )
        return train_trace

    def _last(self, node: fx.Node, behind: Sequence[type[Operation]]) -> fx.Node:
        """The end of a chain of operations of these kinds, each the only reader of the one before it."""
        for kind in behind:
            readers = list(node.users)
            if len(readers) == 1 and isinstance(self.operations.get(readers[0]), kind):
                node = readers[0]
        return node

    def _spread_channelwise(self, node: fx.Node) -> None:
        """A soft mask [batch, kernels] gets two axes more: a call that slicing has no rule for."""
        operation = self.operations[node]
        self.operations[node] = Pointwise(node, operation.output, operation.sources, operation.inputs)


@lru_cache(maxsize=64)
def kernel_graph(architecture: ArchitectureSpec) -> KernelGraph:
    """The masked kernels of an architecture, traced once per process.

    Raises:
        Untraceable: for a torchvision model with a forward pass that cannot be traced.
    """
    graph = unit_graph(architecture)
    return KernelGraph(graph.eval_trace, graph.image_shape)
