"""Lowering: the folded calls of a network as a graph of ONNX's operators, from pixels to logits.

torch's own exporter traces a network for seconds; here its calls, which were traced before, are written one by one,
in milliseconds, so that composed models can be lowered when they are asked for. What is known are the operators of
convolutional networks: ours, and most of torchvision's. A file for other programs is made by torch's exporter
(`moda_core.storage.export`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
import torch
from jaxtyping import Int64
from onnx import TensorProto, helper
from torch import Tensor, fx, nn

from moda_core.inference.activations import MAY_OVERWRITE
from moda_core.inference.components import scale_and_shift
from moda_core.inference.graphs import Calls
from moda_core.inference.operators import CALLS, PARTS
from moda_core.inference.values import NotLowered, Value
from moda_core.specs import InputSpec

__all__ = ["LOGITS", "MASKS", "PIXELS", "Lowered", "lowered"]

PIXELS, MASKS, LOGITS = "pixels", "masks", "logits"
"""The inputs and the output of a lowered network; masks only where it has some."""

_OPSET = 20
_LARGE = 1024
"""Bytes from which on a weight is handed over as it lies: written into the file it would be copied twice."""
_VIEWS = frozenset({"reshape", "flatten", "expand", "narrow", torch.flatten, nn.Flatten})
_signature = cache(inspect.signature)
_KINDS = {torch.float32: TensorProto.FLOAT, torch.int64: TensorProto.INT64}


@dataclass(frozen=True)
class Lowered:
    """A network in ONNX's terms.

    Attributes:
        file: the serialized model, without its large weights.
        weights: these, by name, as the network holds them.
    """

    file: bytes
    weights: dict[str, Tensor]


def lowered(rule: InputSpec, calls: Calls, kept: Int64[Tensor, "kept"] | None = None) -> Lowered:
    """Folded calls, behind their input rule.

    Args:
        rule: of the pixels, which come as they do to a `Component`.
        calls: in float32; of no use any more.
        kept: for a network that is called with masks: which units of all layers those are of (`kept_units`).

    Raises:
        NotLowered: for a call for which no operator is known.
    """
    calls.drop_unread()
    writer = _Writer(calls)
    entrances = [writer.images(rule)] if kept is None else [writer.images(rule), writer.masks(kept)]
    for node in calls.graph.nodes:
        writer.write(node, entrances)
    inputs = [
        helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ["batch", rule.channels, *[rule.image_size] * 2])
    ]
    if kept is not None:
        inputs.append(helper.make_tensor_value_info(MASKS, TensorProto.BOOL, ["batch", None]))
    output = helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", None])
    graph = helper.make_graph(writer.nodes, "network", inputs, [output], writer.initializers)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=onnx.IR_VERSION_2023_5_5
    )
    return Lowered(model.SerializeToString(), writer.large)


class _Writer:
    """Writes a network's nodes as operators."""

    pixels = Value(PIXELS, 4)

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.large: dict[str, Tensor] = {}
        self._values: dict[fx.Node, Any] = {}
        self._held: dict[int, Value] = {}

    def add(self, kind: str, values: Sequence[Value | None], rank: int, **attributes: Any) -> Value:
        """An operator's output; a missing input in the middle is None."""
        names = ["" if value is None else value.name for value in values]
        output = self._added(kind, names, f"{kind}_{len(self.nodes)}", attributes)
        return Value(output, rank, batched=any(value.batched for value in values if value is not None))

    def constant(self, tensor: Tensor) -> Value:
        """A tensor of the network's, or one that an operator reads; the same one is written once.

        Raises:
            NotLowered: for a type that networks do not compute in.
        """
        if id(tensor) not in self._held:
            if tensor.dtype not in _KINDS:
                raise NotLowered(f"a tensor of {tensor.dtype}")
            name, plain = f"held_{len(self.initializers)}", tensor.detach().contiguous()
            written = onnx.TensorProto(name=name, data_type=_KINDS[tensor.dtype], dims=plain.shape)
            if plain.nbytes >= _LARGE:
                self.large[name] = plain
                written.data_location = TensorProto.EXTERNAL
                written.external_data.add(key="location", value=name)  # of a file that is not there
            else:
                written.raw_data = plain.numpy().tobytes()
            self.initializers.append(written)
            self._held[id(tensor)] = Value(name, tensor.dim(), tensor, batched=False)
        return self._held[id(tensor)]

    def images(self, rule: InputSpec) -> Value:
        """Pixels, normalised as by a `Component`."""
        scale, shift = (self.constant(values.float()) for values in scale_and_shift(rule))
        values = self.add("Cast", [self.pixels], 4, to=TensorProto.FLOAT)
        return self.add("Add", [self.add("Mul", [values, scale], 4), shift], 4)

    def masks(self, kept: Int64[Tensor, "kept"]) -> Value:
        """The masks of the units that are kept."""
        columns = self.add("Gather", [Value(MASKS, 2), self.constant(kept)], 2, axis=1)
        return self.add("Cast", [columns], 2, to=TensorProto.FLOAT)

    def write(self, node: fx.Node, entrances: list[Value]) -> None:
        """One node of the graph; placeholders take the entrances in turn.

        Raises:
            NotLowered: as `lowered`.
        """
        if node.op == "placeholder":
            self._values[node] = entrances.pop(0)
        elif node.op == "get_attr":
            self._values[node] = self.constant(self.calls.parts[str(node.target)])
        elif node.op == "output":
            (result,) = node.args
            if not isinstance(result, fx.Node) or not isinstance(self._values[result], Value):
                raise NotLowered("an output that is not one tensor")
            self._added("Identity", [self._values[result].name], LOGITS, {})
        else:
            self._values[node] = self._called(node)

    def _called(self, node: fx.Node) -> Any:
        filled: Callable[..., Any] = fx.node.map_arg
        arguments, keywords = (filled(given, self._values.__getitem__) for given in (node.args, node.kwargs))
        if node.op == "call_module":
            part = self.calls.parts[str(node.target)]
            found, arguments = PARTS.get(type(part)), (part, *arguments)
        else:
            part, found = None, CALLS.get(node.target)
        if found is None:
            raise NotLowered(f"no operator is known for {node.target}")
        if _overwrites(node, part) and not self._is_last_reader(node):
            raise NotLowered(f"a value that is read after {node.target} has overwritten it")
        try:
            _signature(found).bind(self, *arguments, **keywords)
        except TypeError as error:
            raise NotLowered(f"{node.target} with other arguments: {error}") from error
        return found(self, *arguments, **keywords)

    def _is_last_reader(self, node: fx.Node) -> bool:
        """Whether nobody else reads what a call overwrites, under this name or as what it is a view of."""
        (source, *_) = node.all_input_nodes
        kind = type(self.calls.parts[str(source.target)]) if source.op == "call_module" else source.target
        return len(source.users) == 1 and kind not in _VIEWS

    def _added(self, kind: str, names: list[str], output: str, attributes: dict[str, Any]) -> str:
        self.nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output


def _overwrites(node: fx.Node, part: Any) -> bool:
    """Whether a call may write into what it reads."""
    if part is not None:
        return bool(getattr(part, "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    told = node.kwargs.get("inplace", False) or (
        node.target in MAY_OVERWRITE and any(one is True for one in node.args[1:])
    )
    return name.endswith("_") or bool(told)
