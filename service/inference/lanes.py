"""What shares a batch: requests for one model, or for different classes of one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from moda_core.inference.executables import Executable
from moda_core.inference.mixing import MixedModel, Subset, stacked
from service.inference.device import Transfers

__all__ = ["Asked", "MixedLane", "OwnLane", "ProbeLane", "Scores"]


@dataclass(frozen=True)
class Asked:
    """The images of one request, as a network takes them.

    Attributes:
        pixels: one tensor per input of the network.
        subset: the classes that are meant, in a lane that many of them share.
    """

    pixels: tuple[UInt8[Tensor, "images channels size size"], ...]
    subset: Subset | None = None

    @property
    def images(self) -> int:
        """How many there are."""
        return self.pixels[0].shape[0]


class Scores(NamedTuple):
    """Answers for the images of one request, in the order of the model's labels.

    Attributes:
        probabilities: one row per image.
    """

    logits: Float[Tensor, "images classes"]
    probabilities: list[list[float]]


class OwnLane:
    """Requests for one model that has an executable of its own."""

    def __init__(self, executable: Executable, transfers: Transfers, max_batch: int) -> None:
        self.executable, self.transfers, self.max_batch, self.image_s = executable, transfers, max_batch, math.inf

    def start(self, asked: Sequence[Asked]) -> Callable[[], list[Scores]]:
        """Begin the forward pass of all images; what is returned waits for their scores."""
        arrived = self.transfers.fetch(_logits(self.executable, _sent(asked, self.transfers), self.max_batch))
        return lambda: _apart(arrived(), [one.images for one in asked])


class MixedLane:
    """Requests for different classes of one modular model, answered by it whole, each sample under its own mask.

    Attributes:
        root: the model's digest.
    """

    def __init__(self, root: str, model: MixedModel, transfers: Transfers, max_batch: int) -> None:
        self.root, self.model, self.transfers, self.max_batch = root, model, transfers, max_batch
        self.image_s = math.inf

    def start(self, asked: Sequence[Asked]) -> Callable[[], list[Scores]]:
        """Begin the forward pass of all images; what is returned waits for the scores of each request's classes."""
        subsets = [one.subset for one in asked if one.subset is not None]
        samples = [subset for subset, one in zip(subsets, asked, strict=True) for _ in range(one.images)]
        [pixels] = _sent(asked, self.transfers)
        masks = stacked(samples, pixels.device)
        arrived = self.transfers.fetch(_logits(self.model, (pixels, masks), self.max_batch))
        return lambda: _chosen(arrived(), [one.images for one in asked], subsets)


class ProbeLane:
    """Requests that only ask whether the device computes."""

    def __init__(self, device: str) -> None:
        self.device, self.image_s = device, math.inf

    def start(self, inputs: Sequence[None]) -> Callable[[], list[float]]:
        """Begin a sum; what is returned waits for it."""
        total = torch.ones(2, device=self.device).sum()
        return lambda: [float(total)] * len(inputs)


def _sent(asked: Sequence[Asked], transfers: Transfers) -> list[Tensor]:
    """All images on the device, one tensor per input of the network."""
    return [transfers.send(parts) for parts in zip(*(one.pixels for one in asked), strict=True)]


def _logits(run: Callable[..., Tensor], given: Sequence[Tensor], most: int) -> Float[Tensor, "images classes"]:
    """Of all images, at most so many at a time: one request may be larger than a forward pass."""
    if given[0].shape[0] <= most:
        return run(*given)
    parts = zip(*(torch.split(one, most) for one in given), strict=True)
    return torch.cat([run(*part) for part in parts])


def _apart(logits: Float[Tensor, "images classes"], sizes: Sequence[int]) -> list[Scores]:
    """The scores of each request of a batch."""
    rows, start, scores = logits.softmax(1).tolist(), 0, []
    for size in sizes:
        scores.append(Scores(logits[start : start + size], rows[start : start + size]))
        start += size
    return scores


def _chosen(logits: Float[Tensor, "images classes"], sizes: Sequence[int], subsets: Sequence[Subset]) -> list[Scores]:
    """The scores of each request's own classes."""
    scores = []
    for part, subset in zip(torch.split(logits, list(sizes)), subsets, strict=True):
        own = part[:, list(subset.columns)]
        scores.append(Scores(own, own.softmax(1).tolist()))
    return scores
