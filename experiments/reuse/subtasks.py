"""Sub-tasks: the classes that a composed model is asked for (section 5.2 of the paper)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

__all__ = ["Subtask", "drawn", "number_of_subtasks", "sample_size", "subtasks"]

Subtask = tuple[int, ...]

_ALL_UP_TO = 12
_Z = Fraction("1.96")
_MARGIN = Fraction("0.08")
_SHARE = Fraction(1, 2)


def sample_size(population: int) -> int:
    """How many of a population to draw for 95 % confidence and a margin of 8 %.

    Cochran's size for a share of one half, corrected for a finite population, rounded up: the rule
    that gives the paper's 14,697 sub-tasks of 100 classes exactly. In fractions, so that nothing
    hangs on rounding.
    """
    infinite = _Z**2 * _SHARE * (1 - _SHARE) / _MARGIN**2
    return math.ceil(infinite / (1 + (infinite - 1) / population))


def subtasks(classes: int, seed: int = 0) -> tuple[Subtask, ...]:
    """Sub-tasks of 2 to all classes, by size: every one of a small set, a sample of each size otherwise.

    Ten classes have 1,013, a hundred are sampled 14,697 times; distinct, and the same under one seed.
    """
    sizes = range(2, classes + 1)
    if classes <= _ALL_UP_TO:
        return tuple(task for size in sizes for task in combinations(range(classes), size))
    return tuple(task for size in sizes for task in _sample(classes, size, seed))


def number_of_subtasks(classes: int) -> int:
    """How many `subtasks` there are, without making them."""
    sizes = [math.comb(classes, size) for size in range(2, classes + 1)]
    return sum(sizes if classes <= _ALL_UP_TO else map(sample_size, sizes))


def drawn(tasks: Sequence[Subtask], number: int | None, seed: int = 0) -> tuple[Subtask, ...]:
    """A random part of some sub-tasks, in their order; a smaller one is part of a larger one. None takes all."""
    if number is None or number >= len(tasks):
        return tuple(tasks)
    chosen = _shuffled(len(tasks), random.Random(f"drawn {seed}"))[:number]
    return tuple(tasks[place] for place in sorted(chosen))


def _sample(classes: int, size: int, seed: int) -> list[Subtask]:
    """Distinct sub-tasks of one size, drawn one by one: no list of all is ever made."""
    generator = random.Random(f"{seed} {classes} {size}")
    wanted = sample_size(math.comb(classes, size))
    found: set[Subtask] = set()
    while len(found) < wanted:
        found.add(tuple(sorted(_shuffled(classes, generator)[:size])))
    return sorted(found)


def _shuffled(count: int, generator: random.Random) -> list[int]:
    """By `random()` alone, the one method that is promised to give the same in every Python."""
    return sorted(range(count), key=lambda _: generator.random())
