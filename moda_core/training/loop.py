"""Activation-driven training: the paper's recipe, resumable after every epoch.

SGD with Nesterov momentum; the learning rate falls along a cosine, epoch by epoch, from its first
value towards zero after the last. Weights and images lie channels-last; on CUDA the network runs in
bfloat16 autocast, on the CPU in float32, where one seed gives one result to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

from moda_core.data.batches import Batches
from moda_core.data.dataset import Images
from moda_core.errors import Cancelled, Conflict, InvalidInput, TrainingFailure
from moda_core.specs import InputSpec, TrainingSpec
from moda_core.structure.unitgraph import UnitGraph
from moda_core.training.checkpoints import Checkpoint, Checkpoints, captured, restore
from moda_core.training.criteria import Criterion, criterion_of
from moda_core.training.diagnosis import first_failure
from moda_core.training.distributed import ALONE, Ranks
from moda_core.training.execution import EAGER, Execution
from moda_core.training.reports import EpochReport
from moda_core.training.steps import LAYOUT, Step
from moda_core.training.surroundings import borrowed_generators, deterministic_algorithms, never

__all__ = ["STEPS_BETWEEN_CHECKS", "descend", "learning_rate", "train"]

STEPS_BETWEEN_CHECKS = 50
"""After how many steps a loss that is no longer finite ends a long epoch early."""


def learning_rate(recipe: TrainingSpec, epoch: int) -> float:
    """The rate of an epoch, counted from 0: half a cosine over all epochs."""
    return recipe.learning_rate * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2


def train(
    model: nn.Module,
    graph: UnitGraph | None,
    images: Images,
    spec: TrainingSpec,
    input: InputSpec,  # noqa: A002  # the name that every model gives it
    *,
    mirror: bool,
    device: torch.device | str,
    execution: Execution = EAGER,
    ranks: Ranks = ALONE,
    checkpoints: Checkpoints | None = None,
    progress: Callable[[EpochReport], None] | None = None,
    cancelled: Callable[[], bool] = never,
) -> tuple[EpochReport, ...]:
    """Train `model` in place as a spec says, from its weights or from the latest checkpoint.

    `graph` may be None for the standard objective. Everything else is as for `descend`.

    Raises:
        Untraceable: for the modular objective without a graph.
    """
    return descend(
        model,
        criterion_of(spec, model.to(device), graph, ranks),
        images,
        spec,
        input,
        identity=spec.digest(),
        mirror=mirror,
        device=device,
        execution=execution,
        ranks=ranks,
        checkpoints=checkpoints,
        progress=progress,
        cancelled=cancelled,
    )


def descend(
    model: nn.Module,
    criterion: Criterion,
    images: Images,
    recipe: TrainingSpec,
    input: InputSpec,  # noqa: A002  # the name that every model gives it
    *,
    identity: str,
    mirror: bool,
    device: torch.device | str,
    execution: Execution = EAGER,
    ranks: Ranks = ALONE,
    checkpoints: Checkpoints | None = None,
    progress: Callable[[EpochReport], None] | None = None,
    cancelled: Callable[[], bool] = never,
) -> tuple[EpochReport, ...]:
    """Train `model` in place along a criterion, from its weights or from the latest checkpoint.

    It is left in eval mode. The caller's random generators and convolution settings are as before
    when it returns or raises.

    Args:
        model: its parameters are trained, its states checkpointed.
        criterion: over `model`'s parameters; made when they were on `device`.
        images: all that is trained on: the fraction has been taken already.
        recipe: epochs, batches, descent, augmentation and seed; its objective is the criterion's matter.
        input: what becomes of the images at the network's door.
        identity: what a checkpoint must carry to be one of this run.
        mirror: whether mirror images keep their class, for a recipe that leaves `flip` open.
        device: where to train.
        execution: how, one of several equal ways.
        ranks: the processes that train together, each with its share of every batch; `criterion` is
            of the same. Checkpoints, read by all, are saved by the first, which alone has progress.
        checkpoints: where one is saved after every epoch, before `progress` hears of it.
        progress: hears of every epoch.
        cancelled: asked before every step; several ranks stop together, a few steps later.

    Returns:
        The reports of all epochs, those before a resumption included.

    Raises:
        Cancelled: when `cancelled` said so.
        TrainingFailure: when loss or weights were no longer finite, and no checkpoint holds them; when
            the first rank could not go on.
        Conflict, Corrupt: when the checkpoint is of another run, or not that of the other ranks, or broken.
        InvalidInput: for batches of less than two samples a rank and a network with batch norm, and for
            captured steps of several ranks.
    """
    flip = mirror if recipe.flip is None else recipe.flip
    with (
        borrowed_generators(torch.device(device), recipe.seed) as generators,
        deterministic_algorithms(execution.deterministic),
    ):
        run = _Run(model, criterion, recipe, identity, torch.device(device), execution, generators, ranks)
        batches = Batches(
            images,
            input,
            batch_size=recipe.batch_size,
            generator=generators["batches"],
            crop_padding=recipe.crop_padding,
            flip=flip,
            device=device,
            share=ranks.share,
            least=2 * ranks.world if _has_batch_norm(model) else 2,
        )
        checkpoint = None if checkpoints is None else checkpoints.load()
        ranks.require_same("the latest checkpoint's epoch", 0 if checkpoint is None else checkpoint.epoch)
        if checkpoint is not None:
            run.resume(checkpoint)
        ranks.adopt_first(model)
        cancelled = ranks.together(cancelled)
        while len(run.history) < recipe.epochs:
            report = run.epoch(batches, cancelled)
            ranks.first(partial(_tell, run, report, checkpoints, progress))
        ranks.adopt_first(model)  # its running statistics
    _lay_out(model.eval(), torch.contiguous_format)
    return tuple(run.history)


class _Run:
    """A training run: all that changes from step to step, and the reports so far."""

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
        _check_execution(execution, ranks)
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
        self.model = _lay_out(model, LAYOUT)
        self.terms, self.ranks = criterion.terms, ranks
        self.recipe, self.identity, self.device, self.generators = recipe, identity, device, generators
        self.history: list[EpochReport] = []
        self.seconds: list[float] = []

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on after a checkpoint of the same run."""
        if checkpoint.state.get("spec") != self.identity:
            raise Conflict("the checkpoint belongs to another training spec", "give every spec its own checkpoints")
        restore(checkpoint.tensors, self.model, self.optimizer, self.generators)
        self.history = [EpochReport.from_json(report) for report in checkpoint.state["history"]]

    def checkpoint(self) -> Checkpoint:
        """The run as it is between two epochs."""
        return Checkpoint(
            epoch=len(self.history),
            tensors=captured(self.model, self.optimizer, self.generators),
            state={"spec": self.identity, "history": [report.to_json() for report in self.history]},
        )

    def epoch(self, batches: Batches, cancelled: Callable[[], bool]) -> EpochReport:
        """One pass over the images; next to nothing is read back from the device before its end."""
        begun, samples = time.perf_counter(), 0
        rate = learning_rate(self.recipe, len(self.history))
        self.step.set_rate(rate)
        before = captured(self.model, self.optimizer, self.generators, self.device)
        drawn_from = [self.generators[name] for name in self.generators if name != "batches"]
        self.ranks.seed(drawn_from, self.recipe.seed, len(self.history))
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
            raise self._failure(before, batches, rate)
        return self._reported(averages, rate, int(joint), time.perf_counter() - begun)

    def _finite(self, means: list[float]) -> bool:
        """Whether the epoch left numbers behind, on every rank."""
        weights = [t.isfinite().all() for t in self.model.state_dict().values() if t.is_floating_point()]
        finite = all(map(math.isfinite, means)) and bool(torch.stack(weights).all())
        return not self.ranks.agreed(not finite)

    def _failure(self, before: Mapping[str, torch.Tensor], batches: Batches, rate: float) -> TrainingFailure:
        """The error that says where the numbers of an epoch ended; on several ranks, when only."""
        where = ""
        if self.ranks.world == 1:
            restore(before, self.model, self.optimizer, self.generators)
            where = f"; first was {first_failure(self.step, self.model, batches)}"
        return TrainingFailure(
            f"the loss was no longer finite in epoch {len(self.history) + 1} at learning rate {rate:g}{where}",
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


def _lay_out(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    return model.to(memory_format=layout)  # type: ignore[call-overload,no-any-return]  # torch's stubs lack it


def _tell(
    run: _Run, report: EpochReport, checkpoints: Checkpoints | None, progress: Callable[[EpochReport], None] | None
) -> None:
    if checkpoints is not None:
        checkpoints.save(run.checkpoint())
    if progress is not None:
        progress(report)


def _has_batch_norm(model: nn.Module) -> bool:
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return any(isinstance(module, norms) for module in model.modules())


def _check_batch_norm(model: nn.Module, recipe: TrainingSpec, ranks: Ranks) -> None:
    least = 2 * ranks.world
    if recipe.batch_size < least and _has_batch_norm(model):
        raise InvalidInput(
            "batch_size",
            recipe.batch_size,
            "a network with batch norm cannot train on single samples",
            f"give {least} or more",
        )


def _check_execution(execution: Execution, ranks: Ranks) -> None:
    if execution.captured and ranks.world > 1:
        raise InvalidInput(
            "captured", True, "steps that wait for other processes are not recorded", "leave it off, or use one process"
        )
