"""What the paper is, and what it measures: models, data sets, sub-tasks, thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

__all__ = ["CASES", "DATASETS", "IMAGES", "MODELS", "SUBTASKS", "THRESHOLDS", "TITLE"]

TITLE = "Improving DNN Modularization via Activation-Driven Training"
MODELS = ("vgg16", "resnet18", "mobilenet")
DATASETS = ("svhn", "cifar10", "cifar100")
CASES = tuple(product(MODELS, DATASETS))
"""Models on data sets, as tables 1 and 3 list them."""

IMAGES: Mapping[str, tuple[int, int]] = {
    "svhn": (73_257, 26_032),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
}
"""Training and test images of each data set."""

SUBTASKS = {"svhn": 1013, "cifar10": 1013, "cifar100": 14697}
"""Sub-tasks composed: all of two or more of ten classes, a sample of a hundred's (95 %, 8 %)."""

THRESHOLDS = ("0.1", "0.5", "0.8", "0.9", "0.95")
"""Figure 4's τ; section 5.4 calls 0.8 the most accurate, 0.95 the smallest, and chooses 0.9."""
