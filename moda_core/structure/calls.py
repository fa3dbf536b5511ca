"""Which function a traced call is, or is like: functions, methods and operators in one form."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the usual name of this module
from torch import fx, nn

from moda_core.structure.tracing import Trace

__all__ = ["KEEPING", "MATMULS", "PRODUCTS", "RESHAPES", "argument", "function_of", "keeps", "softmax_axis"]

Function = Callable[..., Any]

PRODUCTS: frozenset[Function] = frozenset({operator.mul, operator.imul, torch.mul})
"""Functions that multiply two values element by element."""

MATMULS: frozenset[Function] = frozenset({operator.matmul, torch.matmul})
"""Functions that multiply matrices, one pair per index of the axes before the last two."""

RESHAPES: frozenset[Function] = frozenset({torch.flatten, torch.reshape})
"""Functions that keep the order of elements."""

KEEPING: frozenset[Function] = frozenset({torch.clone, F.dropout, F.dropout1d, F.dropout2d, F.dropout3d})
"""Functions that keep shape and zeros."""

_DROPOUTS = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_SOFTMAXES: frozenset[Function] = frozenset({F.softmax, torch.softmax})
_METHODS: Mapping[str, Function] = {
    "add": operator.add, "add_": operator.add, "mul": operator.mul, "mul_": operator.mul, "div": operator.truediv,
    "sigmoid": torch.sigmoid, "mean": torch.mean, "permute": torch.permute, "transpose": torch.transpose,
    "flatten": torch.flatten, "view": torch.reshape, "reshape": torch.reshape, "unflatten": torch.reshape,
    "contiguous": torch.clone, "clone": torch.clone, "matmul": torch.matmul, "softmax": torch.softmax,
    "unbind": torch.unbind, "select": torch.select, "chunk": torch.chunk, "split": torch.split,
}  # fmt: skip
"""Methods, by a function that treats channels alike."""


def function_of(node: fx.Node) -> Any:
    """The function that a call is, or is like; None for modules."""
    if node.op == "call_function":
        return node.target
    return _METHODS.get(str(node.target)) if node.op == "call_method" else None


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """An argument of a call, by its place or its name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def keeps(trace: Trace, node: fx.Node) -> bool:
    """Whether a call hands its one input on, in shape and in zeros: dropout, copies."""
    if node.op == "call_module":
        return isinstance(trace.module.get_submodule(str(node.target)), _DROPOUTS)
    return function_of(node) in KEEPING


def softmax_axis(trace: Trace, node: fx.Node) -> int | None:
    """The axis over which a softmax is taken, counted from the first; None for other calls."""
    if node.op == "call_module":
        part = trace.module.get_submodule(str(node.target))
        dim = part.dim if isinstance(part, nn.Softmax) else None
    else:
        dim = argument(node, 1, "dim") if function_of(node) in _SOFTMAXES else None
    return dim % len(trace.shapes[node]) if isinstance(dim, int) and node in trace.shapes else None
