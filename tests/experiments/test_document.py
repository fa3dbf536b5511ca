"""The page from made-up rows whose means are worked by hand."""

import json
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest

from experiments import document
from experiments.document import BENCHMARKS, page
from experiments.evidence.files import evidence
from moda_core.errors import UnreadableFile

HERE = {"hardware": "x86_64, 2 cores", "threads": 2, "torch": "2.13.0", "commit": "abc1234"}
GPU = {"hardware": "NVIDIA H100", "threads": 16, "torch": "2.11.0", "commit": "def5678"}


def conditions(place=HERE, command="python -m experiments.any --seeds 2"):
    return {"kind": "conditions", "id": "00000000", **place, "command": command, "date": "2026-11-22T10:00:00Z"}


def write(folder, name, rows, **about):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in [conditions(**about), *rows]))


def trained(approach, seed, correct, wall_s=400.0, n=10000, epochs=200, place=GPU, cpu_s=500.0):
    return {
        "conditions": "00000000", "kind": "training", "approach": approach, "seed": seed, "epochs": epochs,
        "accuracy": {"correct": correct, "n": n}, "wall_s": wall_s, "cpu_s": cpu_s, "images_per_s": 25000.0,
        "history": {"loss": [1.0], "accuracy": [0.5]}, "trained_on": place,
    }  # fmt: skip


def reused(approach, classes, correct, kept=50, seed=0, n=1000, threshold="0.9", images_per_class=None):
    row = {
        "kind": "reuse", "approach": approach, "seed": seed, "threshold": threshold, "classes": classes,
        "images_per_class": images_per_class, "accuracy": {"correct": correct, "n": n},
    }  # fmt: skip
    if approach == "ST":
        return row | {"threshold": None}
    return row | {"kept_parameters": kept, "original_parameters": 100, "kept_flops": 80, "original_flops": 100}


def modules(approach, size, seed=0, threshold="0.9"):
    return {
        "kind": "modules", "approach": approach, "seed": seed, "threshold": threshold, "size": size,
        "overlap": size / 2, "size_undropped": size + 0.01, "overlap_undropped": size / 2 + 0.01,
    }  # fmt: skip


def replaced(approach, target, before, after, strong="vgg16", weak="overfitted", initial=None, seed=0):
    counted = {
        f"{part}_{when}": {"correct": correct, "n": n}
        for when, pair in (("before", before), ("after", after))
        for part, correct, n in zip(("tc", "non_tc"), pair, (1000, 5000), strict=True)
    }
    row = {"kind": "replacement", "approach": approach, "strong": strong, "weak": weak, "target": target, "seed": seed}
    row |= {"weak_epochs": 200, "module_size": 0.04, "strong_accuracy": {"correct": 4800, "n": 5000}, **counted}
    return row if initial is None else row | {"initial": initial}


def cells(text, first):
    """The cells of the first row that begins so."""
    line = next(line for line in text.splitlines() if line.split("|")[1:2] and line.split("|")[1].strip() == first)
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def section(text, title):
    """From one heading to the next of its rank or above."""
    lines = text.splitlines()
    begin = next(place for place, line in enumerate(lines) if line.lstrip("# ").startswith(title) and line[0] == "#")
    rank = len(lines[begin].split(" ")[0])
    end = next(
        (
            place
            for place in range(begin + 1, len(lines))
            if 0 < lines[place].find(" ") <= rank and set(lines[place].split(" ")[0]) == {"#"}
        ),
        len(lines),
    )
    return "\n".join(lines[begin:end])


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


def test_a_model_that_was_trained_anew_is_not_a_second_seed(tmp_path):
    rows = [trained("ST", 0, 9000) | {"model": "old"}, trained("ST", 0, 9300) | {"model": "new", "conditions": "late"}]
    late = conditions(GPU) | {"id": "late", "date": "2026-11-23T10:00:00Z"}
    write(tmp_path, "rq1-cifar10-resnet18-e200.jsonl", [*rows, late], place=GPU)
    assert cells(page(tmp_path, tmp_path, tmp_path), "resnet18, cifar10, ST")[1:4] == ["93.00", "-0.37", "1"]


def test_narrowed_rows_stand_apart_and_beside_no_number_of_the_paper(tmp_path):
    rows = [
        trained("ST", 0, 700, n=1000, epochs=10, place=HERE),
        trained("MODA", 0, 650, n=1000, epochs=10, place=HERE, cpu_s=550.0),
    ]
    write(tmp_path, "rq1-cifar10-resnet18-w0.25-e10.jsonl", rows)
    text = page(tmp_path, tmp_path, tmp_path)
    narrowed = section(text, "Narrowed")
    assert "## Full size" not in text
    assert "### cifar10, resnet18, width 0.25, 10 epochs" in narrowed
    assert "](#cifar10-resnet18-width-025-10-epochs): test accuracy ST 70.00 %, MODA 65.00 %." in text
    assert cells(narrowed, "approach")[4:] == ["processor s per epoch", "processor time, x ST"]
    assert cells(narrowed, "MODA") == ["65.00", "1,000", "1", "40.00", "55.00", "1.10"]
    assert "x86_64, 2 cores (2 threads)" in narrowed
    assert "90.94" not in narrowed


def test_narrowed_rows_of_a_gpu_compare_its_time(tmp_path):
    rows = [trained("ST", 0, 700, epochs=10), trained("MODA", 0, 650, epochs=10, wall_s=500.0, cpu_s=900.0)]
    write(tmp_path, "rq1-cifar10-resnet18-e10.jsonl", rows)
    narrowed = section(page(tmp_path, tmp_path, tmp_path), "Narrowed")
    assert cells(narrowed, "approach")[3:] == ["s per epoch", "time, x ST"]
    assert cells(narrowed, "MODA")[3:] == ["50.00", "1.25"]


def test_what_failed_is_said_and_leaves_its_cell_empty(tmp_path):
    failed = {"kind": "training", "approach": "MwT", "seed": 0, "spec": "aa", "error": "the loss is NaN in epoch 3"}
    write(tmp_path, "rq1-cifar10-mobilenet-e200.jsonl", [trained("ST", 0, 8900), failed])
    text = page(tmp_path, tmp_path, tmp_path)
    assert "- failed: MwT, seed 0: the loss is NaN in epoch 3" in section(text, "Full size")
    assert cells(section(text, "Not measured yet"), "mobilenet, cifar10, MwT")[1] == ""


@pytest.mark.parametrize(
    "name", ["rq1-cifar10-cnn-e200.jsonl", "rq1-digits-vgg16-e200.jsonl", "rq1-svhn-vgg16-e199.jsonl"]
)
def test_what_is_no_case_of_the_paper_is_not_full_size(tmp_path, name):
    write(tmp_path, name, [trained("ST", 0, 9300)])
    assert not evidence(tmp_path)[0].full_size


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


def test_overlap_of_the_first_and_last_layers_and_mwts_own_measures_are_shown(tmp_path):
    layers = {f"features.{place}": 1 - place / 10 for place in range(8)} | {"classifier.0": 0.0}
    own = {"kernel_retention": {"a": 0.4, "b": 0.6}, "cohesion": {"a": 0.8, "b": 0.9}, "coupling": 0.25}
    rows = [reused("MwT", [0, 1], 900), modules("MwT", 0.2) | {"layers_undropped": layers, **own}]
    write(tmp_path, "rq2-reuse-cifar10-vgg16-e200.jsonl", rows)
    text = section(page(tmp_path, tmp_path, tmp_path), "RQ2: reuse")
    found = [line.split("|")[2:-1] for line in text.splitlines() if line.startswith("| MwT")]
    assert [cell.strip() for cell in found[2]] == ["100.00", "90.00", "80.00", "50.00", "40.00", "30.00"]
    assert [cell.strip() for cell in found[3]] == ["50.00", "0.850", "0.250"]
    assert "more than 99 % in the first three, less than 0.15 % in the last" in text


def test_reuse_without_modules_is_shown_all_the_same(tmp_path):
    """A run that was stopped between the two."""
    for name in ("rq2-reuse", "rq3", "rq4-threshold"):
        write(tmp_path, f"{name}-cifar10-vgg16-e200.jsonl", [reused("ST", [0, 1], 950), reused("MODA", [0, 1], 930)])
        write(tmp_path, f"{name}-digits-cnn-e3.jsonl", [reused("ST", [0, 1], 950), reused("MODA", [0, 1], 930)])
    document.draw(tmp_path)
    text = page(tmp_path, tmp_path, tmp_path)
    assert cells(section(text, "RQ3"), "vgg16, cifar10, MODA")[:2] == ["94.48", "93.00"]
    assert "vgg16 on svhn; vgg16 on cifar10;" in section(section(text, "Not measured yet"), "RQ4: the threshold")


def test_a_loss_of_three_points_is_not_more_than_three(tmp_path):
    rows = [reused("ST", [0, 1], 950), reused("MODA", [0, 1], 920)]
    write(tmp_path, "rq2-reuse-cifar10-cnn-e3.jsonl", rows)
    assert cells(section(page(tmp_path, tmp_path, tmp_path), "Narrowed"), "MODA")[1:4] == ["3.00", "3.00", "0 of 1"]


def test_table_2_shows_every_cell_with_the_papers(tmp_path):
    rows = [
        replaced("MODA", "airplane", (500, 4000), (600, 3950), initial="identity"),
        replaced("MODA", "airplane", (500, 4000), (580, 4000), initial="identity", seed=1),
        replaced("MODA", "airplane", (500, 4000), (100, 1000), initial="normal"),
        replaced("CNNSplitter", "airplane", (500, 4000), (490, 4100)),
        *(replaced("MODA", name, (500, 4000), (500, 4000), initial="identity") for name in ("automobile", "bird", "cat", "deer")),
    ]  # fmt: skip
    write(tmp_path, "rq2-replacement-cifar10-vgg16-e200.jsonl", rows)
    text = page(tmp_path, tmp_path, tmp_path)
    assert cells(text, "overfitted, vgg16, MODA: paper")[0] == "+8.50 / -0.22"
    ours = cells(text, "overfitted, vgg16, MODA: ours")
    assert ours == ["+9.00 / -0.50", *["+0.00 / +0.00"] * 4, "+1.80 / -0.10", "1 of 5", "4.00", "2"]
    assert cells(text, "overfitted, vgg16, MODA: difference")[0] == "+0.50 / -0.28"
    assert cells(text, "overfitted, vgg16, MODA, from N(0, 0.01): ours")[0] == "-40.00 / -60.00"
    assert cells(text, "overfitted, vgg16, CNNSplitter: ours")[:2] == ["-1.00 / +2.00", ""]
    assert "1,000 and 5,000" in text


def test_a_target_that_is_not_measured_yet_leaves_its_own_cell_empty(tmp_path):
    write(
        tmp_path, "rq2-replacement-cifar10-vgg16-e200.jsonl", [replaced("CNNSplitter", "cat", (500, 4000), (490, 4100))]
    )
    text = page(tmp_path, tmp_path, tmp_path)
    for part in ("Full size", "Not measured yet"):
        ours = cells(section(text, part), "overfitted, vgg16, CNNSplitter: ours")
        assert ours[:5] == ["", "", "", "-1.00 / +2.00", ""]
    assert "Lacking: vgg16 on cifar10, svhn; resnet18 on cifar10, svhn. To measure" in text


def test_weak_models_of_different_trainings_are_not_averaged(tmp_path):
    long = replaced("MODA", "cat", (500, 4000), (600, 4000), initial="identity")
    short = replaced("MODA", "cat", (500, 4000), (800, 4000), initial="identity") | {"weak_epochs": 20}
    write(tmp_path, "rq2-replacement-cifar10-vgg16-e200.jsonl", [long, short])
    write(tmp_path, "rq2-replacement-cifar10-vgg16-w0.25-e10.jsonl", [long, short])
    text = page(tmp_path, tmp_path, tmp_path)
    assert cells(section(text, "Full size"), "overfitted, vgg16, MODA: ours")[3] == "+10.00 / +0.00"
    whole = section(text, "cifar10, vgg16, width 1, 200 epochs")
    assert cells(whole, "overfitted (20 epochs), MODA")[0] == "+30.00 / +0.00"
    assert "(200 epochs)" not in whole
    narrowed = section(text, "cifar10, vgg16, width 0.25, 10 epochs")
    assert [cells(narrowed, f"overfitted ({epochs} epochs), MODA")[0] for epochs in (200, 20)] == [
        "+10.00 / +0.00",
        "+30.00 / +0.00",
    ]


def test_table_3_compares_sizes_as_the_paper_counts_them(tmp_path):
    rows = [reused("MODA", [0, 1], 940), reused("MODA-", [0, 1], 950), modules("MODA", 0.07), modules("MODA-", 0.1)]
    write(tmp_path, "rq3-cifar10-resnet18-e200.jsonl", rows)
    text = section(page(tmp_path, tmp_path, tmp_path), "RQ3")
    # 0.08 of 0.11 and 0.045 of 0.06
    own = ["94.11", "94.00", "-0.11", "0.081", "0.080", "-0.001", "31.84", "27.27", "0.055", "0.045", "-0.010", "20.61"]
    own += ["25.00", "0.070", "1", "1,000", "1"]
    assert cells(text, "resnet18, cifar10, MODA") == own


def test_thresholds_name_the_best(tmp_path):
    points = {"0.1": (950, 0.6), "0.8": (955, 0.2), "0.9": (950, 0.1), "0.95": (900, 0.09)}
    rows = [reused("MODA", [0, 1], correct, threshold=tau) for tau, (correct, _) in points.items()]
    rows += [modules("MODA", size, threshold=tau) for tau, (_, size) in points.items()]
    write(tmp_path, "rq4-threshold-cifar10-resnet18-e200.jsonl", rows)
    text = page(tmp_path, tmp_path, tmp_path)
    said = "MODA is most accurate at τ = 0.8 and its modules, as the paper counts, are smallest at 0.95; the"
    assert f"{said} difference of the two is largest at 0.9." in text
    assert cells(text, "0.8, MODA") == ["95.50", "20.00", "21.00", "50.00", "1", "1,000", "1"]
    assert "resnet18 on cifar10 (τ = 0.5)" in section(text, "Not measured yet")


def test_every_file_is_linked_with_its_command(tmp_path):
    results, place = tmp_path / "experiments" / "results", tmp_path / "docs"
    results.parent.mkdir()
    write(results, "rq1-digits-cnn-e3.jsonl", [trained("ST", 0, 300, n=359, epochs=3)], command="python -m one")
    write(
        results,
        "rq3-digits-cnn-w0.5-e4.jsonl",
        [reused("MODA", [0, 1], 9), modules("MODA", 0.1)],
        command="python -m two",
    )
    text = page(results, place)
    for file, command in (
        ("rq1-digits-cnn-e3.jsonl", "python -m one"),
        ("rq3-digits-cnn-w0.5-e4.jsonl", "python -m two"),
    ):
        assert f"[`{file}`](../experiments/results/{file})" in text
        assert f"`{command}`" in text


def at_epsilon(approach, value, corrects, error, seed=0):
    """The rows of one epsilon: a composition of ten images, one of thirty."""
    head = {"approach": approach, "seed": seed, "epsilon": value}
    rows = [
        head
        | {
            "kind": "reuse",
            "classes": classes,
            "accuracy": {"correct": correct, "n": n},
            "whole": {"correct": n, "n": n},
        }
        | {"kept_parameters": 30, "original_parameters": 100, "error": error}
        for classes, correct, n in zip(([0, 1], [0, 1, 2]), corrects, (10, 30), strict=True)
    ]
    return [*rows, head | {"kind": "epsilon", "size": 0.2, "overlap": 0.1, "kept": 0.3, "error": error}]


def test_networks_without_relu_show_accuracy_size_and_error_by_epsilon(tmp_path):
    whole = {"kind": "training", "approach": "MODA", "seed": 0, "width": 0.5, "epochs": 40, "parameters": 12345}
    rows = [whole | {"accuracy": {"correct": 350, "n": 359}}]
    rows += at_epsilon("MODA", 0.2, (5, 30), 1e-14) + at_epsilon("MODA", 0.2, (7, 30), 3e-14, seed=1)
    rows += at_epsilon("MODA", 0.1, (10, 30), 0.0)
    write(tmp_path, "beyond-relu-digits-vit.jsonl", rows)
    text = page(tmp_path, tmp_path, tmp_path)
    assert "(width 0.5, 40 epochs, 12,345 parameters): MODA 97.49 % (n = 359, 1 seed)." in text
    # the mean over compositions, (0.5 + 1 + 0.7 + 1) / 4, where all images together have 72 of 80
    row = ["80.00", "100.00", "30.00", "20.00", "10.00", "3.0e-14", "2", "10 to 30", "2"]
    assert cells(text, "0.2, MODA") == row
    assert "MODA stays within 1 point of its uncut model up to ε = 0.1: from 30.00 % of the weights at 0.1" in text
    assert "; at 0.2 its reuse accuracy is 80.00 %." in text
    assert cells(text, "digits, vit")[:3] == ["0.5", "40", "beyond-relu"]
    assert "## Narrowed" not in text


def test_every_figure_is_drawn_that_of_networks_without_relu_too(tmp_path):
    rows = at_epsilon("MODA", 0.2, (5, 30), 0.0)
    for row in rows[:-1]:
        row["kept_flops"] = 1
    rows[-1]["accuracy"] = {"correct": 35, "n": 40}
    write(tmp_path, "beyond-relu-digits-vit.jsonl", rows)
    document.draw(tmp_path)
    assert (tmp_path / "figures" / "beyond-relu-digits.svg").exists()
    assert "figures/beyond-relu-digits.png" in page(tmp_path, tmp_path, tmp_path)


def test_weights_of_the_loss_at_full_size_have_a_section(tmp_path):
    row = {"kind": "weights", "approach": "MODA", "seed": 0, "alpha": 1.0, "beta": 1.0, "gamma": 0.3}
    row |= {"losses": {"affinity": 0.1, "dispersion": 0.2, "compactness": 0.3}, "size": 0.1, "overlap": 0.05}
    rows = [row | {"seed": seed, "accuracy": {"correct": 9000 + 100 * seed, "n": 10000}} for seed in (0, 1)]
    write(tmp_path, "rq4-weights-cifar10-resnet18-e200.jsonl", rows)
    text = section(page(tmp_path, tmp_path, tmp_path), "RQ4: the weights of the loss")
    assert cells(text, "1, 1, 0.3") == ["90.50", "0.1000", "0.2000", "0.3000", "10.00", "5.00", "10,000", "2"]


def timed(way, approach, images_per_s, ratio, peak=0.0552):
    row = {"kind": "speed", "execution": way, "approach": approach, "images_per_s": images_per_s, "batch_size": 128}
    return row | {"ratio": ratio, "ratio_quartiles": [ratio - 0.01, ratio + 0.01], "share_of_peak": peak}


def test_ways_of_training_stand_beside_the_fastest_standard_one(tmp_path):
    rows = [timed("", "ST", 10000, 1.0), timed("", "MODA", 8000, 1.25), timed("", "MODA-naive", 5000, 2.0)]
    rows += [timed("captured", "ST", 20000, 1.0), timed("captured", "MODA", 18000, 1.11)]
    rows += [{"kind": "speed", "execution": "compiled", "error": "no compiler"}]
    write(tmp_path, "overhead-cifar10-resnet18-e2.jsonl", rows, place=GPU)
    text = section(page(tmp_path, tmp_path, tmp_path), "Speed of training")
    # beside the fastest ST 20,000; ten million images in minutes
    assert cells(text, "captured") == ["20,000", "18,000", "1.110", "1.100 to 1.120", "1.111", "", "5.5", "9.3"]
    assert cells(text, "step by step")[2:] == ["1.250", "1.240 to 1.260", "2.500", "2.000", "5.5", "20.8"]
    assert cells(text, "compiled: does not work here") == [""] * 8
    assert "## Narrowed" not in page(tmp_path, tmp_path, tmp_path)


def test_the_benchmark_of_training_is_shown_as_it_was_kept(tmp_path):
    said = {
        "machine": "x86_64",
        "cores": 2,
        "commit": "abc1234",
        "date": "2026-11-22",
        "command": "python -m some.benchmark",
    }
    tables = {
        "ResNet18": [{"way": "standard", "ms": 412.345, "ratio": 1.0}, {"way": "modular", "ms": 440.1, "ratio": 1.0673}]
    }
    report = {"benchmark": "overhead", "conditions": said, "tables": tables, "summary": {"goal": "1.10"}}
    (tmp_path / "training-overhead-cpu.json").write_text(json.dumps(report))
    text = section(page(tmp_path, tmp_path, tmp_path), "Speed of training")
    assert cells(text, "modular") == ["440.10", "1.07"]
    assert (
        "[`training-overhead-cpu.json`](training-overhead-cpu.json): machine x86_64, cores 2, commit `abc1234`" in text
    )
    assert "`python -m some.benchmark`" in text


def test_a_file_with_another_name_is_refused(tmp_path):
    write(tmp_path, "notes.jsonl", [])
    with pytest.raises(UnreadableFile, match="does not say what it is about"):
        page(tmp_path, tmp_path, tmp_path)


def test_check_tells_a_page_that_is_out_of_date(tmp_path):
    write(tmp_path / "results", "rq1-digits-cnn-e3.jsonl", [trained("ST", 0, 300, n=359, epochs=3)])
    options = ["--results", str(tmp_path / "results"), "--page", str(tmp_path / "results.md")]
    with pytest.raises(SystemExit, match="run python -m"):
        document.main([*options, "--check"])
    document.main(options)
    document.main([*options, "--check"])
    (tmp_path / "results.md").write_text((tmp_path / "results.md").read_text().replace("83.57", "93.57"))
    with pytest.raises(SystemExit):
        document.main([*options, "--check"])


def committed(root):
    """The files of the repository that are in its history; all that there are where there is no git."""
    folders = ["docs", "benchmarks", "experiments/results"]
    try:
        listed = subprocess.run(
            ["git", "ls-files", *folders], cwd=root, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return [path for folder in folders for path in (root / folder).rglob("*") if path.is_file()]
    return [root / name for name in listed.splitlines() if (root / name).exists()]


def test_the_page_of_the_repository_is_what_its_committed_result_files_say(tmp_path):
    """Not what lies beside them while a measurement goes on."""
    root = Path(__file__).parents[2]
    for path in committed(root):
        copy = tmp_path / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    said = page(tmp_path / "experiments" / "results", tmp_path / "docs", tmp_path / BENCHMARKS.relative_to(root))
    assert said == (root / "docs" / "results.md").read_text(), "run python -m experiments.document"
