import json

import numpy as np
import pytest
import torch

from experiments.agenda.agenda import Agenda
from experiments.records.conditions import hardware
from experiments.replacement.cells import INITIALS
from experiments.replacement.parts import WEAK_KINDS

CLASSES = ("a", "b", "c", "d")
TASKS = 11  # of two, three or four of four classes


@pytest.fixture
def agenda(tmp_path):
    for name, classes in (("few", CLASSES), ("many", tuple(f"class {number}" for number in range(14)))):
        np.savez(tmp_path / f"{name}.npz", classes=np.array(classes))

    def made(**changes):
        plain = {
            "data": {name: tmp_path / f"{name}.npz" for name in ("few", "many")},
            "models": ["resnet18", "vgg16"], "strong": ["vgg16"], "width": 1.0, "epochs": 200, "seeds": 2,
            "device": "cuda", "execution": "", "runs": tmp_path / "runs", "results": tmp_path,
        }  # fmt: skip
        return Agenda(**plain | changes)

    return made


def names(agenda):
    return [measurement.name for measurement in agenda.measurements()]


def open_ones(agenda):
    return [measurement.name for measurement in agenda.measurements() if not measurement.done()]


def write(folder, name, rows):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def reused(approach, tasks, seed=0, threshold="0.9", images_per_class=None):
    return [
        {"kind": "reuse", "approach": approach, "seed": seed, "threshold": threshold, "classes": [place],
         "images_per_class": images_per_class}
        for place in range(tasks)
    ]  # fmt: skip


def test_the_first_data_set_is_trained_used_and_replaced_in_before_the_second_begins(agenda):
    found = names(agenda(seeds=1))
    of_few = [
        "train ST, MODA, MODA-: few resnet18, seeds 1",
        "train ST, MODA, MODA-: few vgg16, seeds 1",
        "train MwT: few resnet18, seeds 1",
        "train MwT: few vgg16, seeds 1",
        "reuse few resnet18, seeds 1",
        "compactness few resnet18, seeds 1",
        "reuse few vgg16, seeds 1",
        "compactness few vgg16, seeds 1",
        "replacement few, strong vgg16, seeds 1",
        "threshold few resnet18, seeds 1",
        "threshold few vgg16, seeds 1",
        "fine-tune few resnet18, seeds 1",
        "fine-tune few vgg16, seeds 1",
    ]
    assert found[: len(of_few)] == of_few
    assert all("few" not in name for name in found[len(of_few) :])


def test_the_first_seed_of_everything_comes_before_the_second_of_anything(agenda):
    found = names(agenda(seeds=3))
    seeds = [int(name.split("seeds ")[1].split(",")[0]) for name in found if "many" not in name]
    assert seeds == sorted(seeds)
    assert set(seeds) == {1, 2, 3}


def test_many_classes_are_sampled_first_and_have_no_replacement(agenda):
    found = names(agenda(seeds=1))
    assert "reuse many resnet18, seeds 1, 1013 sub-tasks" in found
    assert found[-2:] == ["reuse many resnet18, seeds 1", "reuse many vgg16, seeds 1"]
    assert not any(name.startswith("replacement many") for name in found)


def test_a_training_is_done_when_every_approach_and_seed_has_its_row(agenda, tmp_path):
    rows = [{"kind": "training", "approach": approach, "seed": 0} for approach in ("ST", "MODA")]
    write(tmp_path, "rq1-few-vgg16-e200.jsonl", rows)
    name = "train ST, MODA, MODA-: few vgg16, seeds 1"
    assert name in open_ones(agenda(seeds=1))
    write(tmp_path, "rq1-few-vgg16-e200.jsonl", [*rows, {"kind": "training", "approach": "MODA-", "seed": 0}])
    assert name not in open_ones(agenda(seeds=1))
    assert name.replace("seeds 1", "seeds 2") in open_ones(agenda())


def test_reuse_is_done_when_every_subtask_has_its_row_on_all_test_images(agenda, tmp_path):
    name, file = "reuse few vgg16, seeds 1", "rq2-reuse-few-vgg16-e200.jsonl"
    composed = [row for one in ("ST-composed", "MODA", "MODA-") for row in reused(one, TASKS)]
    standard = reused("ST", TASKS, threshold=None)
    others = [*composed, *standard, *reused("MwT+generators", TASKS)]
    for mwt, done in ((TASKS - 1, False), (TASKS, True)):
        write(tmp_path, file, [*others, *reused("MwT", mwt)])
        assert (name not in open_ones(agenda(seeds=1))) is done
    write(tmp_path, file, [*others, *reused("MwT", TASKS, images_per_class=10)])
    assert name in open_ones(agenda(seeds=1))


def test_a_failure_of_mwt_is_not_tried_again_and_two_models_are_not_one(agenda, tmp_path):
    name, file = "reuse few vgg16, seeds 1", "rq2-reuse-few-vgg16-e200.jsonl"
    others = [row for one in ("ST-composed", "MODA", "MODA-", "MwT+generators") for row in reused(one, TASKS)]
    others += reused("ST", TASKS, threshold=None)
    failed = {"kind": "modules", "approach": "MwT", "seed": 0, "threshold": "0.9", "error": "no kernel"}
    write(tmp_path, file, [*others, failed])
    assert name not in open_ones(agenda(seeds=1))
    halves = [row | {"spec": spec} for spec in ("one", "two") for row in reused("MwT", TASKS - 1)]
    write(tmp_path, file, [*others, *halves])
    assert name in open_ones(agenda(seeds=1))


def test_thresholds_are_done_when_all_five_are(agenda, tmp_path):
    name, file = "threshold few vgg16, seeds 1", "rq4-threshold-few-vgg16-e200.jsonl"
    rows = [
        row
        for one in ("MODA", "ST-composed")
        for tau in ("0.1", "0.5", "0.8", "0.9", "0.95")
        for row in reused(one, TASKS, threshold=tau)
    ]
    write(tmp_path, file, rows)
    assert name not in open_ones(agenda(seeds=1))
    write(tmp_path, file, [row for row in rows if row["threshold"] != "0.95"])
    assert name in open_ones(agenda(seeds=1))


def test_replacement_is_done_when_every_cell_is(agenda, tmp_path):
    name, file = "replacement few, strong vgg16, seeds 1", "rq2-replacement-few-vgg16-e200.jsonl"
    ways = [{"approach": one, "initial": initial} for one in ("MODA", "ST-composed") for initial in INITIALS]
    ways += [{"approach": "CNNSplitter"}, {"approach": "CNNSplitter-public", "error": "no range"}]
    rows = [
        {"kind": "replacement", "weak": kind, "weak_epochs": 200, "target": target, "seed": 0, **way}
        for kind in WEAK_KINDS
        for target in CLASSES[:2]
        for way in ways
    ]
    write(tmp_path, file, rows)
    assert name not in open_ones(agenda(seeds=1))
    write(tmp_path, file, rows[:-1])
    assert name in open_ones(agenda(seeds=1))


def test_commands_name_the_setting_and_leave_out_what_is_the_default(agenda, tmp_path):
    plan = {
        measurement.name: measurement.shown() for measurement in agenda(execution="captured", width=0.5).measurements()
    }
    assert " ".join(plan["train MwT: few vgg16, seeds 2"]) == (
        f"python -m experiments.rq1 --dataset few={tmp_path / 'few.npz'} --model vgg16 --width 0.5 --epochs 200 --seeds 2"
        f" --device cuda --execution captured --runs {tmp_path / 'runs'} --results {tmp_path} --approaches MwT"
    )
    assert " ".join(plan["replacement few, strong vgg16, seeds 1"]).startswith(
        f"python -m experiments.rq2 replacement --dataset few={tmp_path / 'few.npz'} --strong vgg16 --width 0.5"
        " --strong-epochs 200 --seeds 1"
    )


def timed(way, approach, images_per_s):
    return {"conditions": "here", "kind": "speed", "execution": way, "approach": approach, "images_per_s": images_per_s}


def test_ways_of_training_are_timed_first_and_the_fastest_that_works_is_then_taken(agenda, tmp_path):
    plan = iter(agenda(execution=None, models=["vgg16"]).measurements())
    first = [next(plan) for _ in range(4)]
    assert [one.arguments[one.arguments.index("--execution") + 1] if "--execution" in one.arguments else "" for one in first] == [
        "", "compiled", "captured", "compiled,captured"
    ]  # fmt: skip
    assert not any(one.done() for one in first)
    rows = [{"kind": "conditions", "id": "here", "hardware": hardware("cuda"), "torch": torch.__version__}]
    rows += [timed("", "ST", 900), timed("", "MODA", 600), timed("", "MODA-naive", 100)]
    rows += [timed("compiled", "ST", 900), timed("compiled", "MODA", 700), timed("captured", "ST", 5000)]
    rows += [{"conditions": "here", "kind": "speed", "execution": "captured", "error": "no graph"}]
    write(tmp_path, "overhead-few-vgg16-e2.jsonl", rows)
    assert [one.done() for one in first] == [True, True, True, False]
    training = next(plan)
    assert training.name.startswith("train")
    assert training.arguments[training.arguments.index("--execution") + 1] == "compiled"


def test_nothing_is_timed_on_a_cpu(agenda):
    assert not any(name.startswith("speed") for name in names(agenda(execution=None, device="cpu")))
