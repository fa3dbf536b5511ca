"""Activation-driven training: the paper's recipe, resumable after every epoch that was saved.

SGD with Nesterov momentum; the learning rate falls along a cosine, epoch by epoch, from its first
value towards zero after the last. Weights and images lie channels-last; on CUDA the network runs in
bfloat16 autocast, on the CPU in float32, where one seed gives one result to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch
from torch import nn

from moda_core.data.batches import Batches
from moda_core.data.dataset import Images
from moda_core.errors import Cancelled, TrainingFailure
from moda_core.specs import InputSpec, TrainingSpec
from moda_core.structure.unitgraph import UnitGraph
from moda_core.training.checkpoints import Checkpoints
from moda_core.training.criteria import Criterion, criterion_of
from moda_core.training.distributed import ALONE, Ranks
from moda_core.training.execution import EAGER, Execution
from moda_core.training.reports import EpochReport
from moda_core.training.run import Run, has_batch_norm
from moda_core.training.steps import lay_out
from moda_core.training.surroundings import borrowed_generators, deterministic_algorithms, never
from moda_core.training.synced_batch_norm import synced_batch_norm

__all__ = ["descend", "train"]


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
        partial(criterion_of, spec, model, graph, ranks),
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
    criterion: Callable[[], Criterion],
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
        criterion: makes it, over `model`; called once, when `model` is on `device` and has the batch
            norms that it trains with.
        images: all that is trained on: the fraction has been taken already.
        recipe: epochs, batches, descent, augmentation and seed; its objective is the criterion's matter.
        input: what becomes of the images at the network's door.
        identity: what a checkpoint must carry to be one of this run.
        mirror: whether mirror images keep their class, for a recipe that leaves `flip` open.
        device: where to train.
        execution: how, one of several equal ways.
        ranks: the processes that train together, each with its share of every batch; `criterion` is
            of the same. Checkpoints, read by all, are saved by the first, which alone has progress.
        checkpoints: where epochs are saved, before `progress` hears of them: the last, those that
            `execution` asks for (by default every one), and the last whole one of a run that ends early.
        progress: hears of every epoch.
        cancelled: asked before every step; several ranks stop together, a few steps later.

    Returns:
        The reports of all epochs, those before a resumption included.

    Raises:
        Cancelled: when `cancelled` said so.
        TrainingFailure: when loss or weights were no longer finite, and no checkpoint holds them; when
            the first rank could not go on.
        Conflict, Corrupt: when the checkpoint is of another run or number of ranks, not that of the other
            ranks, or not whole.
        InvalidInput: for batches of less than two samples a rank and a network with batch norm, for an
            `execution` that is not for this device or number of ranks, and for a step that cannot be compiled.
        StorageFailure: when a checkpoint cannot be written or read.
    """
    device = torch.device(device)
    flip = mirror if recipe.flip is None else recipe.flip
    with ExitStack() as surroundings:
        surroundings.enter_context(synced_batch_norm(model.to(device), ranks, execution.synced_batch_norm))
        made = criterion()  # before the generators are seeded, lest it draw from them
        generators = surroundings.enter_context(borrowed_generators(device, recipe.seed))
        surroundings.enter_context(deterministic_algorithms(execution.deterministic))
        run = Run(model, made, recipe, identity, device, execution, generators, ranks)
        batches = Batches(
            images,
            input,
            batch_size=recipe.batch_size,
            generator=generators["batches"],
            crop_padding=recipe.crop_padding,
            flip=flip,
            device=device,
            share=ranks.share,
            least=2 * ranks.world if has_batch_norm(model) else 2,
        )
        checkpoint = None if checkpoints is None else checkpoints.load()
        ranks.require_same("the latest checkpoint's epoch", 0 if checkpoint is None else checkpoint.epoch)
        if checkpoint is not None:
            run.resume(checkpoint)
        ranks.adopt_first(model)
        cancelled = ranks.together(cancelled)
        while len(run.history) < recipe.epochs:
            report = _whole(run, batches, checkpoints, cancelled)
            ranks.first(partial(_tell, run, report, checkpoints, progress))
        ranks.adopt_first(model)  # its running statistics
    lay_out(model.eval(), torch.contiguous_format)
    return tuple(run.history)


def _whole(run: Run, batches: Batches, checkpoints: Checkpoints | None, cancelled: Callable[[], bool]) -> EpochReport:
    """One epoch; if it ends early, the one before it is kept. All ranks end early together."""
    try:
        return run.epoch(batches, cancelled)
    except (Cancelled, TrainingFailure):
        if checkpoints is not None:
            run.ranks.first(partial(run.keep_before, checkpoints))
        raise


def _tell(
    run: Run, report: EpochReport, checkpoints: Checkpoints | None, progress: Callable[[EpochReport], None] | None
) -> None:
    if checkpoints is not None and run.checkpoint_due():
        run.keep(checkpoints)
    if progress is not None:
        progress(report)
