"""Activations among ONNX's operators, called as the torch functions are; that these may overwrite is torch's affair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the usual name of this module
from torch import nn

from moda_core.inference.values import Value, Writer

__all__ = ["CALLS", "MAY_OVERWRITE", "PARTS"]


def _gelu(writer: Writer, value: Value, *, approximate: str = "none") -> Value:
    return writer.add("Gelu", [value], value.rank, approximate=approximate)


def _relu6(writer: Writer, value: Value, inplace: bool = False) -> Value:  # noqa: ARG001 # torch's
    bounds = [writer.constant(torch.tensor(bound)) for bound in (0.0, 6.0)]
    return writer.add("Clip", [value, *bounds], value.rank)


def _silu(writer: Writer, value: Value, inplace: bool = False) -> Value:  # noqa: ARG001 # torch's
    return writer.add("Mul", [value, writer.add("Sigmoid", [value], value.rank)], value.rank)


def _leaky_relu(
    writer: Writer,
    value: Value,
    negative_slope: float = 0.01,
    inplace: bool = False,  # noqa: ARG001 # torch's
) -> Value:
    return writer.add("LeakyRelu", [value], value.rank, alpha=negative_slope)


def _elu(writer: Writer, value: Value, alpha: float = 1.0, inplace: bool = False) -> Value:  # noqa: ARG001 # torch's
    return writer.add("Elu", [value], value.rank, alpha=alpha)


def _of_one(kind: str, **attributes: Any) -> Callable[..., Value]:
    """What a function without settings does."""

    def write(writer: Writer, value: Value, inplace: bool = False) -> Value:  # noqa: ARG001 # torch's
        return writer.add(kind, [value], value.rank, **attributes)

    return write


def _part_of_one(kind: str, **attributes: Any) -> Callable[..., Value]:
    write = _of_one(kind, **attributes)
    return lambda writer, _part, value: write(writer, value)


_HARD_SIGMOID = {"alpha": 1 / 6, "beta": 0.5}

CALLS: Mapping[Any, Callable[..., Value]] = MappingProxyType(
    {
        torch.relu: _of_one("Relu"),
        torch.relu_: _of_one("Relu"),
        torch.sigmoid: _of_one("Sigmoid"),
        F.gelu: _gelu,
        F.relu6: _relu6,
        F.silu: _silu,
        F.hardswish: _of_one("HardSwish"),
        F.leaky_relu: _leaky_relu,
        F.elu: _elu,
        "relu": _of_one("Relu"),
    }
)
"""By the function that a node calls, or the name of a method."""

MAY_OVERWRITE = frozenset({F.relu6, F.silu, F.hardswish, F.leaky_relu, F.elu})
"""Functions whose last argument may say that they overwrite what they read."""

PARTS: Mapping[type[nn.Module], Callable[..., Value]] = MappingProxyType(
    {
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
