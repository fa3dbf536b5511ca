"""What torch's functions and layers are among ONNX's operators, for convolutional networks that classify images.

Each function here is called as the torch function that it stands for, with values instead of tensors, and adds
operators to a graph. Settings that ONNX does not have, or has otherwise, are refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable

import torch
import torch.nn.functional as F  # noqa: N812  # the usual name of this module
from torch import Tensor, nn

from moda_core.inference.selection import Selection

__all__ = ["ACTIVATIONS", "CALLS", "PARTS", "SAMPLES", "NotLowered", "Samples", "Value", "Writer"]


class NotLowered(Exception):
    """A call for which no operator is known."""


@dataclass(frozen=True)
class Value:
    """What flows between operators.

    Attributes:
        rank: how many dimensions it has.
        held: the tensor, if it is one of the network's own.
    """

    name: str
    rank: int
    held: Tensor | None = None


@dataclass(frozen=True)
class Samples:
    """How many images there are, as a size among others."""


SAMPLES: Final = Samples()


@runtime_checkable
class Writer(Protocol):
    """What operators are added to."""

    pixels: Value

    def add(self, kind: str, values: Sequence[Value | None], rank: int, **attributes: Any) -> Value:
        """An operator's output, of so many dimensions; an input that is left out is None."""

    def constant(self, tensor: Tensor) -> Value:
        """A tensor of the network's, or one that an operator reads."""


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
        kernel_shape=list(weight.held.shape[2:]),
        strides=_pair(stride),
        pads=2 * _pair(padding),
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
    added = [0] * 2 * value.rank
    added[value.rank + part.axis] = 1
    padded = writer.add("Pad", [value, writer.constant(torch.tensor(added))], value.rank)
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
        kernel_shape=_pair(kernel_size),
        strides=_pair(stride or kernel_size),
        pads=2 * _pair(padding),
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
        kernel_shape=_pair(kernel_size),
        strides=_pair(stride or kernel_size),
        pads=2 * _pair(padding),
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
    shape = [0 if size is SAMPLES else size for size in (sizes[0] if len(sizes) == 1 else sizes)]
    if not all(isinstance(size, int) for size in shape) or SAMPLES in sizes[1:]:
        raise NotLowered(f"a shape of {len(shape)} dimensions that is computed")
    return writer.add("Reshape", [value, writer.constant(torch.tensor(shape))], len(shape))


def _size(_writer: Writer, value: Value, dim: int | None = None) -> Samples:
    if dim != 0 or value.held is not None:
        raise NotLowered("a size that is not the batch's")
    return SAMPLES


def _expand(writer: Writer, value: Value, *sizes: Any) -> Value:
    """One sample's value for as many as there are."""
    if sizes[0] is not SAMPLES or any(size != -1 for size in sizes[1:]):
        raise NotLowered("a value that is expanded otherwise than for every sample")
    batch = writer.add("Shape", [writer.pixels], 1, start=0, end=1)
    ones = writer.constant(torch.ones(value.rank - 1, dtype=torch.int64))
    return writer.add("Expand", [value, writer.add("Concat", [batch, ones], 1, axis=0)], value.rank)


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


def _gelu(writer: Writer, value: Value, *, approximate: str = "none") -> Value:
    return writer.add("Gelu", [value], value.rank, approximate=approximate)


def _relu6(writer: Writer, value: Value, inplace: bool = False) -> Value:  # noqa: ARG001 # torch's
    bounds = [writer.constant(torch.tensor(bound)) for bound in (0.0, 6.0)]
    return writer.add("Clip", [value, *bounds], value.rank)


def _silu(writer: Writer, value: Value, inplace: bool = False) -> Value:  # noqa: ARG001 # torch's
    return writer.add("Mul", [value, writer.add("Sigmoid", [value], value.rank)], value.rank)


def _leaky_relu(writer: Writer, value: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:  # noqa: ARG001 # torch's
    return writer.add("LeakyRelu", [value], value.rank, alpha=negative_slope)


def _elu(writer: Writer, value: Value, alpha: float = 1.0, inplace: bool = False) -> Value:  # noqa: ARG001 # torch's
    return writer.add("Elu", [value], value.rank, alpha=alpha)


def _of_one(kind: str, **attributes: Any) -> Callable[..., Value]:
    """What a function of one value does; that it may overwrite it is torch's affair."""

    def write(writer: Writer, value: Value, inplace: bool = False) -> Value:  # noqa: ARG001 # torch's
        return writer.add(kind, [value], value.rank, **attributes)

    return write


def _part_of_one(kind: str, **attributes: Any) -> Callable[..., Value]:
    write = _of_one(kind, **attributes)
    return lambda writer, _part, value: write(writer, value)


def _pair(size: Any) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


ACTIVATIONS = frozenset({F.relu6, F.silu, F.hardswish, F.leaky_relu, F.elu})
"""Functions whose last argument may say that they overwrite what they read."""

_HARD_SIGMOID = {"alpha": 1 / 6, "beta": 0.5}

CALLS: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {
        torch.conv2d: _convolution,
        F.linear: _linear,
        torch.relu: _of_one("Relu"),
        torch.relu_: _of_one("Relu"),
        torch.sigmoid: _of_one("Sigmoid"),
        F.gelu: _gelu,
        F.relu6: _relu6,
        F.silu: _silu,
        F.hardswish: _of_one("HardSwish"),
        F.leaky_relu: _leaky_relu,
        F.elu: _elu,
        torch.max_pool2d: _max_pool,
        F.max_pool2d: _max_pool,
        F.avg_pool2d: _average_pool,
        F.adaptive_avg_pool2d: _pool_to,
        torch.flatten: _flatten,
        torch.cat: _joined,
        operator.add: _sum,
        operator.mul: _product,
        "relu": _of_one("Relu"),
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
        Selection: _selection,
        nn.BatchNorm2d: _norm,
        nn.AvgPool2d: _average_pool_part,
        nn.AdaptiveAvgPool2d: lambda writer, part, image: _pool_to(writer, image, part.output_size),
        nn.Flatten: lambda writer, part, value: _flatten(writer, value, part.start_dim, part.end_dim),
        nn.ReLU: _part_of_one("Relu"),
        nn.ReLU6: lambda writer, _part, value: _relu6(writer, value),
        nn.GELU: lambda writer, part, value: _gelu(writer, value, approximate=part.approximate),
        nn.SiLU: lambda writer, _part, value: _silu(writer, value),
        nn.Hardswish: _part_of_one("HardSwish"),
        nn.LeakyReLU: lambda writer, part, value: _leaky_relu(writer, value, part.negative_slope),
        nn.ELU: lambda writer, part, value: _elu(writer, value, part.alpha),
        nn.Sigmoid: _part_of_one("Sigmoid"),
        nn.Hardsigmoid: _part_of_one("HardSigmoid", **_HARD_SIGMOID),
    }
)
"""By the kind of a layer, which comes first among the arguments."""
