"""Reuse, worked by hand."""

from itertools import combinations

from results_page import cells, modules, reused, section, write

from experiments.document import page


def test_reuse_stands_with_its_size_its_worst_case_and_the_standard_model(tmp_path):
    rows = [reused("ST", [0, 1], 950), reused("ST", [0, 2], 960)]
    rows += [reused("MODA", [0, 1], 930, kept=10), reused("MODA", [0, 2], 920, kept=20)]
    rows += [reused("ST-composed", [0, 1], 700, kept=60), reused("ST-composed", [0, 2], 800, kept=60)]
    rows += [modules("MODA", 0.08), modules("ST-composed", 0.5)]
    write(tmp_path, "rq2-reuse-cifar10-vgg16-e200.jsonl", rows)
    text = section(page(tmp_path, tmp_path, tmp_path), "RQ2: reuse")
    # two of 1,013 sub-tasks: no difference to the paper's mean of all
    assert cells(text, "ST")[:3] == ["95.22", "95.50", ""]
    # mean loss (2 + 4) / 2, the worst 4, one above 3 points, (10 + 20) / 2 % of the weights
    assert cells(text, "MODA")[:3] == ["94.48", "92.50", ""]
    assert cells(text, "MODA")[3:] == ["3.00", "4.00", "1 of 2", "15.00", "80.00", "2", "1,000", "1"]
    composed = [line for line in text.splitlines() if line.startswith("| ST-composed")]
    assert "75.00" in composed[0]
    assert "60.00" in composed[0]
    assert "50.00" in composed[1]


def test_the_papers_mean_is_compared_with_one_over_all_sub_tasks(tmp_path):
    tasks = [list(task) for size in range(2, 11) for task in combinations(range(10), size)]
    write(tmp_path, "rq2-reuse-cifar10-vgg16-e200.jsonl", [reused("MODA", task, 950) for task in tasks])
    assert cells(section(page(tmp_path, tmp_path, tmp_path), "RQ2: reuse"), "MODA")[:3] == ["94.48", "95.00", "+0.52"]


def test_fine_tuning_a_sample_stands_beside_the_others_on_the_same_sub_tasks(tmp_path):
    rows = [reused(approach, [0, 1], 900) for approach in ("ST", "MODA", "MwT")]
    rows += [reused(approach, [0, 2], 500) for approach in ("ST", "MODA", "MwT")] + [reused("MwT+ft", [0, 2], 800)]
    write(tmp_path, "rq2-reuse-cifar10-vgg16-e200.jsonl", rows)
    text = page(tmp_path, tmp_path, tmp_path)
    all_of_them, sample = section(text, "RQ2: reuse").split("On the sub-tasks (1) that MwT+ft was measured on")
    assert cells(all_of_them, "MODA")[1] == "70.00"
    assert "| MwT+ft" not in all_of_them
    assert [cells(sample, approach)[0] for approach in ("ST", "MODA", "MwT", "MwT+ft")] == ["50.00"] * 3 + ["80.00"]
    assert "which the fine-tuning does not see, but which MwT's own training saw" in sample
    assert cells(section(text, "Not measured yet"), "vgg16, cifar10, MwT+ft") == ["93.74", ""]


def test_a_loss_of_three_points_is_not_more_than_three(tmp_path):
    rows = [reused("ST", [0, 1], 950), reused("MODA", [0, 1], 920)]
    write(tmp_path, "rq2-reuse-cifar10-cnn-e3.jsonl", rows)
    assert cells(section(page(tmp_path, tmp_path, tmp_path), "Narrowed"), "MODA")[1:4] == ["3.00", "3.00", "0 of 1"]
