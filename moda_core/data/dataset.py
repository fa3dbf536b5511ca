"""A data set in memory: 8-bit images, labels, class names; and parts of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from moda_core.data.images import chunks, recoloured
from moda_core.errors import InvalidInput
from moda_core.specs import InputSpec, check_labels

__all__ = ["Dataset", "Images", "split", "subset"]

_LEAST_STD = 1 / 255
_COUNTED_AT_ONCE = 1024
_DECIMALS = 6


@dataclass(frozen=True)
class Images:
    """Images of one shape, and the index of each one's class.

    Raises:
        InvalidInput: for arrays of another type or rank, or of different length.
    """

    pixels: UInt8[Tensor, "images channels height width"]
    labels: Int64[Tensor, "labels"]

    def __post_init__(self) -> None:
        shape = tuple(self.pixels.shape)
        if self.pixels.dtype != torch.uint8 or len(shape) != 4 or shape[1] not in (1, 3) or 0 in shape[1:]:
            raise InvalidInput(
                "pixels",
                f"{self.pixels.dtype} {list(shape)}",
                "not a stack of images",
                "give uint8 [images, 1 or 3 channels, height, width]",
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != shape[:1]:
            raise InvalidInput(
                "labels",
                f"{self.labels.dtype} {list(self.labels.shape)}",
                f"not one class index for each of {shape[0]} images",
                "give int64 [images]",
            )

    def __len__(self) -> int:
        return len(self.labels)

    def per_class(self, classes: int) -> Int64[Tensor, "classes"]:
        """How many images each class has."""
        return torch.bincount(self.labels, minlength=classes)


@dataclass(frozen=True)
class Dataset:
    """Training and test images of named classes.

    Attributes:
        classes: names by label.
        mirror: whether a mirrored image is still one of its class (digits are not).

    Raises:
        InvalidInput: for fewer than two classes, a class without a training or a test image, a
            label without a class, or parts of different shape.
    """

    classes: tuple[str, ...]
    train: Images
    test: Images
    mirror: bool

    def __post_init__(self) -> None:
        check_labels("classes", self.classes, at_least=2)
        if self.train.pixels.shape[1:] != self.test.pixels.shape[1:]:
            shapes = [list(part.pixels.shape[1:]) for part in (self.train, self.test)]
            raise InvalidInput("dataset", shapes, "training and test images differ in shape", "give them one shape")
        for name, part in (("training", self.train), ("test", self.test)):
            self._check_part(name, part)

    def _check_part(self, name: str, part: Images) -> None:
        classes = len(self.classes)
        outside = part.labels[(part.labels < 0) | (part.labels >= classes)]
        if len(outside):
            raise InvalidInput(
                "labels",
                int(outside[0]),
                f"a {name} label that names none of the {classes} classes",
                f"give labels from 0 to {classes - 1}",
            )
        empty = [self.classes[index] for index in torch.nonzero(part.per_class(classes) == 0).flatten().tolist()]
        if empty:
            raise InvalidInput(
                "classes", empty, f"classes with no {name} image", "give every class one, or leave it out"
            )

    def input_spec(self, image_size: int, channels: int | None = None) -> InputSpec:
        """The input rule of a network trained on this set: its size, and the training pixels' mean and std.

        Computed exactly, from counts of the 256 values, so that it is the same on every machine.
        """
        channels = self.train.pixels.shape[1] if channels is None else channels
        counts = _value_counts(self.train.pixels, channels)
        values = torch.arange(256, dtype=torch.float64) / 255
        total = counts.sum(dim=1)
        mean = (counts * values).sum(dim=1) / total
        variance = (counts * (values - mean[:, None]) ** 2).sum(dim=1) / total
        std = variance.sqrt().clamp(min=_LEAST_STD)  # a constant channel has none
        return InputSpec(image_size=image_size, channels=channels, mean=_rounded(mean), std=_rounded(std))


def subset(images: Images, fraction: float, seed: int) -> Images:
    """A stratified share of `images` in their own order, with at least one of each class.

    Under one seed, a smaller fraction is part of a larger one.

    Raises:
        InvalidInput: for a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise InvalidInput("fraction", fraction, "out of range", "give a number above 0 and at most 1")
    if fraction == 1:
        return images
    return _taken(images, _drawn(images, seed, lambda count: max(1, round(fraction * count))))


def split(images: Images, test_share: float, seed: int) -> tuple[Images, Images]:
    """A stratified split into training and test images: of a class with two or more, at least one in each."""
    test = _drawn(images, seed, lambda count: min(max(1, round(test_share * count)), count - 1))
    rest = torch.ones(len(images), dtype=torch.bool)
    rest[test] = False
    return _taken(images, torch.nonzero(rest).flatten()), _taken(images, test)


def _drawn(images: Images, seed: int, take: Callable[[int], int]) -> Int64[Tensor, "drawn"]:
    """Indices, ascending, of `take(n)` random images of each class of n."""
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for label in torch.nonzero(torch.bincount(images.labels)).flatten().tolist():
        members = torch.nonzero(images.labels == label).flatten()
        order = torch.randperm(len(members), generator=generator)
        drawn.append(members[order[: take(len(members))]])
    return torch.cat(drawn).sort().values if drawn else torch.empty(0, dtype=torch.int64)


def _taken(images: Images, indices: Int64[Tensor, "taken"]) -> Images:
    return Images(images.pixels[indices], images.labels[indices])


def _value_counts(pixels: UInt8[Tensor, "images _ height width"], channels: int) -> Float64[Tensor, "channels 256"]:
    """How often each of the 256 values occurs in each channel, at the images' own size."""
    counts = torch.zeros(channels, 256, dtype=torch.float64)
    for part in chunks(pixels, _COUNTED_AT_ONCE):
        for channel, values in enumerate(recoloured(part, channels).unbind(1)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    return counts


def _rounded(values: Float64[Tensor, "channels"]) -> tuple[float, ...]:
    return tuple(round(value, _DECIMALS) for value in values.tolist())
