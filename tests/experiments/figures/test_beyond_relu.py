import pytest

from experiments.figures.beyond_relu import figure


def test_the_figure_shows_means_over_seeds_in_percent():
    rows = [
        {
            "kind": "reuse",
            "approach": "MODA",
            "epsilon": epsilon,
            "accuracy": {"correct": correct, "n": n},
            "kept_parameters": kept,
            "original_parameters": 10,
        }
        for epsilon, correct, n, kept in [(0.1, 18, 20, 5), (0.1, 7, 10, 3), (1.0, 4, 10, 1)]
    ]
    (axes,) = figure({"vit": rows}).axes
    accuracy, kept = (line for line in axes.get_lines() if line.get_label().startswith("MODA"))
    assert list(accuracy.get_xdata()) == [0.1, 1.0]
    assert list(accuracy.get_ydata()) == pytest.approx([80, 40])
    assert list(kept.get_ydata()) == pytest.approx([40, 10])
