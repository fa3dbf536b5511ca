"""ResNet18 for small images (He et al., 2016): a 3x3 stem of stride 1 and no max-pool."""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from moda_core.architectures.widths import scaled

__all__ = ["ResNet18"]

_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


class ResNet18(nn.Module):
    """Four stages of two basic blocks: 11,173,962 parameters at 10 classes."""

    def __init__(self, *, classes: int, channels: int, image_size: int, width: float) -> None:
        super().__init__()
        del image_size  # the average before the last layer takes any
        planes = scaled(_STAGES[0][0], width)
        self.conv1 = nn.Conv2d(channels, planes, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.stages = nn.Sequential()
        for stage_planes, stride in _STAGES:
            inputs, planes = planes, scaled(stage_planes, width)
            self.stages.append(nn.Sequential(_Block(inputs, planes, stride), _Block(planes, planes, 1)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(planes, classes)

    @no_type_check
    def forward(self, x: Float[Tensor, "batch channels size size"]) -> Float[Tensor, "batch classes"]:
        """Logits of normalised images."""
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.fc(torch.flatten(self.pool(self.stages(x)), 1))


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is projected where the shape changes."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes)
            )

    @no_type_check
    def forward(self, x: Float[Tensor, "batch inputs rows columns"]) -> Float[Tensor, "batch planes _ _"]:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x), inplace=True)
