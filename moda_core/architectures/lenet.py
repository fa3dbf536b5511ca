"""LeNet5 with ReLU (after LeCun et al., 1998): two convolutions, three fully connected layers."""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moda_core.architectures.widths import scaled

__all__ = ["LeNet5"]


class LeNet5(nn.Module):
    """The weak model of the paper's replacement study: 62,006 parameters at 10 classes, 32x32 RGB."""

    def __init__(self, *, classes: int, channels: int, image_size: int, width: float) -> None:
        super().__init__()
        first, second, third, fourth = (scaled(units, width) for units in (6, 16, 120, 84))
        side = ((image_size - 4) // 2 - 4) // 2
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(second * side**2, third),
            nn.ReLU(inplace=True),
            nn.Linear(third, fourth),
            nn.ReLU(inplace=True),
            nn.Linear(fourth, classes),
        )

    @no_type_check
    def forward(self, x: Float[Tensor, "batch channels size size"]) -> Float[Tensor, "batch classes"]:
        """Logits of normalised images."""
        return self.classifier(torch.flatten(self.features(x), 1))
