"""Test images on the device, normalised once, and how many of some classes a network gets right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from moda_core.data.dataset import Images
from moda_core.data.images import fit, normalise
from moda_core.specs import InputSpec
from moda_core.training.surroundings import full_float32

__all__ = ["Evaluation"]

_BATCH = {"cuda": 2500, "cpu": 100}


class Evaluation:
    """Test images of each class, class by class, where a network runs.

    Args:
        images: of all classes; fitted to `rule`.
        classes: how many there are.
        per_class: the first so many of each class; None takes all.

    Attributes:
        numbers: of images, by class.
    """

    def __init__(
        self, images: Images, rule: InputSpec, classes: int, *, device: str = "cpu", per_class: int | None = None
    ) -> None:
        places = [torch.nonzero(images.labels == label).flatten()[:per_class] for label in range(classes)]
        order = torch.cat(places)
        self.rule, self.classes, self.per_class = rule, classes, per_class
        self.batch_size = _BATCH.get(torch.device(device).type, _BATCH["cpu"])
        self.pixels = normalise(fit(images.pixels[order].to(device), rule), rule)
        self.numbers = [len(members) for members in places]
        ends = [0, *accumulate(self.numbers)]
        self._slices = [slice(start, end) for start, end in pairwise(ends)]

    @torch.inference_mode()
    def logits(self, network: Callable[[Tensor], Tensor]) -> Tensor:
        """The logits of all images, on their device, [images, logits]."""
        with full_float32():
            return torch.cat([network(batch).float() for batch in torch.split(self.pixels, self.batch_size)])

    @torch.inference_mode()
    def correct(self, network: Callable[[Tensor], Tensor], labels: Sequence[int]) -> dict[str, int]:
        """Top-1 of a network of some classes, its logits in their order, over their images alone."""
        pixels = torch.cat([self.pixels[self._slices[label]] for label in labels])
        with full_float32():
            answers = torch.cat([network(batch).argmax(1) for batch in torch.split(pixels, self.batch_size)])
        return self._counted(answers, labels)

    def correct_within(self, logits: Tensor, labels: Sequence[int]) -> dict[str, int]:
        """Top-1 of a network of all classes whose answer is the best of some of them, over their images alone."""
        chosen = torch.cat([logits[self._slices[label]] for label in labels])
        return self._counted(chosen[:, list(labels)].argmax(1), labels)

    def _counted(self, answers: Tensor, labels: Sequence[int]) -> dict[str, int]:
        numbers = torch.tensor([self.numbers[label] for label in labels])
        truth = torch.arange(len(labels)).repeat_interleave(numbers).to(answers.device)
        return {"correct": int((answers == truth).sum()), "n": len(truth)}
