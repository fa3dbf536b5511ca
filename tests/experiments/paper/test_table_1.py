"""The cells of table 1, proved by the averages that the paper's own text states from them."""

from statistics import fmean

import pytest

from experiments.paper import study, table_1


def mean_accuracy(approach, cases=study.CASES):
    return fmean(table_1.TEST_ACCURACY[case][approach].mean for case in cases)


@pytest.mark.parametrize(("approach", "stated"), [("ST", 85.20), ("MwT", 68.09), ("MODA", 84.68)])
def test_mean_test_accuracy(approach, stated):
    assert mean_accuracy(approach) == pytest.approx(stated, abs=0.0051)


def test_losses_of_accuracy():
    hundred = [case for case in study.CASES if case[1] == "cifar100"]
    assert mean_accuracy("ST", hundred) - mean_accuracy("MwT", hundred) == pytest.approx(16.79, abs=0.0051)
    assert mean_accuracy("ST") - mean_accuracy("MODA") == pytest.approx(0.52, abs=0.0051)
    assert mean_accuracy("ST") - mean_accuracy("MwT") == pytest.approx(17.11, abs=0.0051)
    mobile = [case for case in study.CASES if case[0] == "mobilenet"]
    assert mean_accuracy("ST", mobile) - mean_accuracy("MwT", mobile) == pytest.approx(42.88, abs=0.0051)


@pytest.mark.parametrize(("approach", "stated"), [("MODA", 40.67), ("MwT", 106.09)])
def test_overhead_of_training(approach, stated):
    ratios = [hours[approach] / hours["ST"] for hours in table_1.TRAINING_HOURS.values()]
    assert 100 * (fmean(ratios) - 1) == pytest.approx(stated, abs=0.2)  # the table's hours have two places


def test_moda_trains_faster_than_mwt():
    less = [1 - hours["MODA"] / hours["MwT"] for hours in table_1.TRAINING_HOURS.values()]
    assert 100 * fmean(less) == pytest.approx(29.23, abs=0.05)


def test_every_case_is_there():
    assert tuple(table_1.TEST_ACCURACY) == tuple(table_1.TRAINING_HOURS) == study.CASES
