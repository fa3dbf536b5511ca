"""The reference: the full network with each layer's output multiplied by its mask (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor, fx, nn

from moda_core.structure.rewriting import bind, rewritten
from moda_core.structure.slicing import Masks
from moda_core.structure.unitgraph import Layer, UnitGraph

__all__ = ["MaskedModel"]


class _Mask(nn.Module):
    """Multiplies units by 0 or 1."""

    mask: Tensor

    def __init__(self, layer: Layer, dims: int, mask: Bool[Tensor, "units"]) -> None:
        super().__init__()
        shape = [1] * dims
        shape[layer.axis] = layer.units
        self.register_buffer("mask", mask.reshape(shape), persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        return value * self.mask


class MaskedModel(nn.Module):
    """A full network that computes what the sliced one does: what slicing is checked against.

    It shares its parameters with `network`. Called with normalised images
    [batch, channels, height, width], it returns the logits of `rows`, [batch, rows].
    """

    def __init__(self, graph: UnitGraph, network: nn.Module, masks: Masks, rows: Sequence[int]) -> None:
        super().__init__()
        self.rows = list(rows)
        dims = {layer.name: len(graph.operations[node].output.shape) for layer, node in graph.layer_nodes.items()}
        self.masks = nn.ModuleDict(
            {layer.name: _Mask(layer, dims[layer.name], masks[layer.name]) for layer in graph.layers}
        )

        def masked(copy: fx.Graph, node: fx.Node, layer: Layer) -> None:
            with copy.inserting_after(node):
                product = copy.call_module(f"moda_masks.{layer.name}", (node,))
            node.replace_all_uses_with(product, delete_user_cb=lambda user: user is not product)

        self.network = bind(network, rewritten(graph.eval_trace, graph, masked), moda_masks=self.masks)

    def forward(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of the kept classes."""
        logits: Tensor = self.network(image)
        return logits[:, self.rows]
