"""Which operation a traced call is.

The tables name what is understood. Whatever is not named here, or is named but used in an unusual
way (a convolution that is called twice, a sum of values whose channels lie on different axes, a value
whose first axis is not the batch), is `Opaque`, and the sliced model stays right.
"""

from __future__ import annotations

import operator
from collections import Counter

import torch
import torch.nn.functional as F  # noqa: N812  # the usual name of this module
from torch import fx, nn

from moda_core.structure.attention import HEAD_AXIS, head_axes, is_attention
from moda_core.structure.axes import conventional_axis, merged, moved_axis, split
from moda_core.structure.calls import MATMULS, PRODUCTS, RESHAPES, function_of, keeps, softmax_axis
from moda_core.structure.operations import (
    Add,
    Batch,
    Concatenate,
    Convolution,
    Input,
    Linear,
    Matmul,
    Multiply,
    Norm,
    Opaque,
    Operation,
    Pointwise,
    Value,
)
from moda_core.structure.parts import Part, picked
from moda_core.structure.regrouping import Merge, Pick, Section, Split
from moda_core.structure.tracing import TRACED_BATCH, Trace, is_activation

__all__ = ["is_dense", "is_gate", "operations"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
    nn.Upsample,
)  # fmt: skip
_GATES = (nn.Sigmoid, nn.Hardsigmoid)
_POOL_FUNCTIONS = frozenset(
    {F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.max_pool2d, F.interpolate}
)
_GATE_FUNCTIONS = frozenset({torch.sigmoid, F.sigmoid, F.hardsigmoid})
_SUMS = frozenset({operator.add, operator.iadd, torch.add})
_SCALINGS = PRODUCTS | {operator.truediv, torch.div}
_CONCATENATIONS = frozenset({torch.cat, torch.concat, torch.concatenate})


def is_gate(trace: Trace, node: fx.Node) -> bool:
    """Whether a node is a sigmoid or hardsigmoid that multiplies some value."""
    return _is_sigmoid(trace, node) and any(function_of(user) in PRODUCTS for user in node.users)


def is_dense(trace: Trace, node: fx.Node) -> bool:
    """Whether a node is a call of a convolution, a linear layer, or a module that holds one."""
    if node.op != "call_module":
        return node.op == "call_function" and node.target in {F.linear, F.conv2d}
    part = trace.module.get_submodule(str(node.target))
    return any(parameter.dim() > 1 for parameter in part.parameters())


def operations(trace: Trace) -> dict[fx.Node, Operation]:
    """An operation for each call of a trace, in order."""
    reader = _Reader(trace)
    for node in trace.graph.nodes:
        if node.op != "output":
            reader.read(node)
    return reader.operations


def _is_sigmoid(trace: Trace, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(trace.module.get_submodule(str(node.target)), _GATES)
    return function_of(node) in _GATE_FUNCTIONS


class _Reader:
    """Turns nodes into operations, in order."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.head_axes = trace, head_axes(trace)
        self.operations: dict[fx.Node, Operation] = {}
        calls = [node for node in trace.graph.nodes if node.op == "call_module"]
        self._uses = Counter(id(tensor) for node in calls for tensor in self._called(node).parameters())
        self._uses.update(id(tensor) for node in calls for tensor in self._called(node).buffers())
        alone = [str(node.target) for node in trace.graph.nodes if node.op == "get_attr"]
        states = trace.module.state_dict(keep_vars=True)
        self._uses.update(id(states[name]) for name in alone if name in states)

    def read(self, node: fx.Node) -> None:
        sources = tuple(node.all_input_nodes)
        inputs = tuple(self.operations[source].output for source in sources)
        self.operations[node] = self._operation(node, sources, inputs)

    def _called(self, node: fx.Node) -> nn.Module:
        return self.trace.module.get_submodule(str(node.target))

    def _operation(self, node: fx.Node, sources: tuple[fx.Node, ...], inputs: tuple[Value, ...]) -> Operation:
        if node.op == "placeholder":
            return Input(node, Value(self.trace.shapes[node], 1), sources, inputs)
        if self._reads_shape(node) and inputs[0].shape[:1] == (TRACED_BATCH,):
            return Batch(node, Value((), None), sources, inputs)
        if node.op == "get_attr" or self.trace.shapes.get(node, ())[:1] != (TRACED_BATCH,):
            return self._opaque(node, sources, inputs)
        if part := picked(self.trace, node):
            return self._part(node, part) or self._opaque(node, sources, inputs)
        unknown = any(value.axis is None for value in inputs) and not self._is_reshape(node)
        if not inputs or unknown:
            return self._opaque(node, sources, inputs)
        return (self._module if node.op == "call_module" else self._call)(node, sources, inputs)

    def _reads_shape(self, node: fx.Node) -> bool:
        if node.op == "call_method":
            return node.target == "size"
        return node.op == "call_function" and node.target is getattr and node.args[1] == "shape"

    def _is_reshape(self, node: fx.Node) -> bool:
        return function_of(node) in RESHAPES

    def _opaque(self, node: fx.Node, sources: tuple[fx.Node, ...], inputs: tuple[Value, ...]) -> Operation:
        shape = self.trace.shapes.get(node, ())
        axis = HEAD_AXIS if is_attention(self.trace, node) else conventional_axis(shape, inputs)
        return Opaque(node, Value(shape, axis), sources, inputs, self.trace.flops[node])

    def _alone(self, node: fx.Node) -> bool:
        """Whether a module's parameters serve this call only."""
        part = self._called(node)
        return all(self._uses[id(tensor)] == 1 for tensor in (*part.parameters(), *part.buffers()))

    def _module(self, node: fx.Node, sources: tuple[fx.Node, ...], inputs: tuple[Value, ...]) -> Operation:
        if node not in self.trace.shapes or len(sources) != 1:
            return self._opaque(node, sources, inputs)
        part = self._called(node)
        found = self._dense(node, part, sources, inputs) if self._alone(node) else None
        return found or self._plain(node, part, sources, inputs) or self._opaque(node, sources, inputs)

    def _dense(
        self, node: fx.Node, part: nn.Module, sources: tuple[fx.Node, ...], inputs: tuple[Value, ...]
    ) -> Operation | None:
        """A module with parameters of its own that is understood."""
        shape, axis = self.trace.shapes[node], inputs[0].axis
        if isinstance(part, _CONVOLUTIONS) and (axis == 1 or part.groups == 1):
            return Convolution(node, Value(shape, 1), sources, inputs, axis == 1, part.groups, part.kernel_size)
        if type(part) is nn.Linear:
            last = len(shape) - 1
            return Linear(node, Value(shape, last), sources, inputs, axis == last)
        if isinstance(part, _NORMS) and axis == 1:
            return Norm(node, Value(shape, 1), sources, inputs)
        return None

    def _plain(
        self, node: fx.Node, part: nn.Module, sources: tuple[fx.Node, ...], inputs: tuple[Value, ...]
    ) -> Operation | None:
        """A module without parameters that is understood."""
        output = Value(self.trace.shapes[node], inputs[0].axis)
        if isinstance(part, nn.Flatten | nn.Unflatten):
            return self._reshape(node, sources, inputs)
        if keeps(self.trace, node) or (isinstance(part, _POOLS) and output.axis == 1):
            return Pointwise(node, output, sources, inputs)
        if isinstance(part, _GATES) or self._is_softmax(node, output):
            return Pointwise(node, output, sources, inputs, keeps_zero=False)
        return None

    def _is_softmax(self, node: fx.Node, output: Value) -> bool:
        """Whether a call is a softmax over another axis than the channels'."""
        axis = softmax_axis(self.trace, node)
        return axis is not None and axis != output.axis

    def _reshape(self, node: fx.Node, sources: tuple[fx.Node, ...], inputs: tuple[Value, ...]) -> Operation | None:
        """A reshape that leaves the batch alone, and the channels together or in heads."""
        shape, value = self.trace.shapes[node], inputs[0]
        if len(shape) < 2 or value.shape[:1] != shape[:1]:
            return None
        if joined := merged(value, shape):
            return Merge(node, Value(shape, joined.axis), sources[:1], inputs[:1], joined.before, joined.after)
        divided = split(value, shape, self.head_axes[node]) if node in self.head_axes else None
        if divided is None:
            return None
        return Split(node, Value(shape, divided.axis), sources[:1], inputs[:1], divided.before, divided.after)

    def _part(self, node: fx.Node, part: Part) -> Operation | None:
        """Some positions along one axis of a value whose batch is first, stays so, and is not what is divided."""
        value, shape = self.operations[part.source].output, self.trace.shapes[node]
        if value.axis is None or value.shape[0] != TRACED_BATCH or part.axis_after(0) != 0 or part.divides(0):
            return None
        axis, arguments = part.axis_after(value.axis), ((part.source,), (value,))
        if axis is None:
            return None
        if not part.divides(value.axis):
            return Pick(node, Value(shape, axis), *arguments, part=part)
        return Section(node, Value(shape, axis), *arguments, part.start) if part.order is None else None

    def _call(self, node: fx.Node, sources: tuple[fx.Node, ...], inputs: tuple[Value, ...]) -> Operation:
        if node not in self.trace.shapes:
            return self._opaque(node, sources, inputs)
        if function_of(node) in RESHAPES:
            return self._reshape(node, sources, inputs) or self._opaque(node, sources, inputs)
        if len(sources) > 1 or function_of(node) in _CONCATENATIONS:
            return self._joining(node, sources, inputs)
        return self._pointwise(node, sources, inputs) or self._opaque(node, sources, inputs)

    def _pointwise(self, node: fx.Node, sources: tuple[fx.Node, ...], inputs: tuple[Value, ...]) -> Operation | None:
        """A function or method of one value that treats channels alike."""
        shape, function, value = self.trace.shapes[node], function_of(node), inputs[0]
        same = Value(shape, value.axis)
        if is_activation(node):
            return Pointwise(node, same, sources, inputs)
        if function in _GATE_FUNCTIONS or function in _SUMS or self._is_softmax(node, same):
            return Pointwise(node, same, sources, inputs, keeps_zero=False)
        if keeps(self.trace, node) or (function in _POOL_FUNCTIONS and value.axis == 1):
            return Pointwise(node, same, sources, inputs)
        if function in _SCALINGS and (function in PRODUCTS or node.args[0] is sources[0]):
            return Pointwise(node, same, sources, inputs)
        if getattr(function, "__name__", "") == "stochastic_depth":
            return Pointwise(node, same, sources, inputs)
        axis = moved_axis(node, value)
        return None if axis is None else Pointwise(node, Value(shape, axis), sources, inputs)

    def _joining(self, node: fx.Node, sources: tuple[fx.Node, ...], inputs: tuple[Value, ...]) -> Operation:
        shape, function, axis = self.trace.shapes[node], function_of(node), inputs[0].axis
        aligned = all(value.axis == axis and len(value.shape) == len(shape) for value in inputs)
        arguments = node, Value(shape, axis), sources, inputs
        if function in _CONCATENATIONS and aligned and axis is not None:
            listed = node.args[0] if node.args else node.kwargs.get("tensors")
            dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
            distinct = isinstance(listed, list | tuple) and len(listed) == len(sources)
            if distinct and isinstance(dim, int) and dim % len(shape) == axis:
                return Concatenate(*arguments)
        same_width = aligned and axis is not None and all(value.width == shape[axis] for value in inputs)
        if same_width and function in _SUMS and "alpha" not in node.kwargs and len(sources) == 2:
            return Add(*arguments)
        if same_width and function in PRODUCTS and len(sources) == 2:
            return Multiply(*arguments)
        if same_width and function in MATMULS and axis is not None and axis < len(shape) - 2:
            return Matmul(*arguments, inner=inputs[0].shape[-1])
        return self._opaque(node, sources, inputs)
