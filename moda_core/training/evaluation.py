"""Measuring a network on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from moda_core.data.dataset import Images
from moda_core.data.images import fit
from moda_core.errors import Cancelled
from moda_core.specs import InputSpec
from moda_core.training.surroundings import full_float32, never

__all__ = ["Accuracy", "accuracy", "accuracy_per_class", "logits"]


@dataclass(frozen=True)
class Accuracy:
    """How many of `samples` images were given their own class first."""

    correct: int
    samples: int

    @property
    def share(self) -> float | None:
        """From 0 to 1; None where there was no image."""
        return self.correct / self.samples if self.samples else None

    def to_json(self) -> dict[str, float | int | None]:
        """The share, with n beside it."""
        return {"accuracy": self.share, "n": self.samples}


@torch.inference_mode()
def logits(
    network: Callable[..., Tensor],
    images: Images,
    inputs: Sequence[InputSpec],
    *,
    device: torch.device | str,
    batch_size: int = 512,
    cancelled: Callable[[], bool] = never,
) -> Float[Tensor, "images classes"]:
    """The logits of every image in order, on the CPU.

    `network` takes, for each of `inputs`, a batch of uint8 images fitted to it, on `device`, and
    normalises them itself.

    Raises:
        Cancelled: when `cancelled`, asked before every batch, said so.
    """
    answers = []
    for pixels in torch.split(images.pixels, batch_size):
        if cancelled():
            raise Cancelled("the evaluation")
        fitted = {rule: fit(pixels, rule).to(device) for rule in set(inputs)}
        with full_float32():
            answers.append(network(*(fitted[rule] for rule in inputs)).float().cpu())
    return torch.cat(answers)


def accuracy(logits: Float[Tensor, "images classes"], labels: Int64[Tensor, "images"]) -> Accuracy:
    """Top-1 accuracy over all images."""
    return Accuracy(int((logits.argmax(dim=1) == labels).sum()), len(labels))


def accuracy_per_class(
    logits: Float[Tensor, "images classes"], labels: Int64[Tensor, "images"], names: Sequence[str]
) -> dict[str, Accuracy]:
    """Top-1 accuracy over the images of each class, by the class's name; `names` are those of the logits."""
    samples = labels.bincount(minlength=len(names)).tolist()
    correct = labels[logits.argmax(dim=1) == labels].bincount(minlength=len(names)).tolist()
    return {name: Accuracy(*pair) for name, *pair in zip(names, correct, samples, strict=True)}
