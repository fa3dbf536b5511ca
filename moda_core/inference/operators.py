"""What torch's functions and layers are among ONNX's operators, for convolutional networks that classify images.

Each function here is called as the torch function that it stands for, with values instead of tensors, and adds
operators to a graph. Settings that ONNX does not have, or has otherwise, are refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the usual name of this module
from torch import nn

from moda_core.inference import activations
from moda_core.inference.selection import Selection
from moda_core.inference.values import SAMPLES, NotLowered, Samples, Value, Writer

__all__ = ["CALLS", "PARTS"]


def _convolution(
    writer: Writer,
    image: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    if isinstance(padding, str) or weight.held is None:
        raise NotLowered("a convolution with padding by name, or with a computed weight")
    return writer.add(
        "Conv",
        [image, weight, bias],
        4,
        **_window(weight.held.shape[2:], stride, padding),
        dilations=_pair(dilation),
        group=groups,
    )


def _linear(writer: Writer, value: Value, weight: Value, bias: Value | None = None) -> Value:
    if value.rank != 2:
        raise NotLowered(f"a linear layer of values with {value.rank} dimensions")
    return writer.add("Gemm", [value, weight, *([] if bias is None else [bias])], 2, transB=1)


def _norm(writer: Writer, part: Any, value: Value) -> Value:
    if part.training or part.running_mean is None or part.weight is None:
        raise NotLowered("a norm without parameters, or by the batch's own statistics")
    held = [writer.constant(one) for one in (part.weight, part.bias, part.running_mean, part.running_var)]
    return writer.add("BatchNormalization", [value, *held], value.rank, epsilon=part.eps)


def _selection(writer: Writer, part: Selection, value: Value) -> Value:
    """A product with zeros and ones where it was one, else taken one by one, with one more channel of zeros for gaps."""
    if part.kernel is not None and value.rank == 4:
        return _convolution(writer, value, writer.constant(part.kernel))
    if part.put is None:
        return writer.add("Gather", [value, writer.constant(part.take)], value.rank, axis=part.axis)
    sources = torch.full((part.width,), -1).index_copy(0, part.put, part.take)
    one_after = [int(place == value.rank + part.axis) for place in range(2 * value.rank)]
    padded = writer.add("Pad", [value, writer.constant(torch.tensor(one_after))], value.rank)
    return writer.add("Gather", [padded, writer.constant(sources)], value.rank, axis=part.axis)


def _max_pool(
    writer: Writer,
    image: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    if ceil_mode or return_indices:
        raise NotLowered("a pool that rounds sizes up, or tells where it found its values")
    return writer.add(
        "MaxPool",
        [image],
        4,
        **_window(kernel_size, stride or kernel_size, padding),
        dilations=_pair(dilation),
    )


def _average_pool(
    writer: Writer,
    image: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    if ceil_mode or divisor_override is not None:
        raise NotLowered("a pool that rounds sizes up, or divides by a number of its own")
    return writer.add(
        "AveragePool",
        [image],
        4,
        **_window(kernel_size, stride or kernel_size, padding),
        count_include_pad=int(count_include_pad),
    )


def _average_pool_part(writer: Writer, part: nn.AvgPool2d, image: Value) -> Value:
    settings = part.kernel_size, part.stride, part.padding, part.ceil_mode, part.count_include_pad
    return _average_pool(writer, image, *settings, part.divisor_override)


def _pool_to(writer: Writer, image: Value, output_size: Any) -> Value:
    if _pair(output_size) != [1, 1] or image.rank != 4:
        raise NotLowered(f"a pool to {output_size}")
    return writer.add("GlobalAveragePool", [image], 4)


def _mean(writer: Writer, value: Value, dim: Any, keepdim: bool = False) -> Value:
    axes = [dim] if isinstance(dim, int) else list(dim)
    rank = value.rank if keepdim else value.rank - len(axes)
    return writer.add("ReduceMean", [value, writer.constant(torch.tensor(axes))], rank, keepdims=int(keepdim))


def _flatten(writer: Writer, value: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    if start_dim != 1 or end_dim not in {-1, value.rank - 1}:
        raise NotLowered(f"flattened from {start_dim} to {end_dim}")
    return writer.add("Flatten", [value], 2, axis=1)


def _reshape(writer: Writer, value: Value, *sizes: Any) -> Value:
    """With as many samples as before, or as follows from the other sizes."""
    shape = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes
    first, *others = shape
    as_before = first is SAMPLES and value.batched
    if not all(isinstance(size, int) for size in others) or not (as_before or isinstance(first, int)):
        raise NotLowered("a shape that is computed")
    found = writer.add(
        "Reshape", [value, writer.constant(torch.tensor([0 if as_before else first, *others]))], len(shape)
    )
    return replace(found, batched=as_before)


def _size(_writer: Writer, value: Value, dim: int | None = None) -> Samples:
    if dim != 0 or not value.batched:
        raise NotLowered("a size that is not the batch's")
    return SAMPLES


def _expand(writer: Writer, value: Value, *sizes: Any) -> Value:
    """One sample's value for as many as there are."""
    if len(sizes) != value.rank or sizes[0] is not SAMPLES or any(size != -1 for size in sizes[1:]):
        raise NotLowered("a value that is expanded otherwise than for every sample")
    batch = writer.add("Shape", [writer.pixels], 1, start=0, end=1)
    ones = writer.constant(torch.ones(value.rank - 1, dtype=torch.int64))
    expanded = writer.add("Expand", [value, writer.add("Concat", [batch, ones], 1, axis=0)], value.rank)
    return replace(expanded, batched=True)


def _narrow(writer: Writer, value: Value, dim: int, start: int, length: int) -> Value:
    bounds = [writer.constant(torch.tensor([number])) for number in (start, start + length, dim)]
    return writer.add("Slice", [value, *bounds], value.rank)


def _joined(writer: Writer, values: Sequence[Value], dim: int = 0) -> Value:
    return writer.add("Concat", values, values[0].rank, axis=dim)


def _product(writer: Writer, one: Any, other: Any) -> Value:
    return _of_two(writer, "Mul", one, other)


def _sum(writer: Writer, one: Any, other: Any) -> Value:
    return _of_two(writer, "Add", one, other)


def _of_two(writer: Writer, kind: str, *given: Any) -> Value:
    values = [one if isinstance(one, Value) else writer.constant(torch.tensor(float(one))) for one in given]
    return writer.add(kind, values, max(value.rank for value in values))


def _window(kernel_size: Any, stride: Any, padding: Any) -> dict[str, list[int]]:
    """What moves over an image, and how."""
    return {"kernel_shape": _pair(kernel_size), "strides": _pair(stride), "pads": 2 * _pair(padding)}


def _pair(size: Any) -> list[int]:
    """A size for height and one for width."""
    pair = [size, size] if isinstance(size, int) else list(size)
    if len(pair) != 2:
        raise NotLowered(f"{size} for height and width")
    return pair


CALLS: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {
        **activations.CALLS,
        torch.conv2d: _convolution,
        F.linear: _linear,
        torch.max_pool2d: _max_pool,
        F.max_pool2d: _max_pool,
        F.avg_pool2d: _average_pool,
        F.adaptive_avg_pool2d: _pool_to,
        torch.flatten: _flatten,
        torch.cat: _joined,
        operator.add: _sum,
        operator.mul: _product,
        "size": _size,
        "reshape": _reshape,
        "flatten": _flatten,
        "expand": _expand,
        "narrow": _narrow,
        "mean": _mean,
        "mul": _product,
        "mul_": _product,
    }
)
"""By the function that a node calls, or the name of a method."""

PARTS: Mapping[type[nn.Module], Callable[..., Any]] = MappingProxyType(
    {
        **activations.PARTS,
        Selection: _selection,
        nn.BatchNorm2d: _norm,
        nn.AvgPool2d: _average_pool_part,
        nn.AdaptiveAvgPool2d: lambda writer, part, image: _pool_to(writer, image, part.output_size),
        nn.Flatten: lambda writer, part, value: _flatten(writer, value, part.start_dim, part.end_dim),
    }
)
"""By the kind of a layer, which comes first among the arguments."""
