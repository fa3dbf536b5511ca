"""Operations that count channels anew: joined with other axes, split from them, or only some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moda_core.structure.operations import Channels, Operation, Pointwise
from moda_core.structure.parts import Part

__all__ = ["Merge", "Pick", "Section", "Split"]


@dataclass(frozen=True)
class _Regrouping(Operation):
    """A reshape between an axis of channels and an axis of (before, channels, after)."""

    before: int = 1
    after: int = 1

    def _spread(self, channels: Channels) -> Channels:
        """All places of the larger axis that belong to some channels."""
        return np.tile(np.repeat(channels, self.after), self.before)

    def _gathered(self, places: Channels) -> Channels:
        """The channels to which some places of the larger axis belong."""
        channels: Channels = np.any(places.reshape(self.before, -1, self.after), axis=(0, 2))
        return channels


class Merge(_Regrouping):
    """The channel axis is joined with its neighbours: a channel becomes a set of columns."""

    def live(self, inputs: Sequence[Channels]) -> Channels:  # noqa: D102
        return self._spread(inputs[0])

    def requests(self, needed: Channels, live: Sequence[Channels]) -> list[Channels]:  # noqa: ARG002, D102
        return [self._gathered(needed)]

    def produced(self, needed: Channels, requests: Sequence[Channels]) -> Channels:  # noqa: ARG002, D102
        return self._spread(requests[0])


class Split(_Regrouping):
    """The channel axis is divided into several: a channel is a set of those there were, and asks for all of them."""

    def live(self, inputs: Sequence[Channels]) -> Channels:  # noqa: D102
        return self._gathered(inputs[0])

    def requests(self, needed: Channels, live: Sequence[Channels]) -> list[Channels]:  # noqa: ARG002, D102
        return [self._spread(needed)]

    def produced(self, needed: Channels, requests: Sequence[Channels]) -> Channels:  # noqa: ARG002, D102
        return needed


@dataclass(frozen=True)
class Section(Operation):
    """Some channels in a row, from `start` on."""

    start: int = 0

    def live(self, inputs: Sequence[Channels]) -> Channels:  # noqa: D102
        return inputs[0][self.start : self.start + self.output.width]

    def requests(self, needed: Channels, live: Sequence[Channels]) -> list[Channels]:  # noqa: ARG002, D102
        (value,) = self.inputs
        asked = value.none()
        asked[self.start : self.start + self.output.width] = needed
        return [asked]

    def produced(self, needed: Channels, requests: Sequence[Channels]) -> Channels:  # noqa: ARG002, D102
        return needed


@dataclass(frozen=True, kw_only=True)
class Pick(Pointwise):
    """A part along another axis than the channels'."""

    part: Part
