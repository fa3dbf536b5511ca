import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiments import gpu
from experiments.agenda.measurement import Measurement
from experiments.models.checkpoints import CheckpointFolder
from moda_core.errors import ModaError

WORKER = """
import pathlib, sys, time
place, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
with place.with_suffix(".started").open("a") as file: file.write("x")
time.sleep(seconds)
place.write_text("done")
sys.exit(int(sys.argv[3]))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Measurements whose program sleeps, writes a file and ends as told, instead of measuring."""
    (tmp_path / "pretended_measurement.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def measurement(name, seconds=0.0, code=0):
        place = tmp_path / name
        return Measurement(name, "pretended_measurement", (str(place), str(seconds), str(code)), place.exists)

    return measurement


@pytest.fixture
def lock(tmp_path):
    with (tmp_path / "gpu.lock").open("w") as file:
        yield file


def started(tmp_path, name):
    place = tmp_path / f"{name}.started"
    return place.read_text() if place.exists() else ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--data", "nothere.npz"], "there is no such file"),
        (["--data", "cifar10=JUNK"], "not a readable .npz file"),
        (["--data", "digits", "--epochs", "0"], "--epochs"),
        (["--data", "digits", "--device", "foo"], "--device"),
        (["--data", "digits", "--execution", "bogus"], "--execution"),
        (["--data", "digits", "--seeds", "-1"], "--seeds"),
        (["--data", "digits", "--tasks", "0"], "--tasks"),
        (["--data", "digits", "--models", "resnet81"], "resnet81"),
        (["--data", "digits", "--strong", "vgg61"], "vgg61"),
        (["--data", "digits", "--minutes", "nan"], "--minutes"),
    ],
)
@pytest.mark.usefixtures("as_before")
def test_what_cannot_be_measured_is_refused_before_anything_is(tmp_path, arguments, named):
    (tmp_path / "junk.npz").write_bytes(b"junk")
    given = [one.replace("JUNK", str(tmp_path / "junk.npz")) for one in arguments]
    for listed in ([], ["--list"]):
        with pytest.raises(ModaError, match=named):
            gpu.main([*given, *listed, "--runs", str(tmp_path / "runs")])
    assert not (tmp_path / "runs").exists()


def test_a_refusal_is_one_line_and_status_2():
    command = [sys.executable, "-m", "experiments.gpu", "--data", "nothere.npz", "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_what_is_missing_is_measured_in_order_and_nothing_twice(program, lock, tmp_path):
    plan = [program("a"), program("b")]
    first = gpu.run(plan, time.monotonic() + 60, locked=lock)
    assert first["measured"] == ["a", "b"]
    second = gpu.run([*plan, program("c")], time.monotonic() + 60, locked=lock)
    assert (second["done"], second["measured"]) == (["a", "b"], ["c"])
    assert [started(tmp_path, name) for name in "abc"] == ["x", "x", "x"]


def test_a_failure_does_not_keep_the_next_from_its_turn(program, lock):
    outcome = gpu.run([program("bad", code=3), program("good")], time.monotonic() + 60, locked=lock)
    assert (outcome["failed"], outcome["measured"]) == (["bad"], ["good"])


def test_the_program_is_stopped_when_the_time_is_up_and_begun_again_next_time(program, lock, tmp_path):
    begun = time.monotonic()
    outcome = gpu.run([program("long", seconds=30), program("next")], begun + 1, locked=lock, least_s=0.5)
    assert time.monotonic() - begun < 5
    assert (outcome["stopped"], outcome["left"]) == (["long"], ["next"])
    assert started(tmp_path, "long") == "x"
    assert not (tmp_path / "long").exists()
    again = gpu.run([program("long")], time.monotonic() + 60, locked=lock)
    assert again["measured"] == ["long"]


def test_nothing_begins_that_could_not_get_anywhere(program, lock, tmp_path):
    outcome = gpu.run([program("late")], time.monotonic() + 1, locked=lock, least_s=5)
    assert outcome["left"] == ["late"]
    assert started(tmp_path, "late") == ""


def test_a_program_that_outlives_us_keeps_the_lock(program, tmp_path):
    """As after a SIGKILL: what still runs must not be joined by another."""
    with (tmp_path / "gpu.lock").open("w") as ours, gpu._started(program("orphan", seconds=20), ours) as process:
        fcntl.flock(ours, fcntl.LOCK_EX)
        ours.close()
        with pytest.raises(SystemExit, match="another measurement"), gpu._alone(tmp_path):
            pass
        process.kill()
        process.wait()
        with gpu._alone(tmp_path):
            pass


def checkpoints(runs):
    return {path.parent.name: int(path.stem) for path in runs.glob("*/[0-9]*.safetensors")}


def stop_when(ready):
    """As an operating system does it: SIGTERM to this process, whose main thread is in `gpu.main`."""

    def watch():
        deadline = time.monotonic() + 120
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.fixture
def as_before():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.timeout(600)  # programs start four times as slowly on a busy machine
@pytest.mark.usefixtures("as_before")
def test_a_stop_in_the_middle_loses_at_most_an_epoch_and_nothing_is_repeated(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    runs, results = tmp_path / "runs", tmp_path / "results"
    command = ["--data", "digits", "--models", "cnn", "--strong", "--width", "0.25", "--epochs", "4"]
    command += ["--seeds", "1", "--tasks", "2", "--device", "cpu", "--runs", str(runs), "--results", str(results)]

    thread = stop_when(lambda: max(checkpoints(runs).values(), default=0) >= 1)
    with pytest.raises(SystemExit):
        gpu.main([*command, "--minutes", "5"])
    thread.join()
    ((run, epoch),) = checkpoints(runs).items()
    before = CheckpointFolder(runs / run).load().state
    with gpu._alone(runs):
        pass

    thread = stop_when((results / "rq1-digits-cnn-w0.25-e4.jsonl").exists)
    with pytest.raises(SystemExit):
        gpu.main([*command, "--minutes", "5"])
    thread.join()
    after = json.loads((runs / run / "run.json").read_text())["history"]
    assert len(after) == 4
    assert after[:epoch] == before["history"]
