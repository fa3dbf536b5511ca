"""The test images that the demo sends: the same ones that the service imported, as PNG files in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from moda_core.data.dataset import Dataset, Images, subset
from moda_core.data.sources import load
from moda_core.specs import sha256
from moda_core.storage import datasets
from moda_core.storage.manifests import BlobRef

__all__ = ["Digits", "digits"]


@dataclass(frozen=True)
class Digits:
    """Test images with what they show.

    Attributes:
        digest: of the data set that they belong to.
        train: its training images, which are only counted here.
        pixels: uint8, [n, height, width].
        files: each as a PNG file.
        truth: each one's class.
    """

    digest: str
    labels: tuple[str, ...]
    train: Images
    pixels: np.ndarray[Any, Any]
    files: Sequence[bytes]
    truth: Sequence[str]

    def train_images(self, fraction: float = 1.0, seed: int = 0) -> int:
        """How many training images a fraction of them is."""
        return len(subset(self.train, fraction, seed).labels)

    def of(self, classes: Sequence[str]) -> list[int]:
        """Where the images of some classes are."""
        return [index for index, label in enumerate(self.truth) if label in classes]


def digits() -> Digits:
    """The digits that come inside scikit-learn, split as an import with seed 0 splits them."""
    dataset = load("digits")
    pixels = dataset.test.pixels[:, 0].numpy()
    return Digits(
        digest=_stored_digest(dataset),
        labels=dataset.classes,
        train=dataset.train,
        pixels=pixels,
        files=[_png(image) for image in pixels],
        truth=[dataset.classes[label] for label in dataset.test.labels.tolist()],
    )


def _stored_digest(dataset: Dataset) -> str:
    """The digest under which a registry stores a data set."""
    stored = datasets.encode(dataset)
    return datasets.manifest_of(dataset, BlobRef(sha256(stored), len(stored))).digest


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
