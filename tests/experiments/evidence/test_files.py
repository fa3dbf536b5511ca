"""Which rows the tables see: of one model for each seed, at the size that they are shown as."""

import json

import pytest

from experiments.evidence.files import evidence, evidence_of
from moda_core.errors import UnreadableFile

EARLY, LATE = "2026-11-01T10:00:00Z", "2026-11-02T10:00:00Z"


def write(folder, name, *rows):
    places = [{"kind": "conditions", "id": "early", "date": EARLY}, {"kind": "conditions", "id": "late", "date": LATE}]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in [*places, *rows]))
    return folder / name


def trained(model, correct, when, seed=0, approach="ST"):
    accuracy = {"correct": correct, "n": 100}
    return {
        "kind": "training", "approach": approach, "seed": seed, "model": model, "conditions": when, "accuracy": accuracy
    }  # fmt: skip


def reused(model, classes, when, seed=0, approach="ST-composed"):
    row = {"kind": "reuse", "approach": approach, "seed": seed, "model": model, "conditions": when, "classes": classes}
    return row | {"threshold": "0.9", "images_per_class": None}


def test_of_two_models_of_a_seed_the_later_one_counts(tmp_path):
    old, new = trained("aa", 80, "early"), trained("bb", 90, "late")
    write(tmp_path, "rq1-digits-cnn-e3.jsonl", new, old, trained("cc", 70, "early", seed=1))
    assert [row["model"] for row in evidence(tmp_path)[0].rows()] == ["bb", "cc"]


def test_the_same_model_counts_for_every_question(tmp_path):
    """`bb` is later, but reuse was only measured of `aa`: no table says one thing of `bb` and another of `aa`."""
    write(tmp_path, "rq1-digits-cnn-e3.jsonl", trained("aa", 80, "early"), trained("bb", 90, "late"))
    path = write(tmp_path, "rq2-reuse-digits-cnn-e3.jsonl", reused("aa", [0, 1], "early"))
    assert [row["model"] for file in evidence(tmp_path) for row in file.rows()] == ["aa", "aa"]
    assert [row["model"] for row in evidence_of(path).rows()] == ["aa"]
    write(
        tmp_path,
        "rq2-reuse-digits-cnn-e3.jsonl",
        reused("aa", [0, 1], "early"),
        reused("bb", [0, 1], "late"),
        reused("bb", [0, 2], "late"),
    )
    assert [row["model"] for file in evidence(tmp_path) for row in file.rows()] == ["bb", "bb", "bb"]


def test_two_models_that_nothing_tells_apart_are_refused(tmp_path):
    write(tmp_path, "rq1-digits-cnn-e3.jsonl", trained("aa", 80, "late"), trained("bb", 90, "late"))
    with pytest.raises(UnreadableFile, match="two models under seed 0"):
        evidence(tmp_path)


def test_models_of_several_weightings_are_not_several_models_of_one_seed(tmp_path):
    rows = [
        {"kind": "weights", "approach": "MODA", "seed": 0, "model": f"model {alpha}", "alpha": alpha}
        for alpha in (0.0, 1.0)
    ]
    write(tmp_path, "rq4-weights-digits-cnn-e3.jsonl", *rows)
    assert len(evidence(tmp_path)[0].rows()) == 2


def test_a_cell_of_replacement_that_was_measured_again_counts_once(tmp_path):
    cell = {
        "kind": "replacement",
        "approach": "MODA",
        "seed": 0,
        "weak": "overfitted",
        "weak_epochs": 200,
        "target": "3",
    }
    rows = [cell | {"spec": "aa", "conditions": "early"}, cell | {"spec": "bb", "conditions": "late"}]
    rows += [cell | {"spec": "bb", "conditions": "late", "again": True}]
    write(tmp_path, "rq2-replacement-digits-cnn-e3.jsonl", *rows)
    assert evidence(tmp_path)[0].rows() == rows[-1:]


def test_what_failed_is_no_measurement(tmp_path):
    failed = {"kind": "training", "approach": "MwT", "seed": 0, "error": "no unit is left"}
    write(tmp_path, "rq1-digits-cnn-e3.jsonl", failed, trained("aa", 80, "early"))
    (file,) = evidence(tmp_path)
    assert [row["approach"] for row in file.rows()] == ["ST"]
    assert file.failures == [failed]


@pytest.mark.parametrize(("train", "test", "full"), [(50_000, 10_000, True), (5_000, 10_000, False)])
def test_full_size_is_on_all_images_where_they_are_stated(tmp_path, train, test, full):
    said = {
        "kind": "conditions",
        "id": "x",
        "dataset": {"name": "cifar10", "digest": "0" * 16, "train": train, "test": test},
    }
    rows = [said, trained("aa", 80, "x")]
    (tmp_path / "rq1-cifar10-vgg16-e200.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert evidence(tmp_path)[0].full_size == full


@pytest.mark.parametrize(
    "name", ["rq1-cifar10-cnn-e200.jsonl", "rq1-digits-vgg16-e200.jsonl", "rq1-svhn-vgg16-e199.jsonl"]
)
def test_what_is_no_case_of_the_paper_is_not_full_size(tmp_path, name):
    write(tmp_path, name, trained("aa", 93, "late"))
    assert not evidence(tmp_path)[0].full_size


def test_replacement_of_shorter_trained_weak_models_stands_apart(tmp_path):
    cell = {
        "kind": "replacement",
        "approach": "MODA",
        "seed": 0,
        "weak": "overfitted",
        "target": "cat",
        "conditions": "late",
    }
    write(tmp_path, "rq2-replacement-cifar10-vgg16-e200.jsonl", cell | {"weak_epochs": 20}, cell | {"weak_epochs": 200})
    parts = evidence(tmp_path)
    assert [(part.full_size, [row["weak_epochs"] for row in part.rows()]) for part in parts] == [
        (True, [200]),
        (False, [20]),
    ]
