"""Table 1: test accuracy and training time of standard training, MwT and MODA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["TEST_ACCURACY", "TRAINING_HOURS", "MeanAndDeviation"]


@dataclass(frozen=True)
class MeanAndDeviation:
    """Over the paper's five iterations."""

    mean: float
    deviation: float


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
