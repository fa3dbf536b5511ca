"""Where a value's channel axis is after a call that moves axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from moda_core.structure.calls import argument, function_of
from moda_core.structure.operations import Value

__all__ = ["Regrouped", "conventional_axis", "merged", "moved_axis", "order_of", "split"]


def conventional_axis(shape: tuple[int, ...], inputs: tuple[Value, ...]) -> int | None:
    """The channel axis of an unknown call's output: as before, or by its number of axes.

    Axis 1 of a matrix or of images, the last one of tokens; None for what is no batch of vectors.
    """
    if len(shape) < 2:
        return None
    for value in inputs:
        if value.axis is not None and len(value.shape) == len(shape):
            return value.axis
    return 1 if len(shape) in (2, 4) else len(shape) - 1


def moved_axis(node: fx.Node, value: Value) -> int | None:
    """The channel axis after a permute, transpose or mean of `value`; None for anything else."""
    if value.axis is None:
        return None
    if function_of(node) is torch.mean:
        return _averaged(value.axis, len(value.shape), list(node.args[1:]), dict(node.kwargs))
    order = order_of(node, len(value.shape))
    return None if order is None else order.index(value.axis)


def order_of(node: fx.Node, dims: int) -> tuple[int, ...] | None:
    """Where each axis of a permute's or transpose's output was; None for other calls."""
    if function_of(node) is torch.permute:
        order: Any = argument(node, 1, "dims") if len(node.args) <= 2 else node.args[1:]
        return tuple(dim % dims for dim in order) if _whole(order) else None
    swapped = argument(node, 1, "dim0"), argument(node, 2, "dim1")
    if function_of(node) is torch.transpose and _whole(swapped):
        first, second = (dim % dims for dim in swapped)
        return tuple({first: second, second: first}.get(axis, axis) for axis in range(dims))
    return None


def _whole(dims: Any) -> bool:
    """Whether axes are given as numbers, and not computed while the network runs."""
    return isinstance(dims, list | tuple) and all(isinstance(dim, int) for dim in dims)


def _averaged(axis: int, dims: int, arguments: list[Any], keywords: dict[str, Any]) -> int | None:
    reduced = arguments[0] if arguments else keywords.get("dim")
    if reduced is None or "dtype" in keywords:
        return None
    axes = [int(dim) % dims for dim in (reduced if isinstance(reduced, list | tuple) else [reduced])]
    if axis in axes:
        return None
    keeps = arguments[1] if len(arguments) > 1 else keywords.get("keepdim", False)
    return axis if keeps else axis - sum(other < axis for other in axes)


@dataclass(frozen=True)
class Regrouped:
    """A reshape seen from the channel axis: one axis counts (before, channels, after), in this order.

    Attributes:
        axis: of the channels in the reshape's output.
        before, after: positions that are joined with each channel, or were.
    """

    axis: int
    before: int
    after: int


def merged(value: Value, shape: tuple[int, ...]) -> Regrouped | None:
    """A reshape that joins the channel axis with its neighbours, or folds only axes behind it."""
    if value.axis is None:
        return None
    alike = _alike(value.shape, shape)
    if alike > value.axis:
        return Regrouped(value.axis, 1, 1)
    axis = min(alike, len(shape) - 1)
    end = len(value.shape) - (len(shape) - axis - 1)
    if axis == 0 or end <= value.axis or value.shape[end:] != shape[axis + 1 :]:
        return None
    return Regrouped(axis, math.prod(value.shape[axis : value.axis]), math.prod(value.shape[value.axis + 1 : end]))


def split(value: Value, shape: tuple[int, ...], axis: int) -> Regrouped | None:
    """A reshape that makes several axes of the channel axis, of which `axis` has the channels from then on."""
    if value.axis is None:
        return None
    end = len(shape) - (len(value.shape) - value.axis - 1)
    if shape[: value.axis] != value.shape[: value.axis] or shape[end:] != value.shape[value.axis + 1 :]:
        return None
    if not value.axis <= axis < end:
        return None
    return Regrouped(axis, math.prod(shape[value.axis : axis]), math.prod(shape[axis + 1 : end]))


def _alike(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many leading axes two shapes have in common."""
    differing = (place for place, (size, beside) in enumerate(zip(one, other, strict=False)) if size != beside)
    return next(differing, min(len(one), len(other)))
