"""Table 2: a weak model's accuracy after a module was replaced minus before, by MODA and by CNNSplitter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["KINDS", "REPLACEMENT", "STATED_MEANS", "STRONG", "TARGETS", "Replacement"]

STRONG = ("vgg16", "resnet18")
KINDS = ("overfitted", "underfitted")
TARGETS: Mapping[str, tuple[str, ...]] = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer"),
    "svhn": ("0", "1", "2", "3", "4"),
}
"""The target classes of table 2, in the order of its columns: the first five of each data set."""


@dataclass(frozen=True)
class Replacement:
    """A cell of table 2: accuracy after minus before, in points."""

    target: float
    others: float


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
