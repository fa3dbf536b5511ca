"""Networks as one kind of graph: torch.fx's, over parts and tensors by name.

A sliced model is a list of steps, a full network a traced graph. Neither is traced here: a trace
replaces calls in the whole process, and takes longer than a composition may.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import singledispatch
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, fx, nn

from moda_core.modularity.networks import full_network
from moda_core.specs import ArchitectureSpec
from moda_core.structure.rewriting import rewritten
from moda_core.structure.sliced import SlicedModel, Step
from moda_core.structure.steps import (
    Applied,
    Attribute,
    Bias,
    Concatenation,
    FullShape,
    Method,
    Picked,
    Reshaped,
    Slot,
    Zeros,
    same,
)
from moda_core.structure.unitgraph import UnitGraph, unit_graph

__all__ = ["PER_SAMPLE", "READS", "Calls", "Program", "calls_of", "traced_calls", "with_sizes"]

PER_SAMPLE = "per_sample"
"""In a node's `meta`: the value, with a batch of one, of what is the same for every sample."""
READS = "reads"
"""In a node's `meta`: height and width of the images that it reads, where they are known."""


@dataclass
class Calls:
    """A forward pass that can be changed: a graph, and what its nodes name.

    Attributes:
        graph: of calls in torch.fx's form, with the image as its first placeholder.
        parts: modules and tensors, by the targets of ``call_module`` and ``get_attr`` nodes.
        values: nodes by the names of a sliced model's steps, or of the traced graph's nodes.
    """

    graph: fx.Graph
    parts: dict[str, Any]
    values: dict[str, Any]

    def attribute(self, target: str, tensor: Tensor) -> fx.Node:
        """A node that reads a tensor, which becomes a part."""
        self.parts[target] = tensor
        return self.graph.create_node("get_attr", target)

    def drop_unread(self) -> None:
        """Take out the calls that nobody reads."""
        for node in reversed(self.graph.nodes):
            if not node.users and node.op not in {"placeholder", "output"}:
                self.graph.erase_node(node)

    def program(self) -> Program:
        """The calls made runnable, in eval mode, without those that nobody reads; they are of no use any more."""
        self.drop_unread()
        names: dict[Any, str] = {}
        for node in self.graph.nodes:
            if node.op in {"call_module", "get_attr"}:
                node.target = names.setdefault(node.target, _free_name(str(node.target), names.values()))
        parts = {name: self.parts[target] for target, name in names.items()}
        return Program(_function(self.graph), parts).eval()


class Program(nn.Module):
    """A forward pass as straight code around named parts and tensors.

    torch.fx's own module keeps its graph, whose nodes hold each other, makes a class for each module, and has its
    source kept by the process for good. What is in such circles waits for the garbage collector, which looks at
    objects that have lived for a while only when a quarter as many have come since: a service that composes all
    day would hold hundreds of networks that nobody asks any more. A program is freed with its last reference. And it
    finds its tensors as a namespace does, without a module's search through its three dictionaries: they may be moved
    and converted, not replaced by others.

    Args:
        run: called with a namespace of the parts, and with what the program is called with.
        parts: modules, parameters and tensors.
    """

    def __init__(self, run: Callable[..., Any], parts: Mapping[str, nn.Module | Tensor]) -> None:
        super().__init__()
        self._run = run
        for name, part in parts.items():
            if isinstance(part, nn.Module | nn.Parameter):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)
        self._find()

    def forward(self, *given: Tensor) -> Any:
        """What the calls give."""
        return self._run(self._named, *given)

    def _find(self) -> None:
        self._named = SimpleNamespace(**self._modules, **self._parameters, **self._buffers)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Program:
        """What `to` and its like do: tensors may be others afterwards."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._find()
        return self


def _free_name(target: str, taken: Collection[str]) -> str:
    """A path as one name, which no module has for anything else."""
    name = "part_" + re.sub(r"\W", "_", target)
    while name in taken:
        name += "_"
    return name


def _function(graph: fx.Graph) -> Callable[..., Any]:
    """A graph as a function of its root and its placeholders."""
    written = graph.python_code("self")
    names = dict(written.globals)
    exec(compile(written.src, "<calls>", "exec", dont_inherit=True), names)  # noqa: S102 # written by torch.fx
    function: Callable[..., Any] = names.pop("forward")  # the function holds these names: no circle
    return function


def traced_calls(architecture: ArchitectureSpec, weights: Mapping[str, Tensor]) -> Calls:
    """The calls of a full network around given weights, by its trace.

    Raises:
        Untraceable: for a network whose forward pass cannot be traced.
    """
    graph = unit_graph(architecture)
    own = {name: weight.detach() for name, weight in weights.items()}
    copied = rewritten(graph.eval_trace, graph, lambda _copy, _node, _layer: None)
    return with_sizes(_calls(copied, full_network(architecture, own).eval()), graph)


def calls_of(network: SlicedModel | fx.GraphModule) -> Calls:
    """The calls of a network that stays as it is; parts and tensors are shared."""
    if isinstance(network, SlicedModel):
        return _Writer(network).calls()
    graph = fx.Graph()
    graph.output(graph.graph_copy(network.graph, {}))
    return _calls(graph, network)


def _calls(graph: fx.Graph, network: nn.Module) -> Calls:
    states = network.state_dict(keep_vars=True)
    parts: dict[str, Any] = {
        str(node.target): network.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"
    }
    parts |= {str(node.target): states[str(node.target)] for node in graph.nodes if node.op == "get_attr"}
    return Calls(graph, parts, {node.name: node for node in graph.nodes})


def with_sizes(calls: Calls, graph: UnitGraph) -> Calls:
    """The same calls, of a network of this graph, whole or cut, with what is known of the sizes of images in them."""
    for of_graph, operation in graph.operations.items():
        node = calls.values.get(of_graph.name)
        size = operation.inputs[0].shape[2:] if operation.inputs else ()
        if isinstance(node, fx.Node) and len(size) == 2:
            node.meta[READS] = tuple(size)
    return calls


class _Writer:
    """Writes a sliced model's steps as nodes."""

    def __init__(self, sliced: SlicedModel) -> None:
        self.sliced, self.graph = sliced, fx.Graph()
        self.parts: dict[str, Any] = {}
        self.names = {id(part): name for name, part in sliced.named_modules()}
        self.image = self.graph.placeholder("image")
        self.samples = self.graph.call_method("size", (self.image, 0))
        self.values: dict[str, Any] = {sliced.image: self.image}

    def calls(self) -> Calls:
        for step in self.sliced.steps:
            self.values[step.name] = self._written(step)
        self.graph.output(self.values[self.sliced.steps[-1].name])
        return Calls(self.graph, self.parts, self.values)

    def _written(self, step: Step) -> Any:
        reads = tuple(self.values[name] for name in step.reads)
        return reads[0] if step.run is same else _write(step.run, self, reads, {})

    def call_part(self, part: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> fx.Node:
        target = self.names[id(part)]
        self.parts[target] = part
        return self.graph.call_module(target, arguments, keywords)

    def attribute(self, target: str, tensor: Tensor) -> fx.Node:
        self.parts[target] = tensor
        return self.graph.create_node("get_attr", target)

    def per_sample(self, target: str, value: Tensor) -> fx.Node:
        """A value [1, ...] that all samples share."""
        held = self.attribute(target, value)
        spread = self.graph.call_method("expand", (held, self.samples, *([-1] * (value.dim() - 1))))
        spread.meta[PER_SAMPLE] = value
        return spread

    def like_weights(self) -> Tensor:
        """An empty tensor of the model's type, on its device."""
        states = (state for state in self.sliced.state_dict().values() if state.is_floating_point())
        return next(states, torch.empty(0)).new_empty(0)


@singledispatch
def _write(run: Callable[..., Any], writer: _Writer, reads: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """The node of one step; a plain function is called as it is."""
    return writer.graph.call_function(run, reads, keywords)


@_write.register
def _(run: nn.Module, writer: _Writer, reads: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    return writer.call_part(run, reads, keywords)


@_write.register
def _(run: Method, writer: _Writer, reads: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    return writer.graph.call_method(run.name, reads, keywords)


@_write.register
def _(run: Applied, writer: _Writer, reads: tuple[Any, ...], _keywords: dict[str, Any]) -> Any:
    def filled(argument: Any) -> Any:
        return reads[argument.index] if isinstance(argument, Slot) else argument

    aggregate: Callable[..., Any] = fx.node.map_aggregate
    return _write(run.function, writer, aggregate(run.arguments, filled), aggregate(run.keywords, filled))


@_write.register
def _(run: Attribute, writer: _Writer, _reads: tuple[Any, ...], _keywords: dict[str, Any]) -> Any:
    return writer.attribute(run.target, run())


@_write.register
def _(run: Bias, writer: _Writer, _reads: tuple[Any, ...], _keywords: dict[str, Any]) -> Any:
    image = writer.like_weights().new_empty(1)
    return writer.per_sample(f"{writer.names[id(run)]}.constant", run(image).contiguous())


@_write.register
def _(run: Zeros, writer: _Writer, _reads: tuple[Any, ...], _keywords: dict[str, Any]) -> Any:
    return writer.per_sample(f"zeros.of{len(writer.parts)}", run(writer.like_weights().new_empty(1)))


@_write.register
def _(run: FullShape, writer: _Writer, _reads: tuple[Any, ...], _keywords: dict[str, Any]) -> Any:
    shape: tuple[Any, ...] = (writer.samples, *run.shape[1:])
    return writer.graph.call_function(torch.Size, (shape,)) if run.axis is None else shape[run.axis]


@_write.register
def _(run: Concatenation, writer: _Writer, reads: tuple[Any, ...], _keywords: dict[str, Any]) -> Any:
    return writer.graph.call_function(torch.cat, (reads, run.axis))


@_write.register
def _(run: Reshaped, writer: _Writer, reads: tuple[Any, ...], _keywords: dict[str, Any]) -> Any:
    return writer.graph.call_method("reshape", (*reads, writer.samples, *run.shape[1:]))


@_write.register
def _(run: Picked, writer: _Writer, reads: tuple[Any, ...], _keywords: dict[str, Any]) -> Any:
    (value,) = reads if run.order is None else (writer.graph.call_method("permute", (*reads, *run.order)),)
    if run.length is None:
        return writer.graph.call_method("select", (value, run.axis, run.start))
    return writer.graph.call_method("narrow", (value, run.axis, run.start, run.length))
