"""Where a value's channel axis is after a call that moves axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from moda_core.structure.operations import Value

__all__ = ["conventional_axis", "moved_axis"]


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


def moved_axis(function: Any, node: fx.Node, value: Value) -> int | None:
    """The channel axis after a permute, transpose or mean of `value`; None for anything else."""
    find = _MOVES.get(function)
    if find is None or value.axis is None:
        return None
    return find(value.axis, len(value.shape), list(node.args[1:]), dict(node.kwargs))


def _permuted(axis: int, dims: int, arguments: list[Any], keywords: dict[str, Any]) -> int | None:
    order = keywords.get("dims", arguments[0] if len(arguments) == 1 else arguments)
    return [int(dim) % dims for dim in order].index(axis)


def _transposed(axis: int, dims: int, arguments: list[Any], keywords: dict[str, Any]) -> int | None:
    if keywords or len(arguments) != 2:
        return None
    first, second = (int(dim) % dims for dim in arguments)
    return {first: second, second: first}.get(axis, axis)


def _averaged(axis: int, dims: int, arguments: list[Any], keywords: dict[str, Any]) -> int | None:
    reduced = arguments[0] if arguments else keywords.get("dim")
    if reduced is None or "dtype" in keywords:
        return None
    axes = [int(dim) % dims for dim in (reduced if isinstance(reduced, list | tuple) else [reduced])]
    if axis in axes:
        return None
    keeps = arguments[1] if len(arguments) > 1 else keywords.get("keepdim", False)
    return axis if keeps else axis - sum(other < axis for other in axes)


_MOVES: Mapping[Callable[..., Any], Callable[[int, int, list[Any], dict[str, Any]], int | None]] = {
    torch.permute: _permuted,
    torch.transpose: _transposed,
    torch.mean: _averaged,
}
