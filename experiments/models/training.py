"""What MODA's trainer and MwT's share: the network and the images that a spec asks for, and how training is carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from experiments.models.checkpoints import CheckpointFolder
from moda_core.architectures.catalogue import complete
from moda_core.baselines.mwt.training import MwtSpec
from moda_core.data.dataset import Dataset, subset
from moda_core.specs import ArchitectureSpec, InputSpec, TrainingSpec
from moda_core.training.distributed import ALONE, Ranks
from moda_core.training.execution import EAGER, Execution
from moda_core.training.reports import EpochReport

__all__ = ["PLAIN", "How", "Reports", "learn", "network_of"]

Reports = Sequence[EpochReport]


@dataclass(frozen=True, kw_only=True)
class How:
    """How training is carried out, which is no part of what is asked for."""

    device: torch.device | str = "cpu"
    execution: Execution = EAGER
    ranks: Ranks = ALONE
    progress: Callable[[EpochReport], None] | None = None

    @property
    def saving(self) -> Execution:
        """`execution`, but where epochs may be shorter than their saving, on CUDA, some are not saved."""
        on_cuda = torch.device(self.device).type == "cuda"
        return replace(self.execution, seconds_between_checkpoints=30.0) if on_cuda else self.execution


PLAIN = How()
"""On the CPU, step by step, alone and silently."""


def network_of(dataset: Dataset, spec: TrainingSpec | MwtSpec) -> tuple[ArchitectureSpec, InputSpec]:
    """The network that a spec asks for, for the images and classes of a data set, and how it takes an image."""
    architecture = complete(
        spec.architecture,
        classes=len(dataset.classes),
        channels=dataset.train.pixels.shape[1],
        image_size=spec.image_size,
        width=spec.width,
    )
    return architecture, dataset.input_spec(architecture.image_size, architecture.channels)


def learn(
    trainer: Callable[..., Reports],
    dataset: Dataset,
    spec: TrainingSpec | MwtSpec,
    rule: InputSpec,
    how: How,
    checkpoints: CheckpointFolder,
) -> Reports:
    """Call a trainer that has its network: on the images that a spec asks for, from the last checkpoint on."""
    return trainer(
        subset(dataset.train, spec.fraction, spec.seed),
        spec,
        rule,
        mirror=dataset.mirror,
        device=how.device,
        execution=how.saving,
        ranks=how.ranks,
        checkpoints=checkpoints,
        progress=how.progress,
    )
