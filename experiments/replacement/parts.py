"""Who is strong and who is weak in the replacement study (section 5.2 of the MODA paper), and on what images.

The first half of a data set's classes makes the strong model, the other half and one *target* class
of the first makes a weak one. A tenth of the strong model's training images is held out before it
is trained: CNNSplitter takes the range of a module's logit from such validation samples, and
nothing else ever sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from experiments.setup.datasets import dataset_digest
from moda_core.data.dataset import Dataset, Images, split
from moda_core.specs import TrainingSpec

__all__ = [
    "OVERFITTED_SHARE",
    "UNDERFITTED_SHARE",
    "VALIDATION_SHARE",
    "WEAK_KINDS",
    "WEAK_MODEL",
    "Part",
    "strong_part",
    "strong_spec",
    "targets",
    "weak_part",
    "weak_spec",
]

WEAK_MODEL = "lenet5"
WEAK_KINDS = ("overfitted", "underfitted")
VALIDATION_SHARE = 0.1
OVERFITTED_SHARE = 0.1
"""Of the training images that an overfitted model sees."""
UNDERFITTED_SHARE = 0.05
"""Of the epochs that an underfitted model gets."""


@dataclass(frozen=True)
class Part:
    """Some classes of a data set.

    Attributes:
        validation: training images that are held out; none for a weak model.
    """

    dataset: Dataset
    digest: str
    validation: Images


def targets(classes: Sequence[str]) -> tuple[str, ...]:
    """The strong model's classes, each of which is the target once."""
    return tuple(classes[: len(classes) // 2])


def strong_part(dataset: Dataset, seed: int) -> Part:
    """The first half of the classes, a stratified tenth of their training images held out under `seed`."""
    chosen = _of_classes(dataset, targets(dataset.classes))
    train, validation = split(chosen.train, VALIDATION_SHARE, seed)
    rest = Dataset(chosen.classes, train, chosen.test, chosen.mirror)
    return Part(rest, dataset_digest(rest), validation)


def weak_part(dataset: Dataset, target: str) -> Part:
    """The second half of the classes, and the target last."""
    chosen = _of_classes(dataset, (*dataset.classes[len(targets(dataset.classes)) :], target))
    return Part(chosen, dataset_digest(chosen), Images(chosen.train.pixels[:0], chosen.train.labels[:0]))


def strong_spec(part: Part, model: str, width: float, epochs: int, seed: int, objective: str) -> TrainingSpec:
    """The paper's recipe on the strong model's part; ``modular`` or ``standard``."""
    return TrainingSpec(
        dataset=part.digest,
        architecture=model,
        width=width,
        epochs=epochs,
        seed=seed,
        objective="modular" if objective == "modular" else "standard",
    )


def weak_spec(part: Part, kind: str, epochs: int, seed: int) -> TrainingSpec:
    """LeNet5 on a tenth of the images without augmentation or weight decay, or on all of them for a twentieth of `epochs`."""
    recipe = TrainingSpec(dataset=part.digest, architecture=WEAK_MODEL, objective="standard", seed=seed)
    if kind == "overfitted":
        changes = {
            "epochs": epochs,
            "fraction": OVERFITTED_SHARE,
            "crop_padding": 0,
            "flip": False,
            "weight_decay": 0.0,
        }
    else:
        changes = {"epochs": max(1, round(UNDERFITTED_SHARE * epochs))}
    return TrainingSpec.from_json({**recipe.to_json(), **changes})


def _of_classes(dataset: Dataset, labels: Sequence[str]) -> Dataset:
    """The images of some classes, counted in the order of `labels`."""
    train, test = (_relabelled(part, dataset.classes, labels) for part in (dataset.train, dataset.test))
    return Dataset(tuple(labels), train, test, dataset.mirror)


def _relabelled(images: Images, classes: Sequence[str], labels: Sequence[str]) -> Images:
    places = torch.tensor([labels.index(name) if name in labels else -1 for name in classes])[images.labels]
    kept = places >= 0
    return Images(images.pixels[kept], places[kept])
