"""A training run: what changes from step to step, and what is kept of it between epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from moda_core.data.batches import Batches
from moda_core.errors import Cancelled, Conflict, InvalidInput, TrainingFailure
from moda_core.specs import TrainingSpec
from moda_core.training.checkpoints import Checkpoint, Checkpoints, restore, snapshot
from moda_core.training.criteria import Criterion
from moda_core.training.diagnosis import first_failure
from moda_core.training.distributed import Ranks
from moda_core.training.execution import Execution
from moda_core.training.reports import EpochReport
from moda_core.training.steps import LAYOUT, Step, lay_out

__all__ = ["STEPS_BETWEEN_CHECKS", "Run", "has_batch_norm", "learning_rate"]

STEPS_BETWEEN_CHECKS = 50
"""After how many steps a loss that is no longer finite ends a long epoch early."""


def learning_rate(recipe: TrainingSpec, epoch: int) -> float:
    """The rate of an epoch, counted from 0: half a cosine over all epochs."""
    return recipe.learning_rate * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2


class Run:
    """A training run: all that changes from step to step, and the reports so far.

    Attributes:
        history: the reports of the epochs done.
        before: a copy, on the device, of the run before the epoch that is going on.
        saved: the epoch of the latest checkpoint, 0 without one, which was saved at `saved_at`.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        recipe: TrainingSpec,
        identity: str,
        device: torch.device,
        execution: Execution,
        generators: Mapping[str, torch.Generator],
        ranks: Ranks,
    ) -> None:
        _check_batch_norm(model, recipe, ranks)
        on_cuda = device.type == "cuda"
        self.optimizer = torch.optim.SGD(
            model.to(device).train().parameters(),
            lr=torch.tensor(recipe.learning_rate, device=device) if on_cuda else recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
            fused=on_cuda,
        )
        self.step = Step(criterion, self.optimizer, device, execution, ranks)
        self.model = lay_out(model, LAYOUT)
        self.terms, self.ranks = criterion.terms, ranks
        self.recipe, self.identity, self.device, self.generators = recipe, identity, device, generators
        self.seconds_between_checkpoints = execution.seconds_between_checkpoints
        self.history: list[EpochReport] = []
        self.seconds: list[float] = []
        self.before: dict[str, torch.Tensor] = {}
        self.saved, self.saved_at = 0, time.monotonic()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on after a checkpoint of the same run.

        Raises:
            Conflict: for one of another run, or of another number of ranks, which draw other numbers.
            Corrupt: for one that is not whole.
        """
        if checkpoint.state.get("spec") != self.identity:
            raise Conflict("the checkpoint belongs to another training spec", "give every spec its own checkpoints")
        world = checkpoint.state.get("world", self.ranks.world)  # the first checkpoints did not say
        if world != self.ranks.world:
            raise Conflict(
                f"the checkpoint is of {world} processes, and now there are {self.ranks.world}",
                "go on with as many as before, or delete the checkpoint",
            )
        restore(checkpoint.tensors, self.model, self.optimizer, self.generators)
        self.history = [EpochReport.from_json(report) for report in checkpoint.state["history"]]
        self.saved = checkpoint.epoch

    def checkpoint_due(self) -> bool:
        """Whether the epoch that has just ended is to be saved: the last, or long enough after the last save."""
        if len(self.history) == self.recipe.epochs:
            return True
        return time.monotonic() - self.saved_at >= self.seconds_between_checkpoints

    def keep(self, checkpoints: Checkpoints) -> None:
        """Save the run as it is between two epochs."""
        self._save(checkpoints, snapshot(self.model, self.optimizer, self.generators))

    def keep_before(self, checkpoints: Checkpoints) -> None:
        """Save the run as it was before the epoch that has been broken off, unless that is stored."""
        if len(self.history) > self.saved:
            self._save(checkpoints, {name: tensor.cpu() for name, tensor in self.before.items()})

    def _save(self, checkpoints: Checkpoints, tensors: Mapping[str, torch.Tensor]) -> None:
        history = [report.to_json() for report in self.history]
        state = {"spec": self.identity, "world": self.ranks.world, "history": history}
        checkpoints.save(Checkpoint(epoch=len(self.history), tensors=tensors, state=state))
        self.saved, self.saved_at = len(self.history), time.monotonic()

    def epoch(self, batches: Batches, cancelled: Callable[[], bool]) -> EpochReport:
        """One pass over the images; next to nothing is read back from the device before its end."""
        begun, samples = time.perf_counter(), 0
        rate = learning_rate(self.recipe, len(self.history))
        self.step.set_rate(rate)
        self.before = snapshot(self.model, self.optimizer, self.generators, self.device)
        self._draw_apart()
        sums = torch.zeros(3 + len(self.terms), dtype=torch.float64, device=self.device)
        for number, (pixels, labels) in enumerate(batches, 1):
            if cancelled():
                raise Cancelled("training")
            means = self.step(pixels, labels)
            if len(labels):  # a rank may have no share of a small last batch
                sums += means * len(labels)
            samples += len(labels)
            if number % STEPS_BETWEEN_CHECKS == 0 and self.ranks.world == 1 and not sums.isfinite().all():
                break
        *totals, joint = self.ranks.total(torch.cat((sums, sums.new_tensor([samples])))).tolist()
        averages = [total / joint for total in totals]
        if not self._finite(averages):
            raise self._failure(batches, rate)
        return self._reported(averages, rate, int(joint), time.perf_counter() - begun)

    def _draw_apart(self) -> None:
        """Before an epoch, let every rank draw its own dropout, and all the same order of images."""
        drawn_from = [self.generators[name] for name in self.generators if name != "batches"]
        self.ranks.seed(drawn_from, self.recipe.seed, len(self.history))

    def _finite(self, means: list[float]) -> bool:
        """Whether the epoch left numbers behind, on every rank."""
        weights = [t.isfinite().all() for t in self.model.state_dict().values() if t.is_floating_point()]
        finite = all(map(math.isfinite, means)) and bool(torch.stack(weights).all())
        return not self.ranks.agreed(not finite)

    def _failure(self, batches: Batches, rate: float) -> TrainingFailure:
        """The error that says where the numbers of an epoch ended; all ranks repeat it for that."""
        restore(self.before, self.model, self.optimizer, self.generators, begun=len(self.history) > 0)
        self._draw_apart()
        first = first_failure(self.step, self.model, batches)
        return TrainingFailure(
            f"loss, weights or buffers were no longer finite in epoch {len(self.history) + 1} "
            f"at learning rate {rate:g}; first was {first}",
            "lower the learning rate or the weights of the modular losses",
        )

    def _reported(self, means: list[float], rate: float, samples: int, seconds: float) -> EpochReport:
        loss, cross_entropy, *terms, accuracy = means
        epoch = len(self.history) + 1
        self.seconds.append(seconds)
        report = EpochReport(
            epoch=epoch,
            epochs=self.recipe.epochs,
            loss=loss,
            cross_entropy=cross_entropy,
            terms=dict(zip(self.terms, terms, strict=True)),
            accuracy=accuracy,
            learning_rate=rate,
            samples_per_s=samples / seconds,
            seconds=seconds,
            remaining_s=(self.recipe.epochs - epoch) * sum(self.seconds) / len(self.seconds),
        )
        self.history.append(report)
        return report


def has_batch_norm(model: nn.Module) -> bool:
    """Whether it cannot train on a single sample."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def _check_batch_norm(model: nn.Module, recipe: TrainingSpec, ranks: Ranks) -> None:
    least = 2 * ranks.world
    if recipe.batch_size < least and has_batch_norm(model):
        raise InvalidInput(
            "batch_size",
            recipe.batch_size,
            "a network with batch norm cannot train on single samples",
            f"give {least} or more",
        )
