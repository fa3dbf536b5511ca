"""The cells of table 3, proved by the averages that the paper's own text states from them."""

from statistics import fmean

import pytest

from experiments.paper import section_5_2, study, table_3


def test_means_of_table_3():
    rows = list(table_3.COMPOSITION.values())
    moda, without = ([row[approach] for row in rows] for approach in ("MODA", "MODA-"))
    assert 100 * fmean(row.module_size for row in moda) == pytest.approx(section_5_2.MEAN_MODULE["MODA"].size, abs=0.01)
    assert 100 * fmean(row.module_overlap for row in moda) == pytest.approx(
        section_5_2.MEAN_MODULE["MODA"].overlap, abs=0.01
    )
    loss = fmean(row.reuse_accuracy for row in without) - fmean(row.reuse_accuracy for row in moda)
    assert loss == pytest.approx(0.27, abs=0.0051)


@pytest.mark.parametrize("case", study.CASES, ids="-".join)
def test_the_printed_reductions_follow_from_the_rounded_sizes(case):
    """Table 3 prints shares to three places: the reduction they give lies within what that rounding allows."""
    moda, without = (table_3.COMPOSITION[case][approach] for approach in ("MODA", "MODA-"))
    for printed, small, large in zip(
        (table_3.REDUCTIONS[case].size, table_3.REDUCTIONS[case].overlap),
        (moda.module_size, moda.module_overlap),
        (without.module_size, without.module_overlap),
        strict=True,
    ):
        least = 1 - (small + 0.0005) / (large - 0.0005)
        most = 1 - (small - 0.0005) / (large + 0.0005)
        assert 100 * least - 0.01 <= printed <= 100 * most + 0.01


def test_mean_reductions():
    assert fmean(row.size for row in table_3.REDUCTIONS.values()) == pytest.approx(24.23, abs=0.0051)
    assert fmean(row.overlap for row in table_3.REDUCTIONS.values()) == pytest.approx(21.80, abs=0.0101)


def test_every_case_is_there():
    assert tuple(table_3.COMPOSITION) == tuple(table_3.REDUCTIONS) == study.CASES
