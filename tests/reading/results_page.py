"""Made-up result files, and reading the page that is written from them."""

import json

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


def timed(way, approach, images_per_s, ratio, peak=0.0552):
    row = {"kind": "speed", "execution": way, "approach": approach, "images_per_s": images_per_s, "batch_size": 128}
    return row | {"ratio": ratio, "ratio_quartiles": [ratio - 0.01, ratio + 0.01], "share_of_peak": peak}


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
