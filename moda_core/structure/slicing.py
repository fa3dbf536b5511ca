"""Which part of a network a set of unit masks leaves: index arithmetic over the unit graph.

Two walks. *Forward*, each value's live channels, with the invariant that a channel outside them is
exactly zero in the masked model. *Backward*, the channels that some reader needs. What is live and
needed is computed; a reader that wants more is given zeros; what nobody needs is not built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor, fx

from moda_core.errors import InvalidInput
from moda_core.structure.operations import Channels, Dense, Held, Operation
from moda_core.structure.unitgraph import UnitGraph

__all__ = ["Call", "Feed", "Masks", "Plan", "forget_plans", "plan"]

Masks = Mapping[str, Bool[Tensor, "units"]]


@dataclass(frozen=True)
class Feed:
    """What a call is given of one of its inputs.

    Attributes:
        source: the node that is read.
        axis: its channel axis; None for a value without one, which is passed as it is.
        take: positions to select among the channels that the source produces; None takes all.
        put: positions where these go among `width` channels, the others being zero; None leaves
            no gap.
        zeros: the full shape, batch first, of an input that is zero as a whole and not computed.
        given: how many channels the source produces.
    """

    source: fx.Node
    axis: int | None
    take: NDArray[np.int64] | None = None
    put: NDArray[np.int64] | None = None
    width: int = 0
    zeros: tuple[int, ...] | None = None
    given: int = 0


@dataclass(frozen=True)
class Call:
    """One operation of the sliced model, and what it is fed: None for an input that is left out."""

    operation: Operation
    produced: Channels
    feeds: tuple[Feed | None, ...]

    @property
    def constant(self) -> bool:
        """A convolution or linear layer whose input is all zero: only its bias is left."""
        return isinstance(self.operation, Dense) and self.feeds[0] is None


@dataclass(frozen=True)
class Plan:
    """A sliced model before it is built.

    Attributes:
        calls: in order.
        logits: what is taken of the last call: the rows of the wanted classes.
        held: per kept state name, the root's indices along each leading axis (None: all).
        flops: multiply-adds counted as two, for one sample.
    """

    graph: UnitGraph
    calls: tuple[Call, ...]
    logits: Feed
    held: Held
    flops: int

    @cached_property
    def parameters(self) -> int:
        """Elements of the original parameters that the sliced model holds."""
        return sum(math.prod(self.shape(name)) for name in self.held if name in self.graph.parameter_names)

    def shape(self, name: str) -> tuple[int, ...]:
        """The kept shape of one state."""
        full, held = self.graph.state_shapes[name], self.held[name]
        return tuple(
            size if axis >= len(held) or (kept := held[axis]) is None else len(kept) for axis, size in enumerate(full)
        )

    @property
    def expansions(self) -> int:
        """How often a value is spread among zeros, or replaced by zeros."""
        feeds = [feed for call in self.calls for feed in call.feeds if feed is not None]
        return sum(feed.put is not None or feed.zeros is not None for feed in feeds)


def plan(graph: UnitGraph, masks: Masks, rows: Sequence[int], *, drop: bool = True) -> Plan:
    """Plan the sliced model of some units and classes.

    Args:
        graph: of the root network.
        masks: for every layer, which of its units stay.
        rows: the classes whose logits stay, as the network's indices, ascending.
        drop: leave out what no reader needs; without it each activation keeps its whole mask,
            whoever reads it, as the paper counts sizes.

    Raises:
        InvalidInput: if a layer's mask is missing or has the wrong length.
    """
    kept = _checked(graph, masks)
    return _plan(graph, tuple(kept[layer.name].tobytes() for layer in graph.layers), tuple(rows), drop)


@lru_cache(maxsize=16)
def _plan(graph: UnitGraph, masks: tuple[bytes, ...], rows: tuple[int, ...], drop: bool) -> Plan:
    """The plan of masks in the order of the layers; kept, since a composition is planned again to be built."""
    walk = _Walk(
        graph,
        {layer.name: np.frombuffer(mask, dtype=np.bool_) for layer, mask in zip(graph.layers, masks, strict=True)},
    )
    wanted = graph.operations[graph.logits].output.none()
    wanted[list(rows)] = True
    walk.forward()
    walk.backward(wanted, drop=drop)
    calls = walk.calls()
    flops = sum(call.operation.flops(call.produced, walk.requests[call.operation.node]) for call in calls)
    logits = walk.feed(graph.logits, wanted)
    assert logits is not None, "no class is wanted"
    return Plan(graph, calls, logits, walk.held(), flops)


def forget_plans() -> None:
    """Let the last plans go, so that the next one is made anew."""
    _plan.cache_clear()


def _checked(graph: UnitGraph, masks: Masks) -> dict[str, Channels]:
    for layer in graph.layers:
        if layer.name not in masks:
            raise InvalidInput("masks", sorted(masks), f"no mask for the layer {layer.name}", "give one per layer")
        if len(masks[layer.name]) != layer.units:
            raise InvalidInput(
                f"masks[{layer.name}]", len(masks[layer.name]), "wrong length", f"give {layer.units} booleans"
            )
    return {layer.name: masks[layer.name].numpy() for layer in graph.layers}


class _Walk:
    """The two walks and what they leave: live, needed, requested and produced channels by node."""

    def __init__(self, graph: UnitGraph, masks: Mapping[str, Channels]) -> None:
        self.graph, self.masks = graph, masks
        self.live: dict[fx.Node, Channels] = {}
        self.requests: dict[fx.Node, list[Channels]] = {}
        self.produced: dict[fx.Node, Channels] = {}

    def forward(self) -> None:
        for node, operation in self.graph.operations.items():
            self.live[node] = operation.live(self._live_inputs(operation))
            if node.name in self.masks:
                self.live[node] = self.live[node] & self.masks[node.name]

    def backward(self, wanted: Channels, *, drop: bool) -> None:
        needed = {node: operation.output.none() for node, operation in self.graph.operations.items()}
        needed[self.graph.logits] |= wanted
        for node, operation in reversed(self.graph.operations.items()):
            if node.name in self.masks and not drop:
                needed[node] |= self.live[node]
            if not needed[node].any():
                continue
            asked = operation.requests(needed[node], self._live_inputs(operation))
            self.requests[node], self.produced[node] = asked, operation.produced(needed[node], asked)
            for source, channels in zip(operation.sources, asked, strict=True):
                needed[source] |= channels & self.live[source]

    def calls(self) -> tuple[Call, ...]:
        return tuple(
            Call(operation, self.produced[node], tuple(map(self.feed, operation.sources, self.requests[node])))
            for node, operation in self.graph.operations.items()
            if node in self.produced
        )

    def feed(self, source: fx.Node, asked: Channels) -> Feed | None:
        """How a reader gets the channels it asks for out of those that are produced."""
        value = self.graph.operations[source].output
        if not asked.any():
            return None
        given = self.produced[source] & asked & self.live[source] if source in self.produced else value.none()
        if not given.any():
            shape = tuple(int(asked.sum()) if axis == value.axis else size for axis, size in enumerate(value.shape))
            return Feed(source, value.axis, zeros=shape)
        produced = self.produced[source]
        take = None if np.array_equal(given, produced) else _positions(given, produced)
        put = None if np.array_equal(given, asked) else _positions(given, asked)
        return Feed(source, value.axis, take, put, int(np.count_nonzero(asked)), given=int(np.count_nonzero(produced)))

    def held(self) -> Held:
        held: Held = {}
        for node in self.produced:
            operation = self.graph.operations[node]
            cut = operation.held(self.produced[node], self.requests[node], self._live_inputs(operation))
            for name in self.graph.states[node]:
                held[name] = _without_whole_axes(cut.get(name, ()), self.graph.state_shapes[name])
        return held

    def _live_inputs(self, operation: Operation) -> list[Channels]:
        return [self.live[source] for source in operation.sources]


def _positions(some: Channels, among: Channels) -> NDArray[np.int64]:
    """Where `some` channels lie in the list of those in `among`."""
    return np.flatnonzero(some[among])


def _without_whole_axes(
    kept: tuple[NDArray[np.int64] | None, ...], shape: tuple[int, ...]
) -> tuple[NDArray[np.int64] | None, ...]:
    """Indices along each axis, None where they are all; empty when the whole state is kept."""
    axes = tuple(
        None if indices is None or len(indices) == size else indices for indices, size in zip(kept, shape, strict=False)
    )
    return axes if any(indices is not None for indices in axes) else ()
