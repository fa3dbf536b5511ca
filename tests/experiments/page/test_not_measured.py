"""What is not measured yet stands at the end of the page, with its commands."""

import pytest
from results_page import GPU, cells, section, trained, write

from experiments.document import page


def test_without_results_every_cell_of_ours_is_empty_and_its_command_is_named(tmp_path):
    text = page(tmp_path, tmp_path, tmp_path)
    lacking = section(text, "Not measured yet")
    assert cells(lacking, "vgg16, cifar10, MODA")[:2] == ["91.86 ± 0.23", ""]
    assert "python -m experiments.rq1 --dataset DATASET=DATASET.npz --model MODEL --seeds 5" in lacking
    assert "--fine-tune-tasks 50" in lacking
    assert lacking.count("vgg16 on svhn, cifar10, cifar100; resnet18 on svhn, cifar10, cifar100; mobilenet") == 4
    assert lacking.count("To measure, for each MODEL and DATASET") == 6
    assert not [title for title in ("## Full size", "## Narrowed", "## Speed", "## Beyond") if f"\n{title}" in text]


def test_what_was_not_measured_stands_last(tmp_path):
    write(tmp_path, "rq1-cifar10-resnet18-e200.jsonl", [trained("ST", 0, 9300)], place=GPU)
    text = page(tmp_path, tmp_path, tmp_path)
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert titles == ["How to read", "What was measured", "Full size", "How to repeat", "Not measured yet"]
    with pytest.raises(StopIteration):
        cells(section(text, "Full size"), "resnet18, cifar10, MODA")
    assert "- [cifar10, resnet18, width 1, 200 epochs](#full-size): test accuracy ST 93.00 %." in text
