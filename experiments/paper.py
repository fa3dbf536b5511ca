"""The MODA paper's own numbers, as data: what ours are set beside.

Percentages unless a name says otherwise. Tables are keyed by our names of models and data sets.
`tests/experiments/test_paper.py` recomputes the averages that the paper's text states from these
cells, so that a slip of the pen shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "COMPOSITION",
    "DATASETS",
    "FEWER_FLOPS_THAN_MWT",
    "FEWER_WEIGHTS_THAN_MWT",
    "IMAGES",
    "KINDS",
    "MEAN_MODULE",
    "MODELS",
    "OVERLAP_PER_LAYER",
    "REDUCTIONS",
    "REPLACEMENT",
    "REUSE",
    "STATED_MEANS",
    "STRONG",
    "SUBTASKS",
    "TARGETS",
    "TEST_ACCURACY",
    "THRESHOLDS",
    "TITLE",
    "TRAINING_HOURS",
    "Composition",
    "LayerOverlap",
    "MeanAndDeviation",
    "Module",
    "Reduction",
    "Replacement",
    "ReuseMeans",
]

TITLE = "Improving DNN Modularization via Activation-Driven Training"
MODELS = ("vgg16", "resnet18", "mobilenet")
DATASETS = ("svhn", "cifar10", "cifar100")
STRONG = ("vgg16", "resnet18")
KINDS = ("overfitted", "underfitted")
IMAGES: Mapping[str, tuple[int, int]] = {
    "svhn": (73_257, 26_032),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
}
"""Training and test images of each data set."""

SUBTASKS = {"svhn": 1013, "cifar10": 1013, "cifar100": 14697}
"""Sub-tasks composed: all of two or more of ten classes, a sample of a hundred's (95 %, 8 %)."""

TARGETS: Mapping[str, tuple[str, ...]] = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer"),
    "svhn": ("0", "1", "2", "3", "4"),
}
"""The target classes of table 2, in the order of its columns: the first five of each data set."""


@dataclass(frozen=True)
class MeanAndDeviation:
    """Over the paper's five iterations."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Replacement:
    """A cell of table 2: accuracy after minus before, in points."""

    target: float
    others: float


@dataclass(frozen=True)
class Composition:
    """A row of table 3, one approach of it. Sizes and overlaps are shares of the model, from 0 to 1."""

    reuse_accuracy: float
    module_size: float
    module_overlap: float


@dataclass(frozen=True)
class Reduction:
    """Of table 3: how much less modules weigh and share with compactness than without, in percent."""

    size: float
    overlap: float


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


def _spreads(*pairs: tuple[float, float]) -> dict[str, MeanAndDeviation]:
    return {name: MeanAndDeviation(*pair) for name, pair in zip(("ST", "MwT", "MODA"), pairs, strict=True)}


TEST_ACCURACY: Mapping[tuple[str, str], Mapping[str, MeanAndDeviation]] = {
    ("vgg16", "svhn"): _spreads((95.85, 0.06), (95.06, 0.11), (95.78, 0.04)),
    ("vgg16", "cifar10"): _spreads((92.62, 0.43), (90.55, 0.13), (91.86, 0.23)),
    ("vgg16", "cifar100"): _spreads((69.46, 0.31), (62.48, 0.16), (70.11, 0.17)),
    ("resnet18", "svhn"): _spreads((96.12, 0.04), (95.71, 0.05), (95.75, 0.05)),
    ("resnet18", "cifar10"): _spreads((93.37, 0.07), (91.04, 0.03), (90.94, 0.07)),
    ("resnet18", "cifar100"): _spreads((72.82, 0.23), (60.02, 0.66), (70.79, 0.16)),
    ("mobilenet", "svhn"): _spreads((95.04, 0.00), (32.87, 35.12), (95.00, 0.54)),
    ("mobilenet", "cifar10"): _spreads((89.42, 0.25), (53.55, 5.27), (89.34, 0.07)),
    ("mobilenet", "cifar100"): _spreads((62.10, 0.33), (31.51, 2.42), (62.58, 0.21)),
}
"""Table 1, left half: test accuracy by (model, data set) and approach."""


def _hours(standard: float, mwt: float, moda: float) -> dict[str, float]:
    return {"ST": standard, "MwT": mwt, "MODA": moda}


TRAINING_HOURS: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("vgg16", "svhn"): _hours(1.28, 2.10, 1.76),
    ("vgg16", "cifar10"): _hours(0.81, 1.38, 1.13),
    ("vgg16", "cifar100"): _hours(0.82, 1.39, 1.14),
    ("resnet18", "svhn"): _hours(1.90, 3.35, 2.48),
    ("resnet18", "cifar10"): _hours(1.23, 2.18, 1.61),
    ("resnet18", "cifar100"): _hours(1.23, 2.19, 1.62),
    ("mobilenet", "svhn"): _hours(1.10, 2.84, 1.61),
    ("mobilenet", "cifar10"): _hours(0.66, 1.83, 1.03),
    ("mobilenet", "cifar100"): _hours(0.68, 1.93, 1.05),
}
"""Table 1, right half: hours of 200 epochs. The server has two V100; how many of them were used is not said."""

REUSE = ReuseMeans(means={"ST": 95.22, "MwT": 47.94, "MwT+ft": 93.74, "MODA": 94.48}, largest_gap=3.65, gaps_above_3=2)
"""Section 5.2, figure 3a. ``MwT`` is without fine-tuning."""

MEAN_MODULE = {"MODA": Module(8.84, 5.41), "MwT": Module(21.34, 19.01)}
"""Section 5.2: MODA's are the means of table 3."""

OVERLAP_PER_LAYER = LayerOverlap(first_three_at_least=99.0, last_three_at_most=0.15)
FEWER_WEIGHTS_THAN_MWT = {"vgg16": 70.68, "resnet18": 46.46}
"""Section 5.2: how much less MODA's composed models weigh than MwT's, CIFAR-10, mean over sub-tasks."""
FEWER_FLOPS_THAN_MWT = {"vgg16": 5.94, "resnet18": 1.31}


def _cells(*pairs: tuple[float, float]) -> tuple[Replacement, ...]:
    return tuple(Replacement(*pair) for pair in pairs)


REPLACEMENT: Mapping[tuple[str, str, str, str], tuple[Replacement, ...]] = {
    ("overfitted", "vgg16", "CNNSplitter", "cifar10"): _cells(
        (3.10, 0.38), (-3.40, 2.64), (-2.10, 1.56), (-0.90, 2.38), (0.60, 1.84)
    ),
    ("overfitted", "vgg16", "CNNSplitter", "svhn"): _cells(
        (-1.78, 0.88), (-1.75, 0.82), (-0.58, 0.91), (-1.39, 1.29), (-0.44, 0.68)
    ),
    ("overfitted", "vgg16", "MODA", "cifar10"): _cells(
        (8.50, -0.22), (17.00, 0.40), (12.50, -0.14), (5.90, 0.48), (13.80, 0.42)
    ),
    ("overfitted", "vgg16", "MODA", "svhn"): _cells(
        (2.98, -0.29), (1.66, 0.33), (3.04, -0.66), (3.88, -0.69), (5.43, -0.14)
    ),
    ("overfitted", "resnet18", "CNNSplitter", "cifar10"): _cells(
        (5.20, 0.08), (4.60, 0.70), (-1.20, 1.58), (0.20, 1.80), (2.90, 1.22)
    ),
    ("overfitted", "resnet18", "CNNSplitter", "svhn"): _cells(
        (2.12, 0.28), (0.39, 0.56), (0.87, 0.70), (-0.32, 1.06), (1.27, 0.46)
    ),
    ("overfitted", "resnet18", "MODA", "cifar10"): _cells(
        (7.30, -0.40), (10.10, 0.34), (12.80, 0.58), (5.20, 1.02), (8.00, 0.28)
    ),
    ("overfitted", "resnet18", "MODA", "svhn"): _cells(
        (3.84, -0.13), (1.33, 0.17), (2.82, -0.15), (2.43, -0.03), (5.70, 0.27)
    ),
    ("underfitted", "vgg16", "CNNSplitter", "cifar10"): _cells(
        (10.00, -0.78), (-8.20, 3.26), (-6.00, 5.04), (-5.90, 5.10), (-4.60, 3.52)
    ),
    ("underfitted", "vgg16", "CNNSplitter", "svhn"): _cells(
        (-4.01, 1.20), (-2.85, 1.61), (-4.03, 2.09), (-8.54, 2.75), (-1.23, 0.94)
    ),
    ("underfitted", "vgg16", "MODA", "cifar10"): _cells(
        (10.30, 3.50), (17.50, 6.76), (16.70, 6.82), (10.20, 5.64), (24.00, 10.22)
    ),
    ("underfitted", "vgg16", "MODA", "svhn"): _cells(
        (4.25, -0.19), (-0.63, 1.51), (4.00, 1.15), (1.46, 1.42), (3.96, 0.58)
    ),
    ("underfitted", "resnet18", "CNNSplitter", "cifar10"): _cells(
        (16.60, -2.86), (4.20, 1.00), (-3.00, 5.04), (-1.90, 3.54), (1.90, 2.74)
    ),
    ("underfitted", "resnet18", "CNNSplitter", "svhn"): _cells(
        (3.79, 0.17), (-0.75, 1.07), (-0.56, 1.92), (-3.44, 1.46), (0.95, 0.82)
    ),
    ("underfitted", "resnet18", "MODA", "cifar10"): _cells(
        (9.30, 3.40), (9.60, 6.00), (16.20, 8.18), (7.60, 7.42), (18.30, 9.64)
    ),
    ("underfitted", "resnet18", "MODA", "svhn"): _cells(
        (6.14, 0.52), (-0.67, 1.65), (4.57, 2.14), (0.10, 2.48), (4.60, 0.57)
    ),
}
"""Table 2, by (weak model, strong model, approach, data set): one cell per target class, in `TARGETS`' order."""

STATED_MEANS: Mapping[tuple[str, str], Replacement] = {
    ("overfitted", "MODA"): Replacement(10.11, 0.28),
    ("underfitted", "MODA"): Replacement(13.97, 6.76),
    ("overfitted", "CNNSplitter"): Replacement(0.90, 1.42),
    ("underfitted", "CNNSplitter"): Replacement(0.31, 2.56),
}
"""The means that section 5.2's text gives beside counts of 20 cells. They are those of the ten CIFAR-10 cells alone."""


def _pair(moda: tuple[float, float, float], without: tuple[float, float, float]) -> dict[str, Composition]:
    return {"MODA": Composition(*moda), "MODA-": Composition(*without)}


COMPOSITION: Mapping[tuple[str, str], Mapping[str, Composition]] = {
    ("vgg16", "svhn"): _pair((96.26, 0.021, 0.014), (95.90, 0.032, 0.017)),
    ("vgg16", "cifar10"): _pair((94.48, 0.027, 0.014), (94.55, 0.036, 0.016)),
    ("vgg16", "cifar100"): _pair((78.15, 0.059, 0.034), (78.65, 0.069, 0.039)),
    ("resnet18", "svhn"): _pair((95.43, 0.091, 0.064), (94.36, 0.111, 0.086)),
    ("resnet18", "cifar10"): _pair((94.11, 0.081, 0.055), (94.50, 0.119, 0.070)),
    ("resnet18", "cifar100"): _pair((78.68, 0.227, 0.146), (79.84, 0.293, 0.212)),
    ("mobilenet", "svhn"): _pair((95.58, 0.067, 0.039), (95.97, 0.097, 0.053)),
    ("mobilenet", "cifar10"): _pair((91.90, 0.089, 0.044), (92.43, 0.112, 0.056)),
    ("mobilenet", "cifar100"): _pair((65.58, 0.134, 0.077), (66.44, 0.169, 0.104)),
}
"""Table 3, by (model, data set) and approach (``MODA-`` is without compactness)."""

REDUCTIONS: Mapping[tuple[str, str], Reduction] = {
    ("vgg16", "svhn"): Reduction(33.48, 19.23),
    ("vgg16", "cifar10"): Reduction(24.11, 12.33),
    ("vgg16", "cifar100"): Reduction(14.97, 13.09),
    ("resnet18", "svhn"): Reduction(18.23, 26.01),
    ("resnet18", "cifar10"): Reduction(31.84, 20.61),
    ("resnet18", "cifar100"): Reduction(22.47, 31.02),
    ("mobilenet", "svhn"): Reduction(31.15, 26.77),
    ("mobilenet", "cifar10"): Reduction(20.76, 20.89),
    ("mobilenet", "cifar100"): Reduction(21.02, 26.20),
}
"""Table 3, as it prints them: from shares of more places than it shows."""

THRESHOLDS = ("0.1", "0.5", "0.8", "0.9", "0.95")
"""Figure 4's τ; section 5.4 calls 0.8 the most accurate, 0.95 the smallest, and chooses 0.9."""
