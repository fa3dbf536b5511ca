"""Test accuracy and time, worked by hand."""

import pytest
from results_page import GPU, HERE, cells, conditions, section, trained, write

from experiments.document import page


def test_table_1_shows_the_papers_value_ours_and_the_difference(tmp_path):
    rows = [trained("ST", 0, 9300), trained("ST", 1, 9340), trained("MODA", 0, 9100, wall_s=420.0)]
    write(tmp_path, "rq1-cifar10-resnet18-e200.jsonl", rows, place=GPU)
    text = page(tmp_path, tmp_path, tmp_path)
    standard = ["93.37 ± 0.07", "93.20 ± 0.28", "-0.17", "2", "10,000", "1.23", "6.67", "25,000", "1.00", "1.00"]
    modular = ["90.94 ± 0.07", "91.00", "+0.06", "1", "10,000", "1.61", "7.00", "25,000", "1.31", "1.05"]
    assert cells(text, "resnet18, cifar10, ST") == standard
    assert cells(text, "resnet18, cifar10, MODA") == modular
    assert cells(section(text, "Not measured yet"), "resnet18, cifar10, MwT") == ["91.04 ± 0.03", "", "2.18", "1.77"]
    assert "[`rq1-cifar10-resnet18-e200.jsonl`](rq1-cifar10-resnet18-e200.jsonl): NVIDIA H100, torch 2.11.0" in text
    assert "commit `def5678`, 2026-11-22; `python -m experiments.any --seeds 2`" in text


def test_times_on_different_hardware_are_not_compared(tmp_path):
    rows = [trained("ST", 0, 9300, place=HERE), trained("MODA", 0, 9100)]
    write(tmp_path, "rq1-cifar10-vgg16-e200.jsonl", rows)
    assert cells(page(tmp_path, tmp_path, tmp_path), "vgg16, cifar10, MODA")[-1] == ""


@pytest.mark.parametrize("other", [{"threads": 8}, {"processes": 2}, {"execution": {"captured": True}}], ids=str)
def test_times_in_different_surroundings_are_not_compared(tmp_path, other):
    write(
        tmp_path, "rq1-cifar10-vgg16-e200.jsonl", [trained("ST", 0, 9300, place=GPU | other), trained("MODA", 0, 9100)]
    )
    assert cells(page(tmp_path, tmp_path, tmp_path), "vgg16, cifar10, MODA")[-1] == ""


def test_ways_of_training_that_were_not_chosen_may_go_unnamed(tmp_path):
    rows = [trained("ST", 0, 9300, place=GPU | {"execution": {"captured": False}}), trained("MODA", 0, 9100)]
    write(tmp_path, "rq1-cifar10-vgg16-e200.jsonl", rows)
    assert cells(page(tmp_path, tmp_path, tmp_path), "vgg16, cifar10, MODA")[-1] == "1.00"


def test_a_model_that_was_trained_anew_is_not_a_second_seed(tmp_path):
    rows = [trained("ST", 0, 9000) | {"model": "old"}, trained("ST", 0, 9300) | {"model": "new", "conditions": "late"}]
    late = conditions(GPU) | {"id": "late", "date": "2026-11-23T10:00:00Z"}
    write(tmp_path, "rq1-cifar10-resnet18-e200.jsonl", [*rows, late], place=GPU)
    assert cells(page(tmp_path, tmp_path, tmp_path), "resnet18, cifar10, ST")[1:4] == ["93.00", "-0.37", "1"]
