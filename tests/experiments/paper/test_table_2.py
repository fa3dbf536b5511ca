"""The cells of table 2, proved by the averages that the paper's own text states from them."""

from statistics import fmean

import pytest

from experiments.paper import table_2


def cells(kind, approach, *datasets):
    return [
        cell
        for strong in table_2.STRONG
        for dataset in datasets
        for cell in table_2.REPLACEMENT[kind, strong, approach, dataset]
    ]


@pytest.mark.parametrize("key", table_2.STATED_MEANS, ids=str)
def test_the_means_that_the_text_states_are_those_of_cifar10_alone(key):
    stated, found = table_2.STATED_MEANS[key], cells(*key, "cifar10")
    assert len(found) == 10
    assert fmean(cell.target for cell in found) == pytest.approx(stated.target, abs=0.0051)
    assert fmean(cell.others for cell in found) == pytest.approx(stated.others, abs=0.0051)
    both = fmean(cell.target for cell in cells(*key, "cifar10", "svhn"))
    assert abs(both - stated.target) > 0.3


def test_counts_of_improved_cells():
    improved = {key: sum(cell.target > 0 for cell in cells(*key, "cifar10", "svhn")) for key in table_2.STATED_MEANS}
    assert improved == {
        ("overfitted", "MODA"): 20,
        ("underfitted", "MODA"): 18,
        ("overfitted", "CNNSplitter"): 10,
        ("underfitted", "CNNSplitter"): 6,
    }


def test_moda_is_ahead_of_cnnsplitter_in_39_of_40_cells():
    pairs = [
        pair
        for kind in table_2.KINDS
        for pair in zip(
            cells(kind, "MODA", "cifar10", "svhn"), cells(kind, "CNNSplitter", "cifar10", "svhn"), strict=True
        )
    ]
    assert (sum(ours.target > theirs.target for ours, theirs in pairs), len(pairs)) == (39, 40)


def test_every_cell_is_there():
    shapes = {(len(row), len(table_2.TARGETS[key[3]])) for key, row in table_2.REPLACEMENT.items()}
    assert (len(table_2.REPLACEMENT), shapes) == (16, {(5, 5)})
