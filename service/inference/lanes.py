"""What shares a batch: requests for one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from moda_core.inference.executables import Executable
from service.inference.device import Transfers

__all__ = ["OwnLane", "ProbeLane", "Scores"]


@dataclass(frozen=True)
class Scores:
    """Answers for the images of one request, in the order of the model's labels.

    Attributes:
        probabilities: one row per image.
    """

    logits: Float[Tensor, "images classes"]
    probabilities: list[list[float]]


class OwnLane:
    """Requests for one model that has an executable of its own."""

    def __init__(self, executable: Executable, transfers: Transfers) -> None:
        self.executable, self.transfers = executable, transfers

    def start(
        self, inputs: Sequence[tuple[UInt8[Tensor, "images channels size size"], ...]]
    ) -> Callable[[], list[Scores]]:
        """Begin the forward pass of all images; what is returned waits for their scores."""
        sizes = [len(pixels[0]) for pixels in inputs]
        logits = self.executable(*(self.transfers.send(parts) for parts in zip(*inputs, strict=True)))
        arrived = self.transfers.fetch(logits)
        return lambda: _apart(arrived(), sizes)


class ProbeLane:
    """Requests that only ask whether the device computes."""

    def __init__(self, device: str) -> None:
        self.device = device

    def start(self, inputs: Sequence[None]) -> Callable[[], list[float]]:
        """Begin a sum; what is returned waits for it."""
        total = torch.ones(2, device=self.device).sum()
        return lambda: [float(total)] * len(inputs)


def _apart(logits: Float[Tensor, "images classes"], sizes: Sequence[int]) -> list[Scores]:
    """The scores of each request of a batch."""
    rows, start, scores = logits.softmax(1).tolist(), 0, []
    for size in sizes:
        scores.append(Scores(logits[start : start + size], rows[start : start + size]))
        start += size
    return scores
