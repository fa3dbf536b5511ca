"""MobileNet v1 for small images (Howard et al., 2017): the stem has stride 1."""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moda_core.architectures.widths import scaled

__all__ = ["MobileNet"]

_STEM = 32
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class MobileNet(nn.Module):
    """Thirteen depthwise separable convolutions: 3,217,226 parameters at 10 classes."""

    def __init__(self, *, classes: int, channels: int, image_size: int, width: float) -> None:
        super().__init__()
        del image_size  # the average before the last layer takes any
        planes = scaled(_STEM, width)
        self.features = nn.Sequential(*_convolution(channels, planes))
        for block_planes, stride in _BLOCKS:
            inputs, planes = planes, scaled(block_planes, width)
            self.features.append(_separable(inputs, planes, stride))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(planes, classes)

    @no_type_check
    def forward(self, x: Float[Tensor, "batch channels size size"]) -> Float[Tensor, "batch classes"]:
        """Logits of normalised images."""
        return self.fc(torch.flatten(self.pool(self.features(x)), 1))


def _convolution(inputs: int, planes: int, *, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, planes, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(planes),
        nn.ReLU(inplace=True),
    ]


def _separable(inputs: int, planes: int, stride: int) -> nn.Sequential:
    """A filter for each channel by itself, then a 1x1 convolution that mixes them."""
    depthwise = _convolution(inputs, inputs, stride=stride, groups=inputs)
    return nn.Sequential(*depthwise, *_convolution(inputs, planes, kernel=1))
