"""What each kind of call does to channels: the rules that slicing is made of.

Every value in a network is a tensor with one *channel axis* (or none that is known): of channels,
neurons or attention heads. For a value, *live* channels are those that can differ from zero in the masked model, *needed* ones those that
some reader asks for. An operation answers, in terms of boolean arrays over channels:

- `live`: which channels of its output are live, given those of its inputs (forward);
- `requests`: which channels it asks of each input, given what is needed of its output (backward);
  asking for a channel that is not live means "as a zero";
- `produced`: which channels it really computes, a superset of the needed ones;
- `held`: which rows and columns of its parameters it keeps for that.

A call with no rule is `Opaque`: it asks for all channels of everything and keeps all its
parameters, which is always right, only larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import fx

__all__ = [
    "Add",
    "Batch",
    "Channels",
    "Concatenate",
    "Convolution",
    "Dense",
    "Held",
    "Input",
    "Linear",
    "Matmul",
    "Multiply",
    "Norm",
    "Opaque",
    "Operation",
    "Pointwise",
    "Value",
]

Channels = NDArray[np.bool_]
"""One boolean per channel of a value."""

Held = dict[str, tuple[NDArray[np.int64] | None, ...]]
"""Per state name, the kept indices along each leading axis; None keeps the whole axis."""


@dataclass(frozen=True)
class Value:
    """A node's output: its full shape (batch first), and its channel axis if one is known."""

    shape: tuple[int, ...]
    axis: int | None

    @property
    def width(self) -> int:
        """Channels, or 1 for a value without a channel axis: it is there whole, or not at all."""
        return 1 if self.axis is None else self.shape[self.axis]

    def all(self) -> Channels:
        """Every channel."""
        return np.ones(self.width, dtype=np.bool_)

    def none(self) -> Channels:
        """No channel."""
        return np.zeros(self.width, dtype=np.bool_)


@dataclass(frozen=True)
class Operation:
    """One call of the graph, its output and the tensors it reads."""

    node: fx.Node
    output: Value
    sources: tuple[fx.Node, ...]
    inputs: tuple[Value, ...]

    def live(self, inputs: Sequence[Channels]) -> Channels:  # noqa: ARG002  # the rule of the unknown
        """Live channels of the output."""
        return self.output.all()

    def requests(self, needed: Channels, live: Sequence[Channels]) -> list[Channels]:  # noqa: ARG002
        """Channels asked of each input, when some of the output is needed."""
        return [value.all() for value in self.inputs]

    def produced(self, needed: Channels, requests: Sequence[Channels]) -> Channels:  # noqa: ARG002
        """Channels of the output that are computed."""
        return self.output.all()

    def held(self, produced: Channels, requests: Sequence[Channels], live: Sequence[Channels]) -> Held:  # noqa: ARG002
        """Kept parts of the call's parameters and buffers; names that are missing are kept whole."""
        return {}

    def flops(self, produced: Channels, fed: Sequence[Channels]) -> int:  # noqa: ARG002
        """Multiply-adds counted as two, for one sample."""
        return 0


class Input(Operation):
    """The image."""


@dataclass(frozen=True)
class Opaque(Operation):
    """A call without a rule; `cost` is its measured number of operations."""

    cost: int = 0

    def flops(self, produced: Channels, fed: Sequence[Channels]) -> int:  # noqa: ARG002, D102
        return self.cost


class Batch(Operation):
    """A shape that is read off a value: only the size of the batch is taken, when the model runs."""

    def requests(self, needed: Channels, live: Sequence[Channels]) -> list[Channels]:  # noqa: ARG002, D102
        return [value.none() for value in self.inputs]


class _Channelwise(Operation):
    """Channel c of the output comes from channel c of the inputs alone."""

    def produced(self, needed: Channels, requests: Sequence[Channels]) -> Channels:  # noqa: ARG002
        return needed


@dataclass(frozen=True)
class Pointwise(_Channelwise):
    """Pools, dropout, permutes, sigmoids: one input; `keeps_zero` if a zero channel stays zero."""

    keeps_zero: bool = True

    def live(self, inputs: Sequence[Channels]) -> Channels:  # noqa: D102
        return inputs[0] if self.keeps_zero else self.output.all()

    def requests(self, needed: Channels, live: Sequence[Channels]) -> list[Channels]:  # noqa: ARG002, D102
        return [needed]


class Norm(_Channelwise):
    """Batch norm: a zero channel becomes a constant, so every channel is live."""

    def requests(self, needed: Channels, live: Sequence[Channels]) -> list[Channels]:  # noqa: ARG002, D102
        return [needed]

    def held(self, produced: Channels, requests: Sequence[Channels], live: Sequence[Channels]) -> Held:  # noqa: ARG002, D102
        rows = (np.flatnonzero(produced),)
        return {f"{self.node.target}.{name}": rows for name in ("weight", "bias", "running_mean", "running_var")}


class Add(_Channelwise):
    """A sum of values: alive where any side is, and each side gives what it has."""

    def live(self, inputs: Sequence[Channels]) -> Channels:  # noqa: D102
        joined: Channels = np.logical_or.reduce(inputs)
        return joined

    def requests(self, needed: Channels, live: Sequence[Channels]) -> list[Channels]:
        """A dead side is left out, unless the sum has its shape from that side."""
        asked = [
            needed if (needed & side).any() else value.none() for side, value in zip(live, self.inputs, strict=True)
        ]
        whole = [value.shape == self.output.shape for value in self.inputs]
        if not any(full and channels.any() for full, channels in zip(whole, asked, strict=True)):
            for place in [whole.index(True)] if True in whole else range(len(asked)):
                asked[place] = needed
        return asked


class Multiply(_Channelwise):
    """A product of values: alive where both sides are."""

    def live(self, inputs: Sequence[Channels]) -> Channels:  # noqa: D102
        joined: Channels = np.logical_and.reduce(inputs)
        return joined

    def requests(self, needed: Channels, live: Sequence[Channels]) -> list[Channels]:  # noqa: ARG002, D102
        return [needed for _ in self.inputs]


@dataclass(frozen=True)
class Matmul(Multiply):
    """Products of matrices, one pair per channel; `inner` is the length of the sums."""

    inner: int = 1

    def flops(self, produced: Channels, fed: Sequence[Channels]) -> int:  # noqa: ARG002, D102
        positions = math.prod(self.output.shape[1:]) // self.output.width
        return 2 * positions * self.inner * int(np.count_nonzero(produced))


class Concatenate(_Channelwise):
    """Values side by side along the channel axis."""

    def live(self, inputs: Sequence[Channels]) -> Channels:  # noqa: D102
        return np.concatenate(inputs)

    def requests(self, needed: Channels, live: Sequence[Channels]) -> list[Channels]:  # noqa: ARG002, D102
        return np.split(needed, np.cumsum([value.width for value in self.inputs])[:-1])


class Dense(Operation):
    """A map that mixes channels, with a weight [rows, columns, ...] and perhaps a bias [rows]."""

    columns_known: bool

    def requests(self, needed: Channels, live: Sequence[Channels]) -> list[Channels]:  # noqa: ARG002, D102
        (value,) = self.inputs
        return [live[0] if self.columns_known or not live[0].any() else value.all()]

    def produced(self, needed: Channels, requests: Sequence[Channels]) -> Channels:  # noqa: ARG002, D102
        return needed

    def held(self, produced: Channels, requests: Sequence[Channels], live: Sequence[Channels]) -> Held:  # noqa: ARG002, D102
        rows = np.flatnonzero(produced)
        (columns,) = requests
        every = not self.columns_known and columns.any()
        return {
            f"{self.node.target}.weight": (rows, None if every else np.flatnonzero(columns)),
            f"{self.node.target}.bias": (rows,),
        }

    def flops(self, produced: Channels, fed: Sequence[Channels]) -> int:  # noqa: D102
        (value,) = self.inputs
        columns = np.count_nonzero(fed[0]) if self.columns_known or not fed[0].any() else self._full_columns(value)
        return 2 * self._positions() * int(np.count_nonzero(produced)) * int(columns)

    def _full_columns(self, value: Value) -> int:
        raise NotImplementedError

    def _positions(self) -> int:
        """How often each weight element is used for one sample."""
        raise NotImplementedError


@dataclass(frozen=True)
class Linear(Dense):
    """A fully connected layer over the last axis."""

    columns_known: bool = True

    def _full_columns(self, value: Value) -> int:
        return value.shape[-1]

    def _positions(self) -> int:
        return math.prod(self.output.shape[1:-1])


@dataclass(frozen=True)
class Convolution(Dense):
    """A convolution; `groups` > 1 keeps the groups that are touched, whole."""

    columns_known: bool = True
    groups: int = 1
    kernel: tuple[int, ...] = (1,)

    def _touched(self, channels: Channels) -> Channels:
        """All input channels of the groups to which some output channels belong."""
        (value,) = self.inputs
        groups = channels.reshape(self.groups, -1).any(axis=1)
        return np.repeat(groups, value.width // self.groups)

    def requests(self, needed: Channels, live: Sequence[Channels]) -> list[Channels]:  # noqa: D102
        if self.groups == 1:
            return super().requests(needed, live)
        touched = self._touched(needed)
        return [touched if (touched & live[0]).any() else np.zeros_like(touched)]

    def produced(self, needed: Channels, requests: Sequence[Channels]) -> Channels:  # noqa: ARG002, D102
        groups = needed.reshape(self.groups, -1)
        return needed if self.groups == 1 else np.repeat(groups.any(axis=1), groups.shape[1])

    def held(self, produced: Channels, requests: Sequence[Channels], live: Sequence[Channels]) -> Held:  # noqa: D102
        held = super().held(produced, requests, live)
        if self.groups > 1 and requests[0].any():
            name = f"{self.node.target}.weight"
            held[name] = (held[name][0], None)
        return held

    def flops(self, produced: Channels, fed: Sequence[Channels]) -> int:  # noqa: D102
        if self.groups == 1:
            return super().flops(produced, fed)
        per_group = self.inputs[0].width // self.groups if fed[0].any() else 0
        return 2 * self._positions() * int(np.count_nonzero(produced)) * per_group

    def _full_columns(self, value: Value) -> int:
        return value.shape[1]

    def _positions(self) -> int:
        return math.prod(self.output.shape[2:]) * math.prod(self.kernel)
