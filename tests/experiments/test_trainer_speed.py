import json

import pytest

from experiments import trainer_speed
from experiments.results import ResultFile

OPTIONS = ["--dataset", "digits", "--model", "cnn", "--width", "0.25", "--epochs", "1", "--device", "cpu"]


@pytest.fixture
def timed(tmp_path):
    def measure(way):
        trainer_speed.main([*OPTIONS, "--results", str(tmp_path), "--execution", way])
        return ResultFile(tmp_path / "overhead-digits-cnn-w0.25-e1.jsonl")

    return measure


def test_standard_modular_and_naive_steps_are_timed_once(timed):
    rows = timed("").measured()
    assert [row["approach"] for row in rows] == ["ST", "MODA", "MODA-naive"]
    assert all(row["images_per_s"] > 0 and row["steps"] > 5 for row in rows)
    assert rows[0]["ratio"] == 1.0
    content = timed("").path.read_bytes()
    assert timed("").path.read_bytes() == content


def test_a_way_that_does_not_work_is_recorded_and_not_tried_again(timed):
    (row,) = timed("captured").measured()
    assert "no CUDA graphs" in row["error"]
    assert len(timed("captured").measured()) == 1


def test_the_fastest_way_is_that_of_the_modular_step(tmp_path):
    path = tmp_path / "overhead.jsonl"
    assert trainer_speed.fastest(path) == ""
    rows = [
        {"kind": "speed", "execution": "captured", "approach": "ST", "images_per_s": 900},
        {"kind": "speed", "execution": "captured", "approach": "MODA", "images_per_s": 310},
        {"kind": "speed", "execution": "compiled", "approach": "MODA", "images_per_s": 320},
        {"kind": "speed", "execution": "compiled,captured", "error": "no compiler"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert trainer_speed.fastest(path) == "compiled"
