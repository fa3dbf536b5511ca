"""Many subsets of one model's classes, and which of them is asked for next."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from statistics import mean

from benchmarks.compose import counts_like_trained, modular_model
from benchmarks.serving.models import picture
from moda_core.inference.executables import executable
from moda_core.inference.forms import candidates
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ModularModel
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Registry
from service.admission import admit

__all__ = ["MODEL", "PICTURE", "Subset", "drawn_subsets", "popular", "publish", "room_for"]

MODEL = "modular"
PICTURE = picture(32)
_ASIDE = 40
_SIZES = (2, 3, 4, 5)
_POPULARITY = 1.2

Subset = tuple[str, ...]


def publish(home: Path, seed: int) -> ModularModel:
    """A modular CNN of ten classes with random weights, as `modular` in the registry below `home`."""
    model = modular_model("cnn", counts_like_trained, seed)
    file = home / "modular.safetensors"
    file.write_bytes(encode(model))
    registry = Registry(home / "registry")
    registry.publish_version(MODEL, admit(registry, file))
    return model


def drawn_subsets(labels: Sequence[str], count: int, seed: int) -> list[Subset]:
    """Different subsets of two to five classes.

    Raises:
        ValueError: if there are not so many.
    """
    drawn, found = random.Random(seed), dict[frozenset[str], Subset]()
    for _ in range(100 * count):
        subset = tuple(drawn.sample(list(labels), drawn.choice(_SIZES)))
        found.setdefault(frozenset(subset), subset)
        if len(found) == count:
            return list(found.values())
    raise ValueError(f"{len(labels)} classes have no {count} subsets of {_SIZES[0]} to {_SIZES[-1]}")


def popular(subsets: int, requests: int, seed: int) -> list[int]:
    """Which subset each request is for: the n-th most popular one with weight 1 / n^1.2, as tenants are."""
    weights = list(accumulate(1 / (place + 1) ** _POPULARITY for place in range(subsets)))
    return random.Random(seed).choices(range(subsets), cum_weights=weights, k=requests)


def room_for(models: int, whole: ModularModel, subsets: Sequence[Subset]) -> int:
    """Bytes that so many composed models take on the average of some, and the whole one beside them.

    The whole one answers for the subsets that have no model of their own.
    """
    sizes = [_size_bytes(compose(whole, one)) for one in subsets[:_ASIDE]]
    return _size_bytes(whole) + round(models * mean(sizes))


def _size_bytes(model: ModularModel) -> int:
    """In the largest of the forms that may be chosen."""
    return max(executable(model, form).size_bytes for form in candidates("cpu"))
