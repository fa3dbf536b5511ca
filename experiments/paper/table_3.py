"""Table 3: reuse accuracy, and sizes and overlaps of modules, with and without compactness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["COMPOSITION", "REDUCTIONS", "Composition", "Reduction"]


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
