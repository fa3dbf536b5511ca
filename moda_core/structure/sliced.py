"""The sliced model: an ordinary `nn.Module` with the kept parts of the root's layers.

Its layers are true convolutions, norms and linear layers under the root's names, so that its
``state_dict`` has the root's keys, cut. Index moves between layers are buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor, fx, nn

from moda_core.structure.operations import Add, Batch, Concatenate, Convolution, Input, Linear, Norm
from moda_core.structure.regrouping import Merge, Pick, Section, Split
from moda_core.structure.slicing import Call, Feed, Plan
from moda_core.structure.steps import (
    Applied,
    Attribute,
    Bias,
    Concatenation,
    FullShape,
    Method,
    Move,
    Picked,
    Reshaped,
    Slot,
    Zeros,
    same,
    with_slots,
)

__all__ = ["SlicedModel", "Step", "assemble"]


@dataclass(frozen=True)
class Step:
    """Writes `name`: `run` applied to the values in `reads`; those in `frees` are read for the last time."""

    name: str
    run: Callable[..., Any]
    reads: tuple[str, ...]
    frees: tuple[str, ...] = ()


class SlicedModel(nn.Module):
    """The part of a root network that some units and classes need.

    Called with normalised images [batch, channels, height, width], it returns the logits of its
    classes [batch, classes], in the root's order.

    Attributes:
        image: the name of its argument among the values that `steps` read.
        steps: in order; the last one's value is the logits.
    """

    def __init__(self, image: str) -> None:
        super().__init__()
        self.index_moves = nn.ModuleList()
        self.image = image
        self.steps: tuple[Step, ...] = ()
        self.eval()

    def forward(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of the kept classes."""
        values: dict[str, Any] = {self.image: image}
        result: Any = image
        for step in self.steps:
            result = values[step.name] = step.run(*[values[name] for name in step.reads])
            for name in step.frees:
                del values[name]
        return result  # type: ignore[no-any-return]  # the last step's value: the logits


def assemble(plan: Plan, weights: Mapping[str, Tensor]) -> SlicedModel:
    """Build the model of a plan around its weights, which are not copied.

    Args:
        plan: from `slicing.plan`.
        weights: for every name in ``plan.held``, the kept part of the root's state.
    """
    return _Assembly(plan, weights).model()


class _Assembly:
    """Builds a `SlicedModel` call by call."""

    def __init__(self, plan: Plan, weights: Mapping[str, Tensor]) -> None:
        self.plan, self.weights = plan, weights
        inputs = (node for node, operation in plan.graph.operations.items() if isinstance(operation, Input))
        self.image = next(inputs).name  # also where nothing else reads it
        self.sliced = SlicedModel(self.image)
        self.template = plan.graph.eval_trace.module
        self.steps: list[Step] = []
        self.parts: dict[str, nn.Module] = {}
        self.moved: dict[tuple[str, bytes, bytes, int], str] = {}

    def model(self) -> SlicedModel:
        for call in self.plan.calls:
            if not isinstance(call.operation, Input):
                self._add(call)
        self._fed(self.plan.logits)
        self.sliced.steps = _freeing(self.steps, self.image)
        return self.sliced

    def _add(self, call: Call) -> None:
        node = call.operation.node
        if call.constant or isinstance(call.operation, Batch):
            self._step(node.name, self._from_image(call), (self.image,))
            return
        reads = {
            source: self._fed(feed)
            for source, feed in zip(call.operation.sources, call.feeds, strict=True)
            if feed is not None
        }
        self._step(node.name, self._function(call, tuple(reads)), tuple(reads.values()))

    def _step(self, name: str, run: Callable[..., Any], reads: tuple[str, ...]) -> str:
        self.steps.append(Step(name, run, reads))
        return name

    def _fed(self, feed: Feed) -> str:
        """The name under which a reader finds what it asked for."""
        source = feed.source.name
        if feed.zeros is not None:
            return self._step(f"{source}.zeros{len(self.steps)}", Zeros(feed.zeros), (self.image,))
        if feed.take is None and feed.put is None:
            return source
        key = source, _bytes(feed.take), _bytes(feed.put), feed.width
        if key not in self.moved:
            move = Move(feed)
            self.sliced.index_moves.append(move)
            self.moved[key] = self._step(f"{source}.moved{len(self.steps)}", move, (source,))
        return self.moved[key]

    def _from_image(self, call: Call) -> Callable[..., Any]:
        """A value that depends on the image by its batch size alone."""
        operation, node = call.operation, call.operation.node
        if isinstance(operation, Batch):
            index = node.args[1] if node.op == "call_method" and len(node.args) > 1 else node.kwargs.get("dim")
            return FullShape(operation.inputs[0].shape, index if isinstance(index, int) else None)
        bias = self.weights.get(f"{node.target}.bias")
        return self._placed(str(node.target), Bias(_cut_shape(call), operation.output.axis or 0, bias))

    def _function(self, call: Call, read: tuple[fx.Node, ...]) -> Callable[..., Any]:
        operation, node = call.operation, call.operation.node
        if (step := _standing_for(call, len(read))) is not None:
            return step
        if node.op == "get_attr":
            return self._attribute(str(node.target))
        if isinstance(operation, Norm | Linear | Convolution):
            return self._part(call)
        return self._applied(call, read)

    def _applied(self, call: Call, read: tuple[fx.Node, ...]) -> Callable[..., Any]:
        """The original call, its traced arguments replaced by the values read."""
        node = call.operation.node
        slots = {source: Slot(place) for place, source in enumerate(read)}
        arguments = tuple(with_slots(argument, slots) for argument in node.args)
        keywords = {name: with_slots(argument, slots) for name, argument in node.kwargs.items()}
        function: Callable[..., Any]
        if node.op == "call_module":
            function = self._part(call)
        else:
            function = Method(str(node.target)) if node.op == "call_method" else cast("Callable[..., Any]", node.target)
        plain = arguments == tuple(Slot(place) for place in range(len(read))) and not keywords
        return function if plain else Applied(function, arguments, keywords)

    def _part(self, call: Call) -> nn.Module:
        """The root's module of a call, with its parameters cut and its sizes told so."""
        target = str(call.operation.node.target)
        if target in self.parts:
            return self.parts[target]
        part = self.template.get_submodule(target)
        return self._placed(target, _with_sizes(_clone(part, target, self.weights), call))

    def _placed(self, target: str, part: nn.Module) -> nn.Module:
        owner, name = self._owner(target)
        owner.add_module(name, part)
        self.parts[target] = part
        return part

    def _attribute(self, target: str) -> Attribute:
        owner, name = self._owner(target)
        if target in self.plan.graph.parameter_names:
            owner.register_parameter(name, nn.Parameter(self.weights[target], requires_grad=False))
            return Attribute(owner._parameters, name, target)
        owner.register_buffer(name, self.weights[target])
        return Attribute(owner._buffers, name, target)

    def _owner(self, target: str) -> tuple[nn.Module, str]:
        """The module that holds a state or part of the root, made where it is missing, and its name there."""
        owner: nn.Module = self.sliced
        *path, name = target.split(".")
        for step in path:
            children = owner._modules  # children by any name, digits included
            if children.get(step) is None:
                owner.add_module(step, nn.Module().eval())
            owner = children[step] or owner
        return owner, name


def _standing_for(call: Call, read: int) -> Callable[..., Any] | None:
    """What replaces a call whose traced arguments speak of the whole network; None for other calls."""
    operation = call.operation
    if isinstance(operation, Section) or (isinstance(operation, Add) and read == 1):
        return same
    if isinstance(operation, Concatenate):
        return Concatenation(operation.output.axis or 0)
    if isinstance(operation, Merge | Split):
        return Reshaped(_cut_shape(call))
    if isinstance(operation, Pick):
        return Picked(operation.part.order, operation.part.axis, operation.part.start, operation.part.length)
    return None


def _cut_shape(call: Call) -> tuple[int, ...]:
    """The shape of what a call produces, with the batch it was traced with."""
    shape = list(call.operation.output.shape)
    shape[call.operation.output.axis or 0] = int(call.produced.sum())
    return tuple(shape)


def _bytes(indices: Any) -> bytes:
    return b"" if indices is None else bytes(indices.tobytes())


def _clone(part: nn.Module, prefix: str, weights: Mapping[str, Tensor]) -> nn.Module:
    """A module like `part` around given tensors, without initialising anything; it overwrites no input."""
    clone = part.__class__.__new__(part.__class__)
    clone.__dict__ = {name: value.copy() if isinstance(value, dict) else value for name, value in vars(part).items()}
    clone.__dict__["training"] = False
    if getattr(part, "inplace", False):
        clone.__dict__["inplace"] = False
    clone._parameters = {
        name: None if kept is None else nn.Parameter(weights[f"{prefix}.{name}"], requires_grad=False)
        for name, kept in part._parameters.items()
    }
    clone._buffers = {
        name: None if kept is None else weights[f"{prefix}.{name}"] for name, kept in part._buffers.items()
    }
    clone._modules = {
        name: None if child is None else _clone(child, f"{prefix}.{name}", weights)
        for name, child in part._modules.items()
    }
    return clone


def _with_sizes(part: nn.Module, call: Call) -> nn.Module:
    """Tell a cut module how many channels it has now."""
    operation, rows, said = call.operation, int(call.produced.sum()), part.__dict__
    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        said["num_features"] = rows
    elif isinstance(part, nn.Linear):
        said["out_features"], said["in_features"] = rows, part.weight.shape[1]
    elif isinstance(part, nn.modules.conv._ConvNd) and isinstance(operation, Convolution):
        per_group = operation.output.width // operation.groups
        groups = 1 if operation.groups == 1 else rows // per_group
        said.update(groups=groups, out_channels=rows, in_channels=part.weight.shape[1] * groups)
    return part


def _freeing(steps: list[Step], image: str) -> tuple[Step, ...]:
    """The steps, each forgetting the values that none after it reads."""
    kept = {image, steps[-1].name}
    freeing: list[Step] = []
    for step in reversed(steps):
        last = tuple(dict.fromkeys(name for name in step.reads if name not in kept))
        kept.update(last)
        freeing.append(replace(step, frees=last))
    return tuple(reversed(freeing))
