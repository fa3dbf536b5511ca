"""CNNSplitter's patch of a weak model by a strong module, the replacement that the MODA paper compares with.

The weak model's logits become probabilities by softmax; the strong module's one logit is put between the
least and the most that it was over some samples, (s - low) / (high - low), is not clipped, and takes the place
of the class's probability. Nothing is normalised again; the largest number wins, and nothing is trained.

Over which samples:

- `target_range`, CNNSplitter's own: *validation* samples of the target class only;
- `public_range`, as the code published with the MODA paper has it: the strong model's *training* set, all classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from moda_core.data.dataset import Images
from moda_core.errors import InvalidInput, NotFound
from moda_core.modularity.models import Model, ModularModel
from moda_core.modularity.networks import network, splice
from moda_core.training.evaluation import logits

__all__ = ["LogitRange", "calibrated_scores", "patched_scores", "public_range", "target_range"]


@dataclass(frozen=True)
class LogitRange:
    """The least and the most that a module's logit was over some samples.

    Raises:
        InvalidInput: if there is nothing between them.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InvalidInput(
                "range",
                (self.low, self.high),
                "the module's logit is the same for all samples",
                "give two or more samples that differ, and a module that is not constant",
            )

    def to_json(self) -> dict[str, Any]:
        """Both ends."""
        return {"low": self.low, "high": self.high}


def target_range(
    strong: ModularModel, label: str, images: Images, position: int, *, device: torch.device | str = "cpu"
) -> LogitRange:
    """The range in CNNSplitter's own form: over the images of the target class alone.

    Args:
        strong: the module of one class.
        label: that class.
        images: validation images, which may have other classes too.
        position: the label by which `images` know the class.
        device: where the module answers.

    Raises:
        NotFound, InvalidInput: if `strong` is no module of this class alone, or `images` have none of it,
            or its logit never differs.
    """
    chosen = images.labels == position
    if not chosen.any():
        raise InvalidInput("images", label, "no image of the class", f"give validation images of {label!r}")
    return public_range(strong, label, Images(images.pixels[chosen], images.labels[chosen]), device=device)


def public_range(strong: ModularModel, label: str, images: Images, *, device: torch.device | str = "cpu") -> LogitRange:
    """The range over all images given: in the form of the paper's code, those that the strong model was trained on.

    Raises:
        NotFound, InvalidInput: if `strong` is no module of this class alone, or its logit never differs.
    """
    answers = _module_logit(strong, label, images, device)
    return LogitRange(float(answers.min()), float(answers.max()))


def patched_scores(
    weak: Model,
    strong: ModularModel,
    label: str,
    calibration: LogitRange,
    images: Images,
    *,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "images classes"]:
    """The scores of the patched model for the weak model's classes; the largest is its answer.

    Raises:
        NotFound, InvalidInput: if `strong` is no module of this class alone, or `weak` lacks it.
    """
    if label not in weak.labels:
        raise NotFound("class", label, f"the weak model has {', '.join(weak.labels)}")
    asked = network(weak, device)
    answers = logits(asked, images, asked.inputs, device=device)
    return calibrated_scores(
        answers, _module_logit(strong, label, images, device), weak.labels.index(label), calibration
    )


def calibrated_scores(
    weak: Float[Tensor, "images classes"],
    strong: Float[Tensor, "images"],
    position: int,
    calibration: LogitRange,
) -> Float[Tensor, "images classes"]:
    """Softmax of the weak model's logits, with the module's logit on its range in the place of one class."""
    return splice(weak.softmax(dim=1), (strong - calibration.low) / (calibration.high - calibration.low), position)


def _module_logit(
    strong: ModularModel, label: str, images: Images, device: torch.device | str
) -> Float[Tensor, "images"]:
    if label not in strong.labels:
        raise NotFound("class", label, f"the strong model has {', '.join(strong.labels)}")
    if len(strong.labels) > 1:
        raise InvalidInput("strong", list(strong.labels), "more than one class", f"compose it to {label!r} alone")
    asked = network(strong, device)
    return logits(asked, images, asked.inputs, device=device)[:, 0]
