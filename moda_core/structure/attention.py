"""Attention heads as units: which products are attention's output, and where the heads are before them.

A head's output is its slice of ``softmax(...) @ v``, a product of [batch, heads, queries, keys] and
[batch, heads, keys, width]: matrices that are multiplied one pair per sample and head, so that a
head whose output is masked needs neither its queries nor its keys nor its values. What hides its
heads (fused attention, heads or windows folded into the batch axis, einsum) has none that can be cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import fx

from moda_core.structure.axes import order_of
from moda_core.structure.calls import MATMULS, RESHAPES, function_of, keeps, softmax_axis
from moda_core.structure.parts import picked
from moda_core.structure.tracing import TRACED_BATCH, Trace

__all__ = ["HEAD_AXIS", "head_axes", "is_attention"]

HEAD_AXIS = 1
"""Of the heads in the output of attention."""


def is_attention(trace: Trace, node: fx.Node) -> bool:
    """Whether a call multiplies a softmax over the last axis with values, per sample and head."""
    if function_of(node) not in MATMULS or len(node.args) != 2:
        return False
    shapes = [trace.shapes.get(side, ()) for side in node.args if isinstance(side, fx.Node)]
    per_head = len(shapes) == 2 and all(len(shape) == 4 for shape in shapes) and shapes[0][:2] == shapes[1][:2]
    return per_head and shapes[0][0] == TRACED_BATCH and _is_softmaxed(trace, node.args[0])


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
