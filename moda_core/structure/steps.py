"""What the steps of a sliced model do, beside running the root's own layers.

They are values and modules, not closures, so that a sliced model can be copied, moved and exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from moda_core.structure.slicing import Feed

__all__ = [
    "Applied",
    "Attribute",
    "Bias",
    "Concatenation",
    "FullShape",
    "Method",
    "Move",
    "Picked",
    "Reshaped",
    "Slot",
    "Zeros",
    "same",
    "with_slots",
]


class Move(nn.Module):
    """Selects some of `given` channels, and spreads them among zeros, `width` in all, where there are gaps."""

    take: Tensor | None
    put: Tensor | None

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.axis, self.width, self.given = feed.axis or 0, feed.width, feed.given
        self.register_buffer("take", None if feed.take is None else torch.tensor(feed.take), persistent=False)
        self.register_buffer("put", None if feed.put is None else torch.tensor(feed.put), persistent=False)
        self.eval()

    def forward(self, value: Tensor) -> Tensor:
        """The channels that a reader asked for."""
        if self.take is not None:
            value = value.index_select(self.axis, self.take)
        if self.put is None:
            return value
        shape = list(value.shape)
        shape[self.axis] = self.width
        return value.new_zeros(shape).index_copy(self.axis, self.put, value)


class Bias(nn.Module):
    """A convolution or linear layer whose input is zero everywhere: its bias, or zero."""

    def __init__(self, shape: tuple[int, ...], axis: int, bias: Tensor | None) -> None:
        super().__init__()
        self.shape, self.axis = shape, axis
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """The bias at every position, for each image of the batch."""
        shape = (image.shape[0], *self.shape[1:])
        if self.bias is None:
            return image.new_zeros(shape)
        aligned = [1] * len(shape)
        aligned[self.axis] = -1
        return self.bias.reshape(aligned).expand(shape)


@dataclass(frozen=True)
class Zeros:
    """A value that is zero everywhere and was therefore not computed."""

    shape: tuple[int, ...]

    def __call__(self, image: Tensor) -> Tensor:
        """Zeros for each image of the batch."""
        return image.new_zeros((image.shape[0], *self.shape[1:]))


@dataclass(frozen=True)
class FullShape:
    """The shape that a value has in the root, with the size of the batch at hand."""

    shape: tuple[int, ...]
    axis: int | None

    def __call__(self, image: Tensor) -> torch.Size | int:
        """The whole shape, or its size along one axis."""
        shape = torch.Size((image.shape[0], *self.shape[1:]))
        return shape if self.axis is None else shape[self.axis]


@dataclass(frozen=True)
class Attribute:
    """A parameter or buffer that the forward pass reads by itself.

    Attributes:
        states: the parameters, or buffers, of the module that holds it; not the module, which may hold this step.
        name: among them.
        target: its name in the whole network.
    """

    states: dict[str, Any] = field(compare=False)
    name: str
    target: str

    def __call__(self) -> Any:
        """The tensor."""
        return self.states[self.name]


@dataclass(frozen=True)
class Slot:
    """The place of a value among arguments."""

    index: int


@dataclass(frozen=True)
class Applied:
    """A function with some of its arguments fixed."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def __call__(self, *values: Any) -> Any:
        """The function of the values, in the places of their slots."""
        return self.function(*_filled(self.arguments, values), **_filled(self.keywords, values))


def with_slots(argument: Any, slots: Mapping[fx.Node, Slot]) -> Any:
    """A traced argument with places instead of nodes."""
    places: Callable[[fx.Node], Any] = slots.__getitem__
    return fx.node.map_arg(argument, places)


def _filled(template: Any, values: tuple[Any, ...]) -> Any:
    if isinstance(template, Slot):
        return values[template.index]
    if isinstance(template, tuple | list):
        return type(template)(_filled(item, values) for item in template)
    if isinstance(template, dict):
        return {name: _filled(item, values) for name, item in template.items()}
    if isinstance(template, slice):
        return slice(*(_filled(item, values) for item in (template.start, template.stop, template.step)))
    return template


@dataclass(frozen=True)
class Method:
    """A method of the first argument."""

    name: str

    def __call__(self, value: Any, *arguments: Any, **keywords: Any) -> Any:
        """The method's answer."""
        return getattr(value, self.name)(*arguments, **keywords)


@dataclass(frozen=True)
class Concatenation:
    """Values side by side along one axis."""

    axis: int

    def __call__(self, *values: Tensor) -> Tensor:
        """The values joined."""
        return torch.cat(values, self.axis)


@dataclass(frozen=True)
class Reshaped:
    """The elements of a value in the same order, in another shape; the batch stays first."""

    shape: tuple[int, ...]

    def __call__(self, value: Tensor) -> Tensor:
        """The value with that shape, for the size of the batch at hand."""
        return value.reshape(value.shape[0], *self.shape[1:])


@dataclass(frozen=True)
class Picked:
    """Positions of a value along one axis, after its axes were put in another order if one is given."""

    order: tuple[int, ...] | None
    axis: int
    start: int
    length: int | None

    def __call__(self, value: Tensor) -> Tensor:
        """One position, whose axis vanishes, or several."""
        ordered = value if self.order is None else value.permute(self.order)
        if self.length is None:
            return ordered.select(self.axis, self.start)
        return ordered.narrow(self.axis, self.start, self.length)


def same(value: Any) -> Any:
    """What was read: the only side of a sum that is not zero, or a section that was selected before."""
    return value
