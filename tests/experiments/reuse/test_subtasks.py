"""Sub-tasks: counted by hand and by the paper, distinct, the same under one seed."""

from __future__ import annotations

import math
import time
from collections import Counter
from itertools import combinations

import pytest

from experiments.paper.study import SUBTASKS
from experiments.reuse.subtasks import drawn, number_of_subtasks, sample_size, subtasks


def test_ten_classes_have_all_of_the_papers_sub_tasks() -> None:
    tasks = subtasks(10)
    assert len(tasks) == SUBTASKS["cifar10"] == 2**10 - 10 - 1
    assert set(tasks) == {task for size in range(2, 11) for task in combinations(range(10), size)}


def test_a_hundred_classes_are_sampled_as_often_as_in_the_paper() -> None:
    begun = time.process_time()
    tasks = subtasks(100)
    assert time.process_time() - begun < 10, "one of C(100, 50) must not be looked for among all"
    assert len(tasks) == SUBTASKS["cifar100"] == 14697
    assert len(set(tasks)) == len(tasks)
    sizes = Counter(map(len, tasks))
    assert set(sizes) == set(range(2, 101))
    assert (sizes[2], sizes[3], sizes[50], sizes[98], sizes[99], sizes[100]) == (146, 150, 151, 146, 61, 1)
    assert all(task == tuple(sorted(set(task))) and set(task) <= set(range(100)) for task in tasks)


def test_a_sample_is_the_same_under_one_seed_and_another_under_another() -> None:
    assert subtasks(30, seed=1) == subtasks(30, seed=1)
    assert subtasks(30, seed=1) != subtasks(30, seed=2)


def test_a_sample_prefers_no_class() -> None:
    counts = Counter(label for task in subtasks(40) if len(task) == 20 for label in task)
    expected = sum(counts.values()) / 40
    assert len(counts) == 40
    assert all(abs(count - expected) < 6 * math.sqrt(expected) for count in counts.values())


@pytest.mark.parametrize(("population", "size"), [(1, 1), (2, 2), (100, 61), (4950, 146), (10**30, 151)])
def test_sample_sizes_worked_by_hand(population: int, size: int) -> None:
    """n0 = 1.96² / 4 / 0.08² = 150.0625; n = n0 / (1 + (n0 - 1) / N), rounded up."""
    assert sample_size(population) == size


def test_a_part_is_in_order_and_a_smaller_one_is_part_of_a_larger_one() -> None:
    tasks = subtasks(6)
    few, more = drawn(tasks, 5), drawn(tasks, 20)
    assert (len(few), len(more)) == (5, 20)
    assert set(few) < set(more) < set(tasks)
    assert list(more) == [task for task in tasks if task in set(more)]
    assert drawn(tasks, None) == drawn(tasks, 1000) == tasks
    assert drawn(tasks, 5, seed=1) != few


@pytest.mark.parametrize("classes", [2, 10, 12, 13, 30])
def test_sub_tasks_are_counted_without_making_them(classes):
    assert number_of_subtasks(classes) == len(subtasks(classes))
