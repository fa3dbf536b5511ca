"""What flows between the operators of a lowered network, and what they are added to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from torch import Tensor

__all__ = ["SAMPLES", "NotLowered", "Samples", "Value", "Writer"]


class NotLowered(Exception):
    """A call for which no operator is known, or a network that ONNX Runtime does not take."""


@dataclass(frozen=True)
class Value:
    """What an operator gives or takes.

    Attributes:
        rank: how many dimensions it has.
        held: the tensor, if it is one of the network's own.
        batched: whether its first dimension is known to be the images.
    """

    name: str
    rank: int
    held: Tensor | None = None
    batched: bool = True


@dataclass(frozen=True)
class Samples:
    """How many images there are, as a size among others."""


SAMPLES: Final = Samples()


@runtime_checkable
class Writer(Protocol):
    """What operators are added to."""

    pixels: Value

    def add(self, kind: str, values: Sequence[Value | None], rank: int, **attributes: Any) -> Value:
        """An operator's output, of so many dimensions; an input that is left out is None."""

    def constant(self, tensor: Tensor) -> Value:
        """A tensor of the network's, or one that an operator reads."""
