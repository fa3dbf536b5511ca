"""Folding: a network in eval mode as fewer and cheaper calls that compute the same.

Norms go into the convolutions before them, in float64 and rounded once; index moves are joined and
become products; what does not depend on the image is computed beforehand; activations overwrite what
nobody else reads. The network that is folded stays as it is; what is not changed is shared with it.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the usual name of this module
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from moda_core.inference.graphs import PER_SAMPLE, Calls
from moda_core.inference.selection import Selection, joined, sources_of
from moda_core.structure.steps import Move

__all__ = ["fold"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_IDLE_PARTS = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_IDLE_CALLS = frozenset({F.dropout, F.dropout1d, F.dropout2d, F.dropout3d})
_IN_PLACE = frozenset({F.relu, F.relu6, F.hardswish, F.silu, F.leaky_relu, F.elu})
_SUMS = frozenset({operator.add, torch.add})


def fold(calls: Calls) -> None:
    """Let calls of a network in eval mode be fewer and cheaper ones that give the same.

    Images and the weights of convolutions are meant to lie with channels last. Norms after a linear layer, and
    those before a convolution, stay. The network whose calls these are stays as it is.
    """
    for rewrite in (
        _without_idle_calls,
        _with_selections,
        _with_constants,
        _with_norms_folded,
        _with_reshapes,
        _in_place,
    ):
        rewrite(calls)
    for name, part in calls.parts.items():
        if type(part) is nn.Conv2d and not part.weight.is_contiguous(memory_format=torch.channels_last):
            calls.parts[name] = _with_weight(part, part.weight, part.bias)
    _as_functions(calls)


def _without_idle_calls(calls: Calls) -> None:
    """Dropout and identities do nothing in eval mode."""
    for node in list(calls.graph.nodes):
        idle = node.op == "call_module" and type(calls.parts[node.target]) in _IDLE_PARTS
        idle |= node.op == "call_function" and node.target in _IDLE_CALLS and _training(node) is False
        if idle:
            _replace(calls.graph, node, node.all_input_nodes[0])


def _training(node: fx.Node) -> Any:
    return node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)


def _with_selections(calls: Calls) -> None:
    """Index moves become selections, one for several in a row."""
    like, found = _like(calls), dict[fx.Node, tuple[Tensor, int]]()
    for node in _called(calls, Move):
        move, before = calls.parts[node.target], node.args[0]
        found[node] = sources_of(move), move.given
        if before in found and calls.parts[before.target].axis == move.axis:
            sources, given = found[before]
            found[node] = joined(sources, found[node][0]), given
            node.args = before.args
    for node, (sources, given) in found.items():
        name = f"selections.{node.name}"
        axis = calls.parts[str(node.target)].axis
        calls.parts[name] = Selection(sources, given, axis, like) if node.users else None
        node.target = name


def _with_constants(calls: Calls) -> None:
    """What depends on parameters alone is computed once; what is the same for every sample, for one of them."""
    known: dict[fx.Node, Tensor] = {}
    shared: set[fx.Node] = set()
    for node in calls.graph.nodes:
        value = node.meta.get(PER_SAMPLE)
        if value is None and node.op == "get_attr":
            value = calls.parts[node.target]
        elif value is None and node.all_input_nodes and all(source in known for source in node.all_input_nodes):
            value = _computed(calls, node, known)
        if isinstance(value, Tensor):
            known[node] = value
        if isinstance(value, Tensor) and (PER_SAMPLE in node.meta or shared.intersection(node.all_input_nodes)):
            shared.add(node)
    samples = next((node for node in calls.graph.nodes if node.target == "size"), None)
    for node in list(known):
        fresh = node.op != "get_attr" and PER_SAMPLE not in node.meta
        if fresh and any(user not in known for user in node.users):
            _replace(calls.graph, node, _held(calls, node, known[node], samples if node in shared else None))


def _computed(calls: Calls, node: fx.Node, known: dict[fx.Node, Tensor]) -> Any:
    if node.op == "output":
        return None
    filled: Callable[..., Any] = fx.node.map_arg
    target: Any = node.target
    functions = {"call_module": calls.parts.get(target), "call_method": getattr(Tensor, str(target), None)}
    with torch.no_grad():
        function = functions.get(node.op) or target
        return function(*filled(node.args, known.__getitem__), **filled(node.kwargs, known.__getitem__))


def _held(calls: Calls, node: fx.Node, value: Tensor, samples: fx.Node | None) -> fx.Node:
    with calls.graph.inserting_before(node):
        held = calls.attribute(f"constants.{node.name}", value.contiguous())
        if samples is None:
            return held
        return calls.graph.call_method("expand", (held, samples, *([-1] * (value.dim() - 1))))


def _with_norms_folded(calls: Calls) -> None:
    uses = Counter(node.target for node in calls.graph.nodes if node.op == "call_module")
    for node in _called(calls, *_NORMS):
        source = node.args[0]
        convolution, norm = _part(calls, source), calls.parts[node.target]
        if type(convolution) not in _CONVOLUTIONS or len(source.users) > 1 or uses[source.target] > 1:
            continue
        if norm.training or norm.running_mean is None:
            continue
        calls.parts[source.target] = _fused(convolution, norm)
        _replace(calls.graph, node, source)


def _fused(convolution: Any, norm: Any) -> nn.Module:
    tensors = (convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    weight, bias, mean, variance, scale, shift = (None if one is None else one.detach().double() for one in tensors)
    assert weight is not None
    assert mean is not None
    assert variance is not None
    fused, offset = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)
    kind = convolution.weight.dtype
    return _with_weight(convolution, fused.to(kind), offset.to(kind))


def _with_weight(convolution: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A convolution like another, around a weight that lies with channels last."""
    twin = convolution.__class__.__new__(convolution.__class__)
    laid = weight.detach().contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight.detach()
    parameters = {
        "weight": nn.Parameter(laid, requires_grad=False),
        "bias": None if bias is None else nn.Parameter(bias.detach(), requires_grad=False),
    }
    twin.__dict__ = vars(convolution) | {"_parameters": parameters, "_buffers": {}, "_modules": {}}
    return twin


def _with_reshapes(calls: Calls) -> None:
    """A view takes elements as they lie, which with channels last is not their order."""
    for node in calls.graph.find_nodes(op="call_method", target="view"):
        node.target = "reshape"


def _in_place(calls: Calls) -> None:
    """Activations overwrite a convolution's or a sum's output where they are its only reader."""
    for node in calls.graph.nodes:
        if node.op != "call_function" or node.target not in _IN_PLACE:
            continue
        source = node.args[0]
        made = source.target in _SUMS or isinstance(_part(calls, source), (*_CONVOLUTIONS, *_NORMS, nn.Linear))
        if made and len(source.users) == 1:
            node.kwargs = node.kwargs | {"inplace": True}


def _as_functions(calls: Calls) -> None:
    """The commonest parts become the functions that they call, around the same tensors.

    A call of a module looks for hooks and up its own settings each time, which for a small network on a CPU takes
    half as long as the arithmetic.
    """
    for node in _called(calls, nn.Conv2d, nn.Linear, nn.MaxPool2d):
        found = _function(calls.parts[node.target])
        if found is None or len(node.args) != 1 or node.kwargs:
            continue
        function, tensors, settings = found
        with calls.graph.inserting_before(node):
            held = [
                tensor if tensor is None else calls.attribute(f"functions.{node.name}.{name}", tensor)
                for name, tensor in tensors.items()
            ]
            called = calls.graph.call_function(function, (*node.args, *held, *settings))
        called.meta.update(node.meta)
        _replace(calls.graph, node, called)
    for node in calls.graph.find_nodes(op="call_function", target=F.relu):
        node.target = torch.relu_ if node.kwargs.get("inplace") or True in node.args[1:] else torch.relu
        node.args, node.kwargs = (node.all_input_nodes[0],), {}


def _function(part: Any) -> tuple[Callable[..., Tensor], dict[str, Tensor | None], tuple[Any, ...]] | None:
    """What a part calls: the function, its tensors and its settings; None for a part of another kind."""
    if type(part) is nn.Linear:
        return F.linear, {"weight": part.weight, "bias": part.bias}, ()
    if type(part) is nn.Conv2d and part.padding_mode == "zeros":
        settings = part.stride, part.padding, part.dilation, part.groups
        return torch.conv2d, {"weight": part.weight, "bias": part.bias}, settings
    if type(part) is nn.MaxPool2d and not part.return_indices:
        return torch.max_pool2d, {}, (part.kernel_size, part.stride, part.padding, part.dilation, part.ceil_mode)
    return None


def _called(calls: Calls, *kinds: type[nn.Module]) -> list[Any]:
    """The nodes that call parts of some kinds."""
    nodes: list[Any] = [node for node in calls.graph.nodes if node.op == "call_module"]
    return [node for node in nodes if isinstance(calls.parts[str(node.target)], kinds)]


def _part(calls: Calls, node: Any) -> Any:
    return calls.parts[str(node.target)] if isinstance(node, fx.Node) and node.op == "call_module" else None


def _replace(graph: fx.Graph, node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    graph.erase_node(node)


def _like(calls: Calls) -> Tensor:
    """Some weight: what type and device the network has."""
    tensors = (part if isinstance(part, Tensor) else next(part.parameters(), None) for part in calls.parts.values())
    return next((one for one in tensors if one is not None and one.is_floating_point()), torch.empty(0))
