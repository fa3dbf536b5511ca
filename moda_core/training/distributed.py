"""Training on several devices at once, one process each, exact for the joint batch.

Every rank of a torch.distributed process group holds the whole network and all images, draws the
same random order of every epoch, and takes its own share of every batch. A loss needs sums over a
batch's samples and nothing else of it; `Ranks.total` adds them up over ranks, so every rank has the
one loss L of the joint batch. With s_r the sums of rank r,

    dL/dθ = Σ_r dL/ds · ds_r/dθ

of which a rank can work out its own term alone. As gradients are then *averaged* over the W ranks
(`Ranks.average_gradients`), the gradient that `total` hands down is W · dL/ds; every rank has L and
so dL/ds, and nothing needs to be sent for it.

Gradients travel as one vector after the backward pass, not through torch's DistributedDataParallel:
that one rearranges its buckets after the first step, which from three ranks on changes the order in
which numbers are added, so that a resumed run would part from one that was never stopped.

What stays with each rank: batch norm sees its own share only (see `synced_batch_norm`), and of the
running statistics those of rank 0 are kept. Dropout draws from a generator per rank.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import timedelta
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor, nn

from moda_core.errors import Conflict, InvalidInput, TrainingFailure
from moda_core.training.objectives import ClassSums

__all__ = ["ALONE", "STEPS_BETWEEN_AGREEMENTS", "TIMEOUT_S", "Ranks", "joined", "synced_batch_norm"]

TIMEOUT_S = 600.0
"""How long a rank waits for the others in one exchange before it gives up: longer than any checkpoint takes."""

STEPS_BETWEEN_AGREEMENTS = 16
"""After how many steps at the latest all ranks know that one of them was told to stop."""


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train together.

    Every method but `share` is an exchange: all ranks call it, in the same order, or wait for each
    other until the group's timeout. With a world of one it costs nothing.

    Attributes:
        rank: from 0.
        world: how many there are; more than one only within `joined`.
    """

    rank: int = 0
    world: int = 1

    def share(self, size: int) -> slice:
        """This rank's part of `size` samples: contiguous, none twice, sizes differing by one at most."""
        return slice(size * self.rank // self.world, size * (self.rank + 1) // self.world)

    def total(self, part: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The sum over ranks, to the bit the same on each; differentiable, for gradients that are averaged."""
        if self.world == 1:
            return part
        whole: Tensor = _Total.apply(part)  # type: ignore[no-untyped-call]
        return whole

    def reduced(self, groups: Sequence[ClassSums]) -> list[ClassSums]:
        """The class sums of the joint batch, all of them in one exchange."""
        parts = [part for sums in groups for part in astuple_of(sums)]
        wholes = iter(_unpacked(self.total(_packed(parts)), parts))
        return [ClassSums(*(next(wholes) for _ in astuple_of(sums))) for sums in groups]
