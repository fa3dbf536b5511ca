"""The programs from end to end on tiny data: all rows, nothing twice, one clear line for what cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from experiments import rq1, rq2, rq3, rq4
from experiments.records.result_file import ResultFile, Row
from experiments.setup.program import run
from moda_core.baselines.mwt.tuning import FineTuningSpec
from moda_core.errors import Conflict, InvalidInput, TrainingFailure

APPROACHES = "ST,ST-composed,MODA"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four classes of images, one of them with a single training and a single test image, and all runs."""
    place = tmp_path_factory.mktemp("programs")
    (place / "runs").mkdir()
    generator = np.random.default_rng(0)
    labels = np.array([0, 1, 2] * 20 + [3])
    pixels = generator.integers(0, 100, (len(labels), 16, 16, 1), dtype=np.uint8) + (labels * 50)[
        :, None, None, None
    ].astype(np.uint8)
    test = np.concatenate([np.arange(0, 60, 4), [60]])
    np.savez(
        place / "tiny.npz",
        x_train=pixels,
        y_train=labels,
        x_test=pixels[test],
        y_test=labels[test],
        classes=np.array(["a", "b", "c", "d"]),
    )
    return place


@pytest.fixture
def place(shared: Path, tmp_path: Path) -> Path:
    """The same data and runs, with results of one's own."""
    for name in ("tiny.npz", "runs"):
        (tmp_path / name).symlink_to(shared / name)
    return tmp_path


def options(place: Path, *more: str) -> list[str]:
    given = ["--dataset", str(place / "tiny.npz"), "--model", "cnn", "--width", "0.125", "--epochs", "1"]
    return [*given, "--device", "cpu", "--runs", str(place / "runs"), "--results", str(place / "results"), *more]


def rows(place: Path, question: str) -> list[Row]:
    return ResultFile(place / "results" / f"{question}-tiny-cnn-w0.125-e1.jsonl").measured()


def test_rq1_trains_each_approach_under_each_seed_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        rq1.main(options(place, "--seeds", "2", "--approaches", "ST,MODA"))
    found = rows(place, "rq1")
    assert [(row["approach"], row["seed"]) for row in found] == [("ST", 0), ("MODA", 0), ("ST", 1), ("MODA", 1)]
    for row in found:
        assert 0 <= row["accuracy"]["correct"] <= row["accuracy"]["n"] == 16
        assert row["wall_s"] > 0
        assert row["cpu_s"] > 0
        assert len(row["history"]["loss"]) == row["epochs"] == 1
        assert row["trained_on"]["hardware"]
        assert list((place / "runs").glob(f"{row['spec']}*/model.safetensors"))
    assert len({row["spec"] for row in found}) == 4
    assert "test accuracy, %" in capsys.readouterr().out
    assert (place / "results" / "figures" / "rq1-tiny-cnn-w0.125-e1-time.svg").exists()


def test_mwt_stands_beside_moda_with_and_without_fine_tuning(place: Path) -> None:
    rq1.main(options(place, "--approaches", "MwT"))
    approaches = "ST,MwT,MwT+generators,MwT+ft"
    for _ in range(2):
        rq2.main(["reuse", *options(place, "--approaches", approaches, "--tasks", "3", "--fine-tune-tasks", "1")])
    (trained,) = [row for row in rows(place, "rq1") if row["approach"] == "MwT"]
    found = [row for row in rows(place, "rq2-reuse") if row["approach"].startswith("MwT")]
    kinds = Counter((row["kind"], row["approach"]) for row in found)
    assert kinds == {
        ("reuse", "MwT"): 3,
        ("reuse", "MwT+generators"): 3,
        ("reuse", "MwT+ft"): 1,
        ("modules", "MwT"): 1,
        ("modules", "MwT+generators"): 1,
        ("modules", "MwT+ft"): 1,
    }
    assert {(row["spec"], row["model"]) for row in found} == {(trained["spec"], trained["model"])}
    tuned = FineTuningSpec(seed=0).digest()[:8]
    assert {(row["approach"], row.get("tuning")) for row in found} == {
        ("MwT", None),
        ("MwT+generators", None),
        ("MwT+ft", tuned),
    }
    (plain, *_) = [row for row in found if row["kind"] == "modules"]
    assert trained["parameters"] > plain["parameters"], "generators are parameters of MwT's model"
    assert 0 < plain["overlap"] <= plain["size"] <= 1


def test_rq2_composes_every_sub_task_of_every_approach(place: Path) -> None:
    for _ in range(2):
        rq2.main(["reuse", *options(place, "--approaches", APPROACHES)])
    found = [row for row in rows(place, "rq2-reuse") if row["approach"] in APPROACHES.split(",")]
    reuse = [row for row in found if row["kind"] == "reuse"]
    assert Counter(row["approach"] for row in reuse) == dict.fromkeys(APPROACHES.split(","), 11)
    assert len({(row["approach"], tuple(row["classes"])) for row in reuse}) == 33
    modules = {row["approach"]: row for row in found if row["kind"] == "modules"}
    assert list(modules) == ["ST-composed", "MODA"]
    for approach, row in modules.items():
        seconds = [one["seconds"] for one in reuse if one["approach"] == approach]
        assert (row["reuse_tasks"], row["reuse_s"]) == (11, pytest.approx(sum(seconds), abs=1e-3))
        assert row["reuse_s"] > 0
    assert len({(row["spec"], row["model"]) for row in found}) == 2
    standard = {tuple(row["classes"]): row["accuracy"] for row in reuse if row["approach"] == "ST"}
    assert all(row["whole"] == standard[tuple(row["classes"])] for row in reuse if row["approach"] == "ST-composed")


def test_every_row_names_the_conditions_it_was_measured_under(place: Path) -> None:
    rq2.main(["reuse", *options(place, "--approaches", APPROACHES)])
    rq3.main(options(place))
    for path in (place / "results").glob("*.jsonl"):
        everything = ResultFile(path).rows()
        stated = {row["id"]: row for row in everything if row.get("kind") == "conditions"}
        assert {row["conditions"] for row in everything if row.get("kind") != "conditions"} <= set(stated)
        for row in stated.values():
            assert row["threads"] >= 1
            assert row["dataset"]["name"] == "tiny"
            assert (row["dataset"]["train"], row["dataset"]["test"]) == (61, 16)
            assert str(place) not in row["command"]


def test_a_training_of_mwt_that_fails_is_recorded_and_the_program_goes_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise TrainingFailure("the loss was no longer finite", "lower the learning rate")

    monkeypatch.setattr("experiments.models.mwt.train_mwt", fails)
    elsewhere = options(place, "--runs", str(tmp_path / "own"), "--results", str(tmp_path))
    for _ in range(2):
        rq1.main([*elsewhere, "--approaches", "MwT,ST"])
        rq2.main(["reuse", *elsewhere, "--approaches", "MwT,MwT+ft,ST", "--tasks", "2", "--fine-tune-tasks", "1"])
    failed, standard = ResultFile(tmp_path / "rq1-tiny-cnn-w0.125-e1.jsonl").measured()
    assert (failed["approach"], standard["approach"]) == ("MwT", "ST")
    assert failed["error"] == "the loss was no longer finite; lower the learning rate"
    assert "accuracy" not in failed
    reuse = ResultFile(tmp_path / "rq2-reuse-tiny-cnn-w0.125-e1.jsonl").measured()
    assert [(row["kind"], row["approach"]) for row in reuse] == [
        ("modules", "MwT"),
        ("modules", "MwT+ft"),
        ("reuse", "ST"),
        ("reuse", "ST"),
    ]
    assert reuse[0]["error"] == failed["error"]
    assert reuse[0]["spec"] == failed["spec"]
    assert "MwT, seed 0: the loss was no longer finite" in capsys.readouterr().err


def test_modules_that_mwt_cannot_make_are_recorded(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object, **__: object) -> None:
        raise Conflict("class 'a' opens no kernel", "train longer")

    monkeypatch.setattr("experiments.reuse.recording.mwt_modules", closed)
    rq2.main(["reuse", *options(place, "--results", str(tmp_path), "--approaches", "MwT", "--tasks", "2")])
    (row,) = ResultFile(tmp_path / "rq2-reuse-tiny-cnn-w0.125-e1.jsonl").measured()
    assert (row["kind"], row["error"]) == ("modules", "class 'a' opens no kernel; train longer")
    assert {"spec", "model"} <= set(row)


def test_rq3_sets_moda_beside_itself_without_compactness(place: Path) -> None:
    rq3.main(options(place, "--tasks", "4", "--images-per-class", "2"))
    few = [row for row in rows(place, "rq3") if row["kind"] == "reuse" and row["images_per_class"] == 2]
    assert Counter(row["approach"] for row in few) == {"MODA": 4, "MODA-": 4, "ST-composed": 4}
    assert all(row["accuracy"]["n"] == sum(1 if label == 3 else 2 for label in row["classes"]) for row in few)


def test_rq4_changes_one_weight_at_a_time(place: Path) -> None:
    """In two epochs: one of a single step reports the losses before it."""
    arguments = options(place, "--epochs", "2", "--alpha", "0,1", "--beta", "1", "--gamma", "0.3,1")
    for _ in range(2):
        rq4.main(["weights", *arguments])
    found = ResultFile(place / "results" / "rq4-weights-tiny-cnn-w0.125-e2.jsonl").measured()
    weightings = [(row["alpha"], row["beta"], row["gamma"]) for row in found]
    assert weightings == [(1, 1, 0.3), (0, 1, 0.3), (1, 1, 1)]
    assert all(set(row["losses"]) == {"cross_entropy", "affinity", "dispersion", "compactness"} for row in found)
    assert len({row["losses"]["affinity"] for row in found}) == 3
    assert len({row["spec"] for row in found}) == 3


def test_the_papers_weightings_are_eleven() -> None:
    values = {"alpha": (0, 0.5, 1, 2), "beta": (0, 0.5, 1, 2), "gamma": (0, 0.1, 0.3, 0.6, 1)}
    found = rq4.weightings(values)
    assert len(found) == 11
    assert found[0] == {"alpha": 1, "beta": 1, "gamma": 0.3}


def test_rq4_composes_at_several_thresholds(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rq4.main(["threshold", *options(place, "--thresholds", "0.1,0.9", "--approaches", "MODA", "--tasks", "3")])
    found = rows(place, "rq4-threshold")
    assert Counter((row["kind"], row["threshold"]) for row in found) == {
        ("reuse", "0.1"): 3,
        ("reuse", "0.9"): 3,
        ("modules", "0.1"): 1,
        ("modules", "0.9"): 1,
    }
    assert "differ most at" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--approaches", "ST,NONE"],
        ["--seeds", "0"],
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(place: Path, tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(InvalidInput, match=arguments[0]):
        rq1.main(options(place, "--runs", str(tmp_path / "none"), *arguments))
    assert not (tmp_path / "none").exists()


def test_refusals_and_stops_end_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> None:
        raise InvalidInput("--seeds", 0, "out of range", "give more")

    def stopped() -> None:
        raise KeyboardInterrupt

    for program, status in ((refused, 2), (stopped, 130)):
        with pytest.raises(SystemExit) as ended:
            run(program)
        assert ended.value.code == status
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("program", ["rq1", "rq2", "rq3", "rq4"])
def test_help_says_what_a_program_does(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = {"rq1": rq1, "rq2": rq2, "rq3": rq3, "rq4": rq4}[program]
    with suppress(SystemExit):
        module.main(["--help"])
    assert program in capsys.readouterr().out


def test_a_program_runs_by_its_name(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.rq1", "--dataset", "nowhere.npz", "--model", "cnn"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --dataset: there is no such file")
    assert len(done.stderr.splitlines()) == 1
    assert json.dumps(done.stdout) == '""'
