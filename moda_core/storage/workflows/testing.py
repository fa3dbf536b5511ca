"""A model's accuracy on images of its own classes, whatever order a data set has them in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from moda_core.data.dataset import Dataset, Images
from moda_core.errors import InvalidInput
from moda_core.modularity.models import Model
from moda_core.modularity.networks import network
from moda_core.training.evaluation import accuracy, accuracy_per_class, logits

__all__ = ["images_of_labels", "metrics_of", "tested"]


def images_of_labels(images: Images, classes: Sequence[str], labels: Sequence[str]) -> Images:
    """The images of some labels, their classes counted in the order of `labels`.

    Args:
        images: labelled by positions in `classes`.
        classes: of the data set.
        labels: of the model; those that the data set lacks have no image.

    Raises:
        InvalidInput: if the data set has none of them.
    """
    positions = torch.tensor([labels.index(name) if name in labels else -1 for name in classes])
    wanted = positions[images.labels]
    kept = wanted >= 0
    if not kept.any():
        raise InvalidInput(
            "dataset", list(classes), "none of the model's classes", f"give a data set with some of {', '.join(labels)}"
        )
    if kept.all():
        return Images(images.pixels, wanted)
    return Images(images.pixels[kept], wanted[kept])


def tested(model: Model, dataset: Dataset, device: str, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """Accuracy on the data set's test images of the model's classes, overall and per class, n beside each."""
    images = images_of_labels(dataset.test, dataset.classes, model.labels)
    asked = network(model, device)
    answers = logits(asked, images, asked.inputs, device=device, cancelled=cancelled)
    return metrics_of(answers, images, model.labels)


def metrics_of(answers: Float[Tensor, "images classes"], images: Images, labels: Sequence[str]) -> dict[str, Any]:
    """Top-1 accuracy of logits as JSON data."""
    per_class = accuracy_per_class(answers, images.labels, labels)
    return {
        **accuracy(answers, images.labels).to_json(),
        "per_class": {label: found.to_json() for label, found in per_class.items()},
    }
