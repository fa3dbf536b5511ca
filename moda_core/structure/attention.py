"""Attention heads as units: which products are attention's output, and where the heads are before them.

A head's output is its slice of ``softmax(...) @ v``, a product of [batch, heads, queries, keys] and
[batch, heads, keys, width]: matrices that are multiplied one pair per sample and head, so that a
head whose output is masked needs neither its queries nor its keys nor its values. The shapes alone
do not tell heads from the rows or windows of an image, which are computed apart as well: heads are
what the values' outputs of a linear layer or convolution were divided into. What hides its
heads (fused attention, heads or windows folded into the batch axis, einsum) has none that can be cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch.nn.functional as F  # noqa: N812  # the usual name of this module
from torch import fx, nn

from moda_core.structure.axes import order_of
from moda_core.structure.calls import MATMULS, RESHAPES, function_of, keeps, softmax_axis
from moda_core.structure.parts import picked
from moda_core.structure.tracing import TRACED_BATCH, Trace

__all__ = ["HEAD_AXIS", "head_axes", "is_attention"]

HEAD_AXIS = 1
"""Of the heads in the output of attention."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONVOLUTION_FUNCTIONS = frozenset({F.conv1d, F.conv2d, F.conv3d})


def is_attention(trace: Trace, node: fx.Node) -> bool:
    """Whether a call multiplies a softmax over the last axis with values, per sample and head."""
    if function_of(node) not in MATMULS or len(node.args) != 2:
        return False
    weights, values = node.args
    if not isinstance(weights, fx.Node) or not isinstance(values, fx.Node):
        return False
    shapes = [trace.shapes.get(side, ()) for side in (weights, values)]
    alike = all(len(shape) == 4 for shape in shapes) and shapes[0][:2] == shapes[1][:2]
    per_pair = alike and shapes[0][0] == TRACED_BATCH and _is_softmaxed(trace, weights)
    return per_pair and _counts_heads(trace, values)


def head_axes(trace: Trace) -> Mapping[fx.Node, int]:
    """The axis of the heads in what attention is computed from, back to where the heads were split off.

    A reshape that makes three axes of a linear layer's output does not tell which one counts the heads;
    the product that reads it does.
    """
    axes: dict[fx.Node, int] = {}
    waiting = [(node, HEAD_AXIS) for node in trace.graph.nodes if is_attention(trace, node)]
    while waiting:
        node, axis = waiting.pop()
        if node not in axes:
            axes[node] = axis
            waiting.extend(_before(trace, node, axis))
    return axes


def _is_softmaxed(trace: Trace, node: object) -> bool:
    while isinstance(node, fx.Node) and keeps(trace, node) and node.args:
        node = node.args[0]
    return isinstance(node, fx.Node) and softmax_axis(trace, node) == len(trace.shapes.get(node, ())) - 1


def _counts_heads(trace: Trace, values: fx.Node) -> bool:
    """Whether the values' second axis is a division of a linear layer's or convolution's outputs."""
    waiting, seen = [(values, HEAD_AXIS, False)], set()
    while waiting:
        place = node, axis, divided = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        made = _output_axis(trace, node)
        if made == axis:
            if divided:
                return True
        elif _is_reshape(trace, node):
            waiting.extend((source, before, divided or parts) for source, before, parts in _undone(trace, node, axis))
        elif made != 1:  # a convolution mixes what lies on its other axes, a linear layer does not
            size, part = trace.shapes[node][axis], picked(trace, node)
            waiting.extend(
                (source, before, divided)
                for source, before in _before(trace, node, axis)
                if part is not None or trace.shapes[source][before] == size
            )
    return False


def _output_axis(trace: Trace, node: fx.Node) -> int | None:
    """Where a linear layer or convolution has its outputs; None for other calls."""
    part = trace.module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(part, nn.Linear) or function_of(node) is F.linear:
        return len(trace.shapes[node]) - 1
    return 1 if isinstance(part, _CONVOLUTIONS) or function_of(node) in _CONVOLUTION_FUNCTIONS else None


def _is_reshape(trace: Trace, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(trace.module.get_submodule(str(node.target)), nn.Flatten | nn.Unflatten)
    return function_of(node) in RESHAPES


def _undone(trace: Trace, node: fx.Node, axis: int) -> Iterator[tuple[fx.Node, int, bool]]:
    """The axis of a reshape's input that one of its output is all or a part of, and whether it is a part."""
    source, after = node.all_input_nodes[0], trace.shapes[node]
    shape = trace.shapes.get(source, ())
    first, end = math.prod(after[:axis]), math.prod(after[: axis + 1])
    for place in range(len(shape)):
        if first % math.prod(shape[:place]) == 0 and math.prod(shape[: place + 1]) % end == 0:
            yield source, place, shape[place] != after[axis]


def _before(trace: Trace, node: fx.Node, axis: int) -> Iterator[tuple[fx.Node, int]]:
    """What a call reads, with the place that an axis of its output has there."""
    if function_of(node) in RESHAPES:
        return
    part = picked(trace, node)
    if part is not None:
        yield part.source, part.axis_before(axis)
        return
    dims = len(trace.shapes[node])
    order = order_of(node, dims)
    for source in node.all_input_nodes:
        if len(trace.shapes.get(source, ())) == dims:
            yield source, axis if order is None else order[axis]
