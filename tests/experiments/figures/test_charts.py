import re

import pytest

from experiments.figures import charts, style

POINTS = {"MODA": [(0.9, 94.0, 8.0), (0.1, 95.0, 30.0)], "ST-composed": [(0.1, 90.0, 60.0), (0.9, 40.0, 40.0)]}
BY_SIZE = {approach: {2: [90.0, 95.0, 99.0], 3: [91.0, 93.0]} for approach in ("ST", "MODA")}
MANY = {"MODA": {size: [90.0 - size / 5, 95.0] for size in range(2, 101)}}
DRAWN = {
    "reuse": lambda: charts.reuse_accuracy(BY_SIZE),
    "reuse of many sizes": lambda: charts.reuse_accuracy(MANY),
    "cost": lambda: charts.composed_cost(BY_SIZE, BY_SIZE),
    "threshold": lambda: charts.threshold(POINTS),
    "overlap": lambda: charts.overlap_per_layer({"MODA": {"first": 99.0, "last": 0.1}}),
    "weights": lambda: charts.weights({"alpha": {"accuracy": [(0, 1.0), (1, 2.0)]}, "beta": {"accuracy": [(1, 2.0)]}}),
    "curves": lambda: charts.training_curves({"loss": {"ST": [2.0, 1.0], "MODA": [3.0, 1.5]}}),
    "time": lambda: charts.training_time({"VGG16": {"ST": 1.0, "MODA": 1.1}, "ResNet18": {"ST": 2.0}}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_is_written_the_same_twice(tmp_path, name):
    first, second = (style.save(DRAWN[name](), tmp_path / part, "figure") for part in ("a", "b"))
    assert [path.suffix for path in first] == [".svg", ".png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert not re.search(rb"\d{4}-\d\d-\d\dT", first[0].read_bytes())


def lines(axes):
    return {line.get_label(): [list(map(float, data)) for data in line.get_data()] for line in axes.get_lines()}


def test_points_are_joined_in_the_order_of_the_threshold():
    accuracy, size = charts.threshold(POINTS).axes
    assert lines(accuracy)["MODA"] == [[0.1, 0.9], [95.0, 94.0]]
    assert lines(size)["ST-composed"] == [[0.1, 0.9], [60.0, 40.0]]


def test_few_sizes_show_the_median_and_all_of_it():
    axes = charts.reuse_accuracy({"MODA": {2: [90.0, 92.0, 99.0]}}).axes[0]
    drawn = [list(map(float, line.get_ydata())) for line in axes.get_lines()]
    assert drawn == [[90.0, 99.0], [91.0, 95.5], [92.0]]


def test_many_sizes_show_the_mean_of_each():
    axes = charts.reuse_accuracy({"MODA": {size: [80.0, 90.0] for size in range(2, 30)}}).axes[0]
    assert lines(axes)["MODA"][1] == [85.0] * 28


def test_a_model_without_a_measurement_has_no_bar():
    axes = charts.training_time({"VGG16": {"ST": 1.0, "MODA": 1.1}, "ResNet18": {"ST": 2.0}}).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "1.1", ""]


def test_approaches_are_told_apart_by_colour_and_marker():
    looks = [axes.get_lines() for axes in charts.threshold(POINTS).axes]
    assert all(len({(line.get_color(), line.get_marker()) for line in drawn}) == 2 for drawn in looks)
