"""MwT's mask generators: a small network beside each convolution that says, per image, which kernels are open.

Fed with the convolution's input x, averaged over positions to g, a generator answers
m = ReLU(tanh(W2 · ReLU(W1 · g) + b2)), one number in [0, 1) per kernel, exactly 0 for a closed one; the
layer's output becomes BN(conv(x)) · m. Nothing is made binary in training, and the masks also act when
the modular model answers.
"""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn import functional

from moda_core.architectures.catalogue import build
from moda_core.baselines.mwt.kernels import KernelGraph, kernel_graph
from moda_core.specs import ArchitectureSpec
from moda_core.structure.operations import Norm
from moda_core.structure.rewriting import bind, rewritten
from moda_core.structure.tracing import trace
from moda_core.structure.unitgraph import Layer

__all__ = [
    "GENERATORS",
    "MaskGenerator",
    "MwtNetwork",
    "hidden_width",
    "initial_generators",
    "mask_generators",
    "soft_kernel_graph",
]

GENERATORS = "mwt_generators"
"""The submodule that holds the generators in a network that has them."""

_WIDE = 128
_POSITIONS = (slice(None), slice(None), None, None)


class MaskGenerator(nn.Module):
    """From the averaged input channels of a convolution to the mask of its kernels."""

    def __init__(self, inputs: int, kernels: int) -> None:
        super().__init__()
        hidden = hidden_width(kernels)
        self.reduce = nn.Linear(inputs, hidden, bias=False)
        self.expand = nn.Linear(hidden, kernels)

    @no_type_check
    def forward(self, pooled: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch kernels"]:
        """The soft mask."""
        return functional.relu(torch.tanh(self.expand(functional.relu(self.reduce(pooled)))))


def hidden_width(kernels: int) -> int:
    """As many hidden neurons as kernels; half as many from 128 kernels on."""
    return kernels if kernels < _WIDE else kernels // 2


class MwtNetwork(nn.Module):
    """A network and the generators of its masks: what MwT trains.

    Attributes:
        network: the plain one.
        generators: by layer name.
    """

    def __init__(self, graph: KernelGraph, network: nn.Module, generators: nn.ModuleDict) -> None:
        super().__init__()
        self.graph, self.network, self.generators = graph, network, generators

    def masked(self, *, training: bool = False, masks: bool = False) -> fx.GraphModule:
        """The forward pass with masks, sharing all states with this module.

        Args:
            training: as in train mode; the mode of the parts stays as it is.
            masks: return (logits, {layer: soft masks [batch, kernels]}) and not the logits alone.
        """
        graph = self.graph
        copy, found = _with_generators(graph, training=training)
        if masks:
            output = next(node for node in reversed(copy.nodes) if node.op == "output")
            output.args = ((output.args[0], found),)
        bound = bind(self.network, copy, **{GENERATORS: self.generators})
        bound.training = training
        return bound


def mask_generators(graph: KernelGraph) -> nn.ModuleDict:
    """A generator for each layer; its weights are torch's and wait for others."""
    return nn.ModuleDict({layer.name: MaskGenerator(_inputs(graph, layer), layer.units) for layer in graph.layers})


def initial_generators(graph: KernelGraph, seed: int) -> nn.ModuleDict:
    """Generators with Kaiming's normal weights (fan in) and biases 1: every mask begins wide open."""
    # A seed of their own, lest their numbers be those of the network's first weights.
    source = torch.Generator().manual_seed(seed)
    source.manual_seed(int(torch.randint(2**63 - 1, (), generator=source)))
    with torch.random.fork_rng(devices=[]):
        generators = mask_generators(graph)
    for generator in generators.values():
        assert isinstance(generator, MaskGenerator)
        nn.init.kaiming_normal_(generator.reduce.weight, generator=source)
        nn.init.kaiming_normal_(generator.expand.weight, generator=source)
        nn.init.ones_(generator.expand.bias)
    return generators


@lru_cache(maxsize=64)
def soft_kernel_graph(architecture: ArchitectureSpec) -> KernelGraph:
    """The masked kernels of an architecture with its generators in it, as parts that are sliced with it.

    Its layers have names of their own and the order of `kernel_graph`'s.
    """
    graph = kernel_graph(architecture)
    with torch.device("meta"):
        generators = mask_generators(graph)
    whole = MwtNetwork(graph, build(architecture, device="meta"), generators).masked()
    return KernelGraph(trace(whole, graph.image_shape, training=False), graph.image_shape, soft=True)


def _inputs(graph: KernelGraph, layer: Layer) -> int:
    """Input channels of a layer's convolution."""
    operation = graph.operations[_convolution(graph, layer, graph.layer_nodes[layer])]
    return operation.inputs[0].width


def _convolution(graph: KernelGraph, layer: Layer, node: fx.Node) -> fx.Node:
    """The convolution of a layer, given the layer's node in the graph or in a copy of it."""
    behind_norm = isinstance(graph.operations[graph.layer_nodes[layer]], Norm)
    return node.all_input_nodes[0] if behind_norm else node


def _with_generators(graph: KernelGraph, *, training: bool) -> tuple[fx.Graph, dict[str, fx.Node]]:
    """A copy of the traced graph with generators and products in it, and each layer's soft mask."""
    pooled: dict[fx.Node, fx.Node] = {}
    masks: dict[str, fx.Node] = {}

    def add(copy: fx.Graph, node: fx.Node, layer: Layer) -> None:
        source = _convolution(graph, layer, node).all_input_nodes[0]
        if source not in pooled:  # convolutions side by side share it
            with copy.inserting_before(source.next):
                average = copy.call_function(functional.adaptive_avg_pool2d, (source, 1))
                pooled[source] = copy.call_function(torch.flatten, (average, 1))
        with copy.inserting_before(node.next):
            masks[layer.name] = copy.call_module(f"{GENERATORS}.{layer.name}", (pooled[source],))
            spread = copy.call_function(operator.getitem, (masks[layer.name], _POSITIONS))
            product = copy.call_function(operator.mul, (node, spread))
        node.replace_all_uses_with(product, delete_user_cb=lambda user: user is not product)

    return rewritten(graph.train_trace if training else graph.eval_trace, graph, add), masks
