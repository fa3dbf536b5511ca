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

What stays with each rank: batch norm sees its own share only (`Execution.synced_batch_norm` changes
that on CUDA), and of the running statistics those of rank 0 are kept. Dropout draws from a generator per rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from moda_core.errors import Conflict, InvalidInput, TrainingFailure
from moda_core.specs import sha256
from moda_core.training.objectives import ClassSums

__all__ = ["ALONE", "STEPS_BETWEEN_AGREEMENTS", "TIMEOUT_S", "Ranks", "joined"]

T = TypeVar("T")

TIMEOUT_S = 600.0
"""How long a rank waits for the others in one exchange before it gives up; writing a checkpoint takes less."""

STEPS_BETWEEN_AGREEMENTS = 16
"""After how many steps at the latest all ranks know that one of them was told to stop."""


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train together.

    Every method but `share` and `seed` is an exchange: all ranks call it, in the same order, or wait
    for each other until the group's timeout. With a world of one it costs nothing.

    Attributes:
        rank: from 0.
        world: how many there are; more than one only within `joined`.
    """

    rank: int = 0
    world: int = 1

    def share(self, size: int) -> slice:
        """This rank's part of `size` samples: contiguous, none twice, sizes differing by one at most."""
        return slice(size * self.rank // self.world, size * (self.rank + 1) // self.world)

    def seed(self, generators: Iterable[torch.Generator], seed: int, epoch: int) -> None:
        """Before an epoch, give every rank but the first random numbers of its own.

        The first goes on with those it has, as a single process does. The others' depend on the
        run's seed, rank and epoch alone, so a checkpoint need not hold them.
        """
        if self.rank > 0:
            folded = int(sha256(f"{seed} {self.rank} {epoch}")[:15], 16)
            for generator in generators:
                generator.manual_seed(folded)

    def total(self, part: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The sum over ranks, the same on each to the bit; differentiable, for gradients that are averaged."""
        if self.world == 1:
            return part
        whole: Tensor = _Total.apply(part)  # type: ignore[no-untyped-call]
        return whole

    def reduced(self, groups: Sequence[ClassSums]) -> list[ClassSums]:
        """The class sums of the joint batch, for all groups of layers in one exchange."""
        parts = [part for sums in groups for part in _tensors(sums)]
        if self.world == 1 or not parts:
            return list(groups)
        wholes = iter(
            whole if part.requires_grad else whole.detach()
            for whole, part in zip(_unpacked(self.total(_packed(parts)), parts), parts, strict=True)
        )
        return [ClassSums(*(next(wholes) for _ in _tensors(sums))) for sums in groups]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over ranks, in one exchange whose order never changes."""
        if self.world == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            return
        flat = _packed(gradients)
        dist.all_reduce(flat)
        for gradient, mean in zip(gradients, _unpacked(flat.div_(self.world), gradients), strict=True):
            gradient.copy_(mean)

    def summed(self, counts: Mapping[str, Int[Tensor, "..."]]) -> dict[str, Int[Tensor, "..."]]:
        """Integers added up over ranks, exactly."""
        if self.world == 1 or not counts:
            return dict(counts)
        flat = _packed([count.long() for count in counts.values()])
        dist.all_reduce(flat)
        return dict(zip(counts, _unpacked(flat, list(counts.values())), strict=True))

    @torch.no_grad()
    def adopt_first(self, model: nn.Module) -> None:
        """Give every rank the first one's parameters and buffers, in place."""
        if self.world == 1:
            return
        for state in model.state_dict().values():
            sent = state.contiguous()
            dist.broadcast(sent, src=0)
            state.copy_(sent)

    def agreed(self, said: bool) -> bool:
        """Whether any rank says so."""
        if self.world == 1:
            return said
        flag = torch.tensor([int(said)])  # on the CPU, so that no rank waits for its device
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())

    def gathered(self, said: T) -> list[T]:
        """What every rank says, in their order, on each of them; any plain value."""
        if self.world == 1:
            return [said]
        all_said: list[T] = [said] * self.world
        dist.all_gather_object(all_said, said)
        return all_said

    def require_same(self, what: str, number: int) -> None:
        """Raise on every rank where `number` is not the same on all.

        Raises:
            Conflict: naming `what` differs.
        """
        if self.world == 1:
            return
        extremes = torch.tensor([number, -number])
        dist.all_reduce(extremes, dist.ReduceOp.MAX)
        if extremes.sum() != 0:
            raise Conflict(
                f"{what} differs between processes: {number} on rank {self.rank}, up to {extremes[0]} on others",
                "give all of them the same files",
            )

    def first(self, action: Callable[[], object]) -> None:
        """Do it on the first rank, while the others wait.

        Raises:
            TrainingFailure: on the others, when it failed there; there, its own error.
        """
        done = self.rank != 0
        try:
            if not done:
                action()
                done = True
        finally:
            failed = self.agreed(not done)
        if failed:
            raise TrainingFailure("the first process could not go on", "see its own error, then start all of them anew")

    def together(self, cancelled: Callable[[], bool]) -> Callable[[], bool]:
        """`cancelled` for a loop in which all ranks ask equally often: all hear yes at the same asking.

        That is within `STEPS_BETWEEN_AGREEMENTS` askings of the first yes on any rank.
        """
        return cancelled if self.world == 1 else _Agreement(self, cancelled)


ALONE = Ranks()
"""A single process."""


@contextmanager
def joined(*, backend: str, rank: int, world: int, init_method: str, timeout_s: float = TIMEOUT_S) -> Iterator[Ranks]:
    """Meet the other processes, and part from them at the end.

    A process that fails does not leave the others waiting: with gloo its connections close, and they
    fail at their next exchange. With NCCL they find out at their next agreement if that is on gloo,
    from whoever started them (torchrun ends all when one fails), or after `timeout_s`.

    Args:
        rank: of this process, from 0.
        world: how many processes there are; one meets nobody.
        backend: ``gloo`` on CPUs; ``cpu:gloo,cuda:nccl`` on CUDA, as flags are agreed on by CPU tensors.
        init_method: where they meet, ``tcp://host:port`` or ``file:///path`` of a file that is not there yet.
        timeout_s: how long any exchange may take.

    Raises:
        InvalidInput: for a rank outside the world.
    """
    if not 0 <= rank < world:
        raise InvalidInput("rank", rank, f"outside a world of {world}", "count ranks from 0 to one less than the world")
    if world == 1:
        yield ALONE
        return
    dist.init_process_group(
        backend, init_method=init_method, rank=rank, world_size=world, timeout=timedelta(seconds=timeout_s)
    )
    whole = False
    try:
        yield Ranks(rank, world)
        whole = True
    finally:
        if whole or "nccl" not in backend:  # NCCL waits for the others there; the end of the process does not
            dist.destroy_process_group()


class _Total(torch.autograd.Function):
    """Sum over ranks; see the module's beginning for its gradient."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:  # noqa: ARG004  # torch's signature
        whole = part.clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # noqa: ARG004
        return slope * dist.get_world_size()


@dataclass
class _Agreement:
    """Whether any rank was told to stop, asked everywhere, agreed on now and then."""

    ranks: Ranks
    cancelled: Callable[[], bool]
    said: bool = False
    askings: int = 0

    def __call__(self) -> bool:
        self.said = self.said or self.cancelled()
        self.askings += 1
        return self.askings % STEPS_BETWEEN_AGREEMENTS == 0 and self.ranks.agreed(self.said)


def _tensors(sums: ClassSums) -> tuple[Tensor, ...]:
    return sums.samples, sums.directions, sums.squares, sums.norms


def _packed(parts: Sequence[Shaped[Tensor, "..."]]) -> Shaped[Tensor, "elements"]:
    return torch.cat([part.reshape(-1) for part in parts])


def _unpacked(flat: Shaped[Tensor, "elements"], like: Sequence[Shaped[Tensor, "..."]]) -> list[Tensor]:
    """The pieces of `flat`, with the shapes and types of `like`."""
    pieces = torch.split(flat, [part.numel() for part in like])
    return [piece.view(part.shape).to(part.dtype) for piece, part in zip(pieces, like, strict=True)]
