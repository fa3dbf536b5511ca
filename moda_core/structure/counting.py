"""Shapes and floating-point operations of calls on the meta device, without torch's compiler.

torch works out most shapes in Python, and `torch.utils.flop_counter.FlopCounterMode` counts operations there. Both
import the compiler, only to keep it out of their way: a second or two and 70 MB, which a service would pay before its
first answer. So the operations that our own convolutional networks are made of have their shapes worked out here;
every other one is torch's to do, at that price.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["OperationCounter"]

_aten = torch.ops.aten


class OperationCounter(TorchDispatchMode):
    """Counts what is called meanwhile, as `FlopCounterMode` does: a multiply-add is two.

    Attributes:
        flops: so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False, or torch wraps `__torch_dispatch__` in something that imports its compiler."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The result of an operation, or of those that it is made of."""
        named, result = kwargs or {}, None
        if func in _WORKED_OUT and not named and _is_plain(args):
            result = _WORKED_OUT[func](*args)
        if result is None:
            with self:
                result = func.decompose(*args, **named)
            if result is not NotImplemented:
                return result
            result = func(*args, **named)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **named, out_val=result)
        return result


def _is_plain(args: Sequence[Any]) -> bool:
    """Whether the first operand is contiguous, as the result then is, and all are on the meta device."""
    return bool(args[0].is_contiguous()) and all(one.is_meta for one in args if isinstance(one, Tensor))


# Each gives None for what is rarer than its own case, in its layout too, and for what is an error: that is torch's
# to tell.


def _empty(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device="meta")


def _same_shape(values: Tensor) -> Tensor:
    return _empty(values, *values.shape)


def _sum(one: Tensor, other: Any) -> Tensor | None:
    if not isinstance(other, Tensor) or not other.is_contiguous():
        return None
    return _same_shape(one) if (one.shape, one.dtype) == (other.shape, other.dtype) else None


def _addmm(bias: Tensor, rows: Tensor, columns: Tensor) -> Tensor | None:
    fits = rows.shape[1] == columns.shape[0] and bias.shape == columns.shape[1:]
    return _empty(rows, rows.shape[0], columns.shape[1]) if fits and bias.dtype == rows.dtype == columns.dtype else None


def _mean(values: Tensor, axes: Sequence[int] | None, keeps_axes: bool = False) -> Tensor | None:
    if not axes or not all(-values.ndim <= axis < values.ndim for axis in axes):
        return None
    gone = {axis % values.ndim for axis in axes}
    if len(gone) < len(axes) or not values.is_floating_point():
        return None
    kept = [1 if axis in gone else size for axis, size in enumerate(values.shape) if keeps_axes or axis not in gone]
    return _empty(values, *kept)


def _convolution(image: Tensor, weight: Tensor, _bias: Tensor | None, *how: Any) -> Tensor | None:
    strides, paddings, dilations, transposed, _, groups = how
    fits = image.ndim == weight.ndim and 0 < image.shape[1] == weight.shape[1] * groups
    if transposed or not fits or not weight.is_contiguous():
        return None
    sizes = _places(image.shape[2:], weight.shape[2:], strides, paddings, dilations)
    return _empty(image, image.shape[0], weight.shape[0], *sizes) if sizes else None


def _batch_norm(image: Tensor, *vectors_and_how: Any) -> tuple[Tensor, ...] | None:
    fits = image.ndim > 1 and all(one is None or one.shape == image.shape[1:2] for one in vectors_and_how[:4])
    return (_same_shape(image), _empty(image, 0), _empty(image, 0)) if fits else None  # nothing reads the last two


def _max_pool(
    image: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int] = (),
    paddings: Sequence[int] = (0, 0),
    dilations: Sequence[int] = (1, 1),
    rounds_up: bool = False,
) -> tuple[Tensor, Tensor] | None:
    too_wide = any(2 * padding > size for padding, size in zip(paddings, kernel, strict=False))
    if image.ndim != 4 or rounds_up or too_wide:
        return None
    sizes = _places(image.shape[2:], kernel, strides or kernel, paddings, dilations)
    if sizes is None:
        return None
    shape = (*image.shape[:2], *sizes)
    return _empty(image, *shape), torch.empty(shape, dtype=torch.int64, device="meta")


def _adaptive_pool(image: Tensor, sizes: Sequence[int]) -> Tensor | None:
    return _empty(image, *image.shape[:2], *sizes) if image.ndim == 4 else None


def _places(*axes: Sequence[int]) -> list[int] | None:
    """How many places a kernel takes along each axis of an image; None where it has none.

    Args:
        axes: sizes of the image and of the kernel, strides, paddings and dilations; one of each per axis.
    """
    if len({len(one) for one in axes}) > 1:
        return None
    places = [
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, padding, dilation in zip(*axes, strict=True)
    ]
    return places if min(places) > 0 else None


_WORKED_OUT: Mapping[Any, Callable[..., Any]] = {
    _aten.convolution.default: _convolution,
    _aten.native_batch_norm.default: _batch_norm,
    _aten.max_pool2d_with_indices.default: _max_pool,
    _aten._adaptive_avg_pool2d.default: _adaptive_pool,
    _aten.mean.dim: _mean,
    _aten.addmm.default: _addmm,
    _aten.add.Tensor: _sum,
    _aten.relu.default: _same_shape,
    _aten.gelu.default: _same_shape,
}
