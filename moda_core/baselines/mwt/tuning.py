"""MwT's fine-tuning: a composed network and its new head learn the classes they are for.

All parameters descend by the recipe of training for 10 epochs; the learning rate follows the first half of
a cosine of 20 epochs. The epoch that counts is the best on images that are not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from moda_core.baselines.mwt.composition import Answering
from moda_core.data.batches import Batches
from moda_core.data.dataset import Images
from moda_core.errors import Cancelled, InvalidInput, TrainingFailure
from moda_core.specs import AdaptationSpec, Spec
from moda_core.training.criteria import Standard
from moda_core.training.evaluation import Accuracy, accuracy, logits
from moda_core.training.steps import LAYOUT, Step, lay_out
from moda_core.training.surroundings import borrowed_generators, never

__all__ = ["FineTuned", "FineTuningReport", "FineTuningSpec", "fine_tune"]


@dataclass(frozen=True, kw_only=True)
class FineTuningSpec(Spec):
    """How a composed network is fine-tuned; the defaults are MwT's.

    Attributes:
        epochs, batch_size, learning_rate, momentum: SGD with Nesterov momentum and no weight decay.
        period: epochs over which the cosine would reach zero.
        crop_padding: as in `TrainingSpec`.
        validation_share: of the training images that choose the epoch.
        seed: of the validation part, the head, the order of batches and augmentation.
    """

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 0.05
    momentum: float = 0.9
    period: int = 20
    crop_padding: int = 4
    validation_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        AdaptationSpec(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            seed=self.seed,
        )  # checks the ranges
        if not 1 <= self.epochs <= self.period:
            raise InvalidInput("epochs", self.epochs, "out of range", f"give 1 to {self.period}, the period")
        if not 0 <= self.crop_padding <= 64:
            raise InvalidInput("crop_padding", self.crop_padding, "out of range", "give 0 to 64 pixels")
        if not 0 < self.validation_share < 1:
            raise InvalidInput(
                "validation_share", self.validation_share, "out of range", "give a number between 0 and 1"
            )


@dataclass(frozen=True, kw_only=True)
class FineTuningReport:
    """One epoch: means over the training part as it was trained on, and accuracy on the validation part."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    validation: Accuracy

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON data."""
        return {**asdict(self), "validation": {"correct": self.validation.correct, "n": self.validation.samples}}


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned network.

    Attributes:
        network: with the weights of the best epoch, ready to answer.
        epoch: the best one, from 1; the first of equals.
        history: of all epochs.
    """

    network: Answering
    epoch: int
    history: tuple[FineTuningReport, ...]


def fine_tune(
    network: Answering,
    training: Images,
    validation: Images,
    spec: FineTuningSpec,
    *,
    mirror: bool,
    device: torch.device | str = "cpu",
    progress: Callable[[FineTuningReport], None] | None = None,
    cancelled: Callable[[], bool] = never,
) -> FineTuned:
    """Train all parameters of a composed network in place, and go back to its best epoch.

    The images' labels are places among the network's classes. A loss that is no longer finite ends the
    training, and the best epoch before it counts.

    Raises:
        Cancelled: when `cancelled` said so.
        TrainingFailure: when the loss was not finite in the first epoch.
    """
    tuning = _Tuning(network.to(device), validation, spec, torch.device(device), cancelled)
    with borrowed_generators(torch.device(device), spec.seed) as generators:
        # Every composed network has shapes of its own and is trained too briefly for a search to pay off.
        torch.backends.cudnn.benchmark = False
        batches = Batches(
            training,
            network.inputs[0],
            batch_size=spec.batch_size,
            generator=generators["batches"],
            crop_padding=spec.crop_padding,
            flip=mirror,
            device=device,
        )
        for _ in range(spec.epochs):
            report = tuning.epoch(batches)
            if report is None:
                break
            if progress is not None:
                progress(report)
    return tuning.best()


class _Tuning:
    """All that changes from epoch to epoch."""

    def __init__(
        self,
        network: Answering,
        validation: Images,
        spec: FineTuningSpec,
        device: torch.device,
        cancelled: Callable[[], bool],
    ) -> None:
        self.network, self.validation, self.spec = network, validation, spec
        self.device, self.cancelled = device, cancelled
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=spec.learning_rate,
            momentum=spec.momentum,
            nesterov=spec.momentum > 0,
            fused=device.type == "cuda",
        )
        self.step = Step(Standard(network.body), optimizer, device)
        lay_out(network.body, LAYOUT)
        self.history: list[FineTuningReport] = []
        self.kept: tuple[int, Mapping[str, Tensor]] = (0, {})

    def epoch(self, batches: Batches) -> FineTuningReport | None:
        """Train once on all images, then measure; None where the loss was not finite."""
        self._set_rate()
        self.network.train()
        sums, samples = torch.zeros(3, dtype=torch.float64, device=self.device), 0
        for pixels, labels in batches:
            if self.cancelled():
                raise Cancelled("fine-tuning")
            sums += self.step(pixels, labels) * len(labels)
            samples += len(labels)
        loss, _, share = (sums / samples).tolist()
        self.network.eval()
        return self._measured(loss, share) if math.isfinite(loss) else None

    def best(self) -> FineTuned:
        epoch, weights = self.kept
        if not weights:
            raise TrainingFailure(
                f"the loss was not finite in the first epoch at learning rate {self.spec.learning_rate:g}",
                "lower the learning rate",
            )
        self.network.load_state_dict(weights)
        self.network.eval().requires_grad_(False)
        lay_out(self.network.body, torch.contiguous_format)
        return FineTuned(self.network, epoch, tuple(self.history))

    def _set_rate(self) -> None:
        done = len(self.history) / self.spec.period
        self.step.set_rate(self.spec.learning_rate * (1 + math.cos(math.pi * done)) / 2)

    def _measured(self, loss: float, share: float) -> FineTuningReport:
        answers = logits(self.network, self.validation, self.network.inputs, device=self.device)
        found = accuracy(answers, self.validation.labels.cpu())
        if not self.history or found.correct > max(report.validation.correct for report in self.history):
            weights = {name: state.detach().clone() for name, state in self.network.state_dict().items()}
            self.kept = len(self.history) + 1, weights
        report = FineTuningReport(
            epoch=len(self.history) + 1, epochs=self.spec.epochs, loss=loss, accuracy=share, validation=found
        )
        self.history.append(report)
        return report
