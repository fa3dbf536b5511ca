"""Packing: convolutions around weights that lie as the processor's kernels read them, and the ReLU after each.

oneDNN, torch's library for CPUs, computes on weights in blocks of its own. A convolution with a plain weight copies it
into those blocks in every call, which for a layer of 512 channels and few images takes as long as the convolution
itself. Here that is done once. The convolution is torch's own for compiled networks, which also applies the ReLU.

How they lie depends on the size of the image too where channels do not fill whole blocks, as in networks that were cut;
laid out for another size they would be copied in every call, by slower code. Weights of such layers stay as they are
where the size is not known. All of this was seen with AVX-512; elsewhere the choice of a form keeps a packed network that
is slower from being served.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, fx

from moda_core.inference.folding import fold
from moda_core.inference.graphs import READS, Calls

__all__ = ["can_pack", "pack"]

_RELU = frozenset({torch.relu, torch.relu_})
_ALL_ARGUMENTS = 7
"""Of a convolution that `fold` has made of a layer."""
_BLOCK = 16
"""Channels that lie together on processors with AVX-512; on those with AVX2 it is half as many."""


def can_pack(device: torch.device | str) -> bool:
    """Whether packed weights mean something there: on a CPU, where torch was built with oneDNN."""
    built_with: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return torch.device(device).type == "cpu" and built_with


def pack(calls: Calls) -> None:
    """Fold the calls of a network in eval mode, and pack the weights of its convolutions.

    Computes in float32; what was shared with the network stays as it is.
    """
    fold(calls)
    weights: dict[tuple[int, str], Tensor] = {}
    for node in calls.graph.find_nodes(op="call_function", target=torch.conv2d):
        if len(node.args) < _ALL_ARGUMENTS or node.args[1].op != "get_attr":  # the network's own call, not a layer's
            continue
        image, held, bias, stride, padding, dilation, groups = node.args
        plain = calls.parts[held.target]
        size = node.meta.get(READS)
        if (
            isinstance(padding, str)
            or groups > 1
            or (size is None and any(count % _BLOCK for count in plain.shape[:2]))
        ):
            continue
        settings = [list(padding), list(stride), list(dilation), groups]
        known = id(plain), f"{settings} {size}"  # one tensor may go by many names
        if known not in weights:
            image_shape = None if size is None else [1, plain.shape[1], *size]
            weights[known] = _in_blocks(plain, settings, image_shape)
        activation = _only_reader(node, _RELU)
        with calls.graph.inserting_before(node):
            weight = calls.attribute(f"{held.target}.packed.{node.name}", weights[known])
            post_op = "none" if activation is None else "relu"
            packed = calls.graph.call_function(
                torch.ops.mkldnn._convolution_pointwise.default,
                (image, weight, bias, *settings, post_op, [], None),
            )
        for replaced in filter(None, (activation, node)):
            replaced.replace_all_uses_with(packed)
            calls.graph.erase_node(replaced)


def _in_blocks(
    weight: Float32[Tensor, "outputs inputs height width"], settings: list[Any], image_shape: list[int] | None
) -> Tensor:
    given: Tensor = weight.detach().to_mkldnn()
    packed: Tensor = torch.ops.aten.mkldnn_reorder_conv2d_weight.default(given, *settings, image_shape)
    return packed


def _only_reader(node: fx.Node, kinds: frozenset[Any]) -> fx.Node | None:
    """The one node that reads another, if it is a call of one of some functions."""
    reader = next(iter(node.users)) if len(node.users) == 1 else None
    return reader if reader is not None and reader.op == "call_function" and reader.target in kinds else None
