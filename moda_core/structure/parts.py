"""One part of a value along one axis: what unbind, chunk, split, select and indexing give."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from moda_core.structure.axes import order_of
from moda_core.structure.calls import argument, function_of
from moda_core.structure.tracing import TRACED_BATCH, Trace

__all__ = ["Part", "picked"]


@dataclass(frozen=True)
class Part:
    """Positions of a value along one axis.

    Attributes:
        source: the value.
        axis: along which it is divided.
        start: the first position.
        length: how many; None for one, whose axis vanishes.
        order: of the source's axes, where they are permuted first; `axis` counts after that.
    """

    source: fx.Node
    axis: int
    start: int
    length: int | None
    order: tuple[int, ...] | None = None

    def divides(self, axis: int) -> bool:
        """Whether the part lies along this axis of the source."""
        return self._ordered(axis) == self.axis

    def axis_before(self, axis: int) -> int:
        """Where an axis of the part is in the source."""
        ordered = axis + (self.length is None and axis >= self.axis)
        return ordered if self.order is None else self.order[ordered]

    def axis_after(self, axis: int) -> int | None:
        """Where an axis of the source is in the part; None if it vanishes."""
        if self.length is not None:
            return self._ordered(axis)
        return None if self.divides(axis) else self._ordered(axis) - (self._ordered(axis) > self.axis)

    def _ordered(self, axis: int) -> int:
        return axis if self.order is None else self.order.index(axis)


def picked(trace: Trace, node: fx.Node) -> Part | None:
    """What part of which value a call is; None for other calls.

    A part of a value whose batch is not first, ``qkv.permute(2, 0, 3, 1, 4)[0]``, is a part of the value
    before it was permuted.
    """
    part = _part(trace, node)
    if part is None:
        return None
    shape = trace.shapes[part.source]
    order = order_of(part.source, len(shape))
    if shape[0] == TRACED_BATCH or order is None:
        return part
    (source,) = part.source.all_input_nodes
    return Part(source, part.axis, part.start, part.length, order)


def _part(trace: Trace, node: fx.Node) -> Part | None:
    function = function_of(node)
    source = node.args[0] if node.args else None
    if function not in {operator.getitem, torch.select} or not isinstance(source, fx.Node):
        return None
    if function is torch.select:
        return _indexed(trace, source, argument(node, 1, "dim"), argument(node, 2, "index"))
    if source in trace.shapes:
        return _located(trace, source, node.args[1])
    return _of_division(trace, source, node.args[1])


def _indexed(trace: Trace, source: fx.Node, dim: Any, index: Any) -> Part | None:
    """One position, or a slice, of one axis."""
    shape = trace.shapes.get(source)
    if shape is None or not isinstance(dim, int):
        return None
    axis = dim % len(shape)
    if isinstance(index, int):
        return Part(source, axis, index % shape[axis], None)
    bounds = isinstance(index, slice) and all(isinstance(end, int | None) for end in (index.start, index.stop))
    if not bounds or index.step not in {None, 1}:
        return None
    start, stop, _ = index.indices(shape[axis])
    return Part(source, axis, start, stop - start) if stop > start else None


def _located(trace: Trace, source: fx.Node, index: Any) -> Part | None:
    """``value[:, :, i]``: one axis is indexed, those before it are whole."""
    *before, last = index if isinstance(index, tuple) and index else (index,)
    whole = all(isinstance(one, slice) and one == slice(None) for one in before)
    return _indexed(trace, source, len(before), last) if whole else None


def _of_division(trace: Trace, division: fx.Node, place: Any) -> Part | None:
    """``value.unbind(2)[i]``, ``value.chunk(3, -1)[i]`` or ``value.split(size, -1)[i]``."""
    function, source = function_of(division), division.args[0] if division.args else None
    if not isinstance(source, fx.Node) or source not in trace.shapes or not isinstance(place, int) or place < 0:
        return None
    if function is torch.unbind:
        return _indexed(trace, source, argument(division, 1, "dim", 0), place)
    if function not in {torch.chunk, torch.split}:
        return None
    dim = argument(division, 2, "dim", 0)
    given = argument(division, 1, "chunks" if function is torch.chunk else "split_size")
    return _indexed(trace, source, dim, _section(trace.shapes[source], dim, given, place, function is torch.chunk))


def _section(shape: tuple[int, ...], dim: Any, given: Any, place: int, chunks: bool) -> slice | None:
    """Where the section at `place` lies: of so many chunks, of sections of one length, or of given lengths."""
    if isinstance(given, list | tuple) and all(isinstance(length, int) for length in given):
        return slice(sum(given[:place]), sum(given[: place + 1]))
    if not isinstance(given, int) or not isinstance(dim, int):
        return None
    length = -(-shape[dim] // given) if chunks else given
    return slice(place * length, (place + 1) * length)
