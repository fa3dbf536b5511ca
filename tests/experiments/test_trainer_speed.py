import pytest

from experiments import trainer_speed
from experiments.models.ways import tried
from experiments.records.result_file import ResultFile
from moda_core.errors import UnreadableFile

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


def test_rows_that_a_stop_left_out_are_timed_again(timed):
    file = timed("")
    lines = file.path.read_text().splitlines(keepends=True)
    file.path.write_text("".join(line for line in lines if '"MODA"' not in line))
    assert not tried(file.path, "", "cpu")
    assert [row["approach"] for row in timed("").measured()] == ["ST", "MODA-naive", "MODA"]


def test_a_broken_data_set_is_not_the_fault_of_a_way(tmp_path):
    (tmp_path / "junk.npz").write_bytes(b"junk")
    command = ["--dataset", f"junk={tmp_path / 'junk.npz'}", *OPTIONS[2:], "--results", str(tmp_path)]
    with pytest.raises(UnreadableFile):
        trainer_speed.main(command)
    assert not list(tmp_path.glob("*.jsonl"))
