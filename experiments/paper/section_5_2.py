"""Section 5.2 and figure 3: means of reuse and of modules that the text states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "FEWER_FLOPS_THAN_MWT",
    "FEWER_WEIGHTS_THAN_MWT",
    "MEAN_MODULE",
    "OVERLAP_PER_LAYER",
    "REUSE",
    "LayerOverlap",
    "Module",
    "ReuseMeans",
]


@dataclass(frozen=True)
class ReuseMeans:
    """Section 5.2: mean over all sub-tasks of VGG16 on CIFAR-10, and MODA's worst beside standard training."""

    means: Mapping[str, float]
    largest_gap: float
    gaps_above_3: int


@dataclass(frozen=True)
class Module:
    """Section 5.2: a module's mean share of its model's weights, and what two modules share, in percent."""

    size: float
    overlap: float


@dataclass(frozen=True)
class LayerOverlap:
    """Section 5.2: mean overlap of VGG16's modules, in percent of a layer's weights."""

    first_three_at_least: float
    last_three_at_most: float


REUSE = ReuseMeans(means={"ST": 95.22, "MwT": 47.94, "MwT+ft": 93.74, "MODA": 94.48}, largest_gap=3.65, gaps_above_3=2)
"""Section 5.2, figure 3a. ``MwT`` is without fine-tuning."""

MEAN_MODULE = {"MODA": Module(8.84, 5.41), "MwT": Module(21.34, 19.01)}
"""Section 5.2: MODA's are the means of table 3."""

OVERLAP_PER_LAYER = LayerOverlap(first_three_at_least=99.0, last_three_at_most=0.15)
FEWER_WEIGHTS_THAN_MWT = {"vgg16": 70.68, "resnet18": 46.46}
"""Section 5.2: how much less MODA's composed models weigh than MwT's, CIFAR-10, mean over sub-tasks."""
FEWER_FLOPS_THAN_MWT = {"vgg16": 5.94, "resnet18": 1.31}
