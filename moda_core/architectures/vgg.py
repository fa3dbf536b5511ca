"""VGG16 with batch norm for 32x32 images and up (Simonyan and Zisserman, 2015, configuration D)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moda_core.architectures.widths import scaled

__all__ = ["VGG16"]

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_HIDDEN = 4096


class VGG16(nn.Module):
    """Thirteen convolutions and the classifier of 4096-4096: 33,646,666 parameters at 10 classes.

    Five poolings leave one pixel of a 32x32 image; larger images are averaged to one.
    """

    def __init__(self, *, classes: int, channels: int, image_size: int, width: float) -> None:
        super().__init__()
        hidden = scaled(_HIDDEN, width)
        self.features = nn.Sequential(*_convolutions(channels, width))
        if image_size // 2 ** len(_STAGES) > 1:
            self.features.append(nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(
            nn.Linear(scaled(_STAGES[-1][-1], width), hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, classes),
        )

    @no_type_check
    def forward(self, x: Float[Tensor, "batch channels size size"]) -> Float[Tensor, "batch classes"]:
        """Logits of normalised images."""
        return self.classifier(torch.flatten(self.features(x), 1))


def _convolutions(channels: int, width: float) -> Iterator[nn.Module]:
    for stage in _STAGES:
        for planes in stage:
            yield nn.Conv2d(channels, scaled(planes, width), 3, padding=1)
            yield nn.BatchNorm2d(scaled(planes, width))
            yield nn.ReLU(inplace=True)
            channels = scaled(planes, width)
        yield nn.MaxPool2d(2)
