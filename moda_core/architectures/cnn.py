"""A small network for small images: seconds to train on one core, and all kinds of layer in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moda_core.architectures.widths import scaled

__all__ = ["CNN"]


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class CNN(nn.Module):
    """Four convolutions with batch norm, two fully connected layers; ReLU, or another activation."""

    def __init__(
        self, *, classes: int, channels: int, image_size: int, width: float, activation: Callable[[], nn.Module] = _relu
    ) -> None:
        super().__init__()
        first, second, third, fourth, hidden = (scaled(units, width) for units in (16, 32, 32, 64, 128))
        self.features = nn.Sequential(
            *_convolution(channels, first, activation),
            *_convolution(first, second, activation),
            nn.MaxPool2d(2),
            *_convolution(second, third, activation),
            *_convolution(third, fourth, activation),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(fourth * (image_size // 4) ** 2, hidden),
            activation(),
            nn.Linear(hidden, classes),
        )

    @no_type_check
    def forward(self, x: Float[Tensor, "batch channels size size"]) -> Float[Tensor, "batch classes"]:
        """Logits of normalised images."""
        return self.classifier(torch.flatten(self.features(x), 1))


def _convolution(inputs: int, planes: int, activation: Callable[[], nn.Module]) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes), activation()
