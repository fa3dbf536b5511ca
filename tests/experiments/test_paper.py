"""The paper's cells, proved by the averages that its own text states from them."""

from statistics import fmean

import pytest

from experiments import paper

CASES = [(model, dataset) for model in paper.MODELS for dataset in paper.DATASETS]


def mean_accuracy(approach, cases=CASES):
    return fmean(paper.TEST_ACCURACY[case][approach].mean for case in cases)


def cells(kind, approach, *datasets):
    return [
        cell
        for strong in paper.STRONG
        for dataset in datasets
        for cell in paper.REPLACEMENT[kind, strong, approach, dataset]
    ]


@pytest.mark.parametrize(("approach", "stated"), [("ST", 85.20), ("MwT", 68.09), ("MODA", 84.68)])
def test_mean_test_accuracy(approach, stated):
    assert mean_accuracy(approach) == pytest.approx(stated, abs=0.0051)


def test_losses_of_accuracy():
    hundred = [case for case in CASES if case[1] == "cifar100"]
    assert mean_accuracy("ST", hundred) - mean_accuracy("MwT", hundred) == pytest.approx(16.79, abs=0.0051)
    assert mean_accuracy("ST") - mean_accuracy("MODA") == pytest.approx(0.52, abs=0.0051)
    assert mean_accuracy("ST") - mean_accuracy("MwT") == pytest.approx(17.11, abs=0.0051)
    mobile = [case for case in CASES if case[0] == "mobilenet"]
    assert mean_accuracy("ST", mobile) - mean_accuracy("MwT", mobile) == pytest.approx(42.88, abs=0.0051)


@pytest.mark.parametrize(("approach", "stated"), [("MODA", 40.67), ("MwT", 106.09)])
def test_overhead_of_training(approach, stated):
    ratios = [hours[approach] / hours["ST"] for hours in paper.TRAINING_HOURS.values()]
    assert 100 * (fmean(ratios) - 1) == pytest.approx(stated, abs=0.2)  # the table's hours have two places


def test_moda_trains_faster_than_mwt():
    less = [1 - hours["MODA"] / hours["MwT"] for hours in paper.TRAINING_HOURS.values()]
    assert 100 * fmean(less) == pytest.approx(29.23, abs=0.05)


@pytest.mark.parametrize("key", paper.STATED_MEANS, ids=str)
def test_the_means_that_the_text_states_are_those_of_cifar10_alone(key):
    stated, found = paper.STATED_MEANS[key], cells(*key, "cifar10")
    assert len(found) == 10
    assert fmean(cell.target for cell in found) == pytest.approx(stated.target, abs=0.0051)
    assert fmean(cell.others for cell in found) == pytest.approx(stated.others, abs=0.0051)
    both = fmean(cell.target for cell in cells(*key, "cifar10", "svhn"))
    assert abs(both - stated.target) > 0.3


def test_counts_of_improved_cells():
    improved = {key: sum(cell.target > 0 for cell in cells(*key, "cifar10", "svhn")) for key in paper.STATED_MEANS}
    assert improved == {
        ("overfitted", "MODA"): 20,
        ("underfitted", "MODA"): 18,
        ("overfitted", "CNNSplitter"): 10,
        ("underfitted", "CNNSplitter"): 6,
    }


def test_moda_is_ahead_of_cnnsplitter_in_39_of_40_cells():
    pairs = [
        pair
        for kind in paper.KINDS
        for pair in zip(
            cells(kind, "MODA", "cifar10", "svhn"), cells(kind, "CNNSplitter", "cifar10", "svhn"), strict=True
        )
    ]
    assert (sum(ours.target > theirs.target for ours, theirs in pairs), len(pairs)) == (39, 40)


def test_means_of_table_3():
    rows = list(paper.COMPOSITION.values())
    moda, without = ([row[approach] for row in rows] for approach in ("MODA", "MODA-"))
    assert 100 * fmean(row.module_size for row in moda) == pytest.approx(paper.MEAN_MODULE["MODA"].size, abs=0.01)
    assert 100 * fmean(row.module_overlap for row in moda) == pytest.approx(paper.MEAN_MODULE["MODA"].overlap, abs=0.01)
    loss = fmean(row.reuse_accuracy for row in without) - fmean(row.reuse_accuracy for row in moda)
    assert loss == pytest.approx(0.27, abs=0.0051)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_printed_reductions_follow_from_the_rounded_sizes(case):
    """Table 3 prints shares to three places: the reduction they give lies within what that rounding allows."""
    moda, without = (paper.COMPOSITION[case][approach] for approach in ("MODA", "MODA-"))
    for printed, small, large in zip(
        (paper.REDUCTIONS[case].size, paper.REDUCTIONS[case].overlap),
        (moda.module_size, moda.module_overlap),
        (without.module_size, without.module_overlap),
        strict=True,
    ):
        least = 1 - (small + 0.0005) / (large - 0.0005)
        most = 1 - (small - 0.0005) / (large + 0.0005)
        assert 100 * least - 0.01 <= printed <= 100 * most + 0.01


def test_mean_reductions():
    assert fmean(row.size for row in paper.REDUCTIONS.values()) == pytest.approx(24.23, abs=0.0051)
    assert fmean(row.overlap for row in paper.REDUCTIONS.values()) == pytest.approx(21.80, abs=0.0101)


def test_every_case_is_there():
    assert set(paper.TEST_ACCURACY) == set(paper.TRAINING_HOURS) == set(paper.COMPOSITION) == set(CASES)
    shapes = {(len(row), len(paper.TARGETS[key[3]])) for key, row in paper.REPLACEMENT.items()}
    assert (len(paper.REPLACEMENT), shapes) == (16, {(5, 5)})
