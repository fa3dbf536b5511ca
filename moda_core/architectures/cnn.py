"""A small network for small images: seconds to train on one core, and all kinds of layer in it."""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moda_core.architectures.widths import scaled

__all__ = ["CNN"]


class CNN(nn.Module):
    """Four convolutions with batch norm, two fully connected layers."""

    def __init__(self, *, classes: int, channels: int, image_size: int, width: float) -> None:
        super().__init__()
        first, second, third, fourth, hidden = (scaled(units, width) for units in (16, 32, 32, 64, 128))
        self.features = nn.Sequential(
            *_convolution(channels, first),
            *_convolution(first, second),
            nn.MaxPool2d(2),
            *_convolution(second, third),
            *_convolution(third, fourth),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(fourth * (image_size // 4) ** 2, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, classes),
        )

    @no_type_check
    def forward(self, x: Float[Tensor, "batch channels size size"]) -> Float[Tensor, "batch classes"]:
        """Logits of normalised images."""
        return self.classifier(torch.flatten(self.features(x), 1))


def _convolution(inputs: int, planes: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes), nn.ReLU(inplace=True)
