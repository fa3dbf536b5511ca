"""The command line, against a service that gives canned answers; what it says, and the status it ends with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response

from moda_core import errors
from service import cli
from service import errors as service_errors
from service.commands.terminal import EXIT_STATUSES, exit_status
from worker.embedded import free_port

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-m", "service.cli"]
DIGEST = "ab" * 32
COMMANDS = [
    "up",
    "demo",
    "train",
    "decompose",
    "evaluate",
    "compose",
    "predict",
    "replace",
    "download",
    "models",
    "modules",
    "jobs",
    "cancel",
    "dataset",
]

JOB = {
    "id": "1f2e3d4c5b6a7988",
    "kind": "train",
    "state": "succeeded",
    "request": {},
    "created_at": "2026-11-22T12:00:00.000Z",
    "result": {"models": ["digits-cnn@1", "digits-cnn@2"], "digests": [DIGEST, DIGEST]},
    "links": {},
}
MODEL = {
    "reference": "digits-cnn@2",
    "name": "digits-cnn",
    "version": 2,
    "digest": DIGEST,
    "kind": "modular",
    "architecture": "cnn",
    "classes": ["3", "[red]8[/red]"],
    "threshold": "0.9",
    "accuracy": 0.975,
    "created_at": "2026-11-22T12:00:00.000Z",
    "aliases": ["latest"],
    "links": {},
}
WHOLE_MODEL = {**MODEL, "architecture_arguments": {}, "input": {"channels": 1, "image_size": 16}}
MODULES = {
    "model": DIGEST,
    "threshold": "0.9",
    "modules": [{"class": "3", "size": 0.25, "digest": DIGEST, "size_bytes": 1234, "links": {}}],
}
COMPOSITION = {
    "id": "cd" * 32,
    "model": DIGEST,
    "classes": ["8", "3"],
    "threshold": "0.9",
    "kept_parameters": 250,
    "original_parameters": 1000,
    "kept_flops": 10,
    "original_flops": 100,
    "overlap": 0.1,
    "compose_ms": 3.5,
    "links": {},
}
PREDICTIONS = {
    "model": DIGEST,
    "classes": ["3", "8"],
    "predictions": [{"label": "8", "probability": 0.75, "probabilities": [0.25, 0.75]}],
}
DATASET = {
    "reference": "digits@1",
    "version": 1,
    "name": "digits",
    "digest": DIGEST,
    "classes": ["3", "8"],
    "train": 100,
    "test": 20,
    "image": [1, 8, 8],
    "links": {},
}
EVENTS = """id: 1
event: epoch
data: {"epoch": 1, "epochs": 2, "loss": 0.5, "accuracy": 0.75}

id: 2
event: epoch
data: {"epoch": 2, "epochs": 2, "loss": 0.25, "accuracy": 0.875}

"""


class Fake:
    """A service that answers every request from a table, and keeps what it was asked."""

    def __init__(self, url: str, asked: list[tuple[str, str, Any]], answers: dict[str, Any]) -> None:
        self.url, self.asked, self.answers = url, asked, answers


@pytest.fixture
def fake(serve: Callable[[object], httpx.Client], monkeypatch: pytest.MonkeyPatch) -> Fake:
    asked: list[tuple[str, str, Any]] = []
    answers: dict[str, Any] = {
        "POST /train": JOB,
        "POST /decompose": JOB,
        "POST /evaluate": JOB,
        "POST /replace": JOB,
        "POST /datasets": JOB,
        "GET /datasets": {"datasets": [DATASET]},
        "GET /jobs": {"jobs": [JOB]},
        f"GET /jobs/{JOB['id']}": JOB,
        f"DELETE /jobs/{JOB['id']}": {**JOB, "state": "cancelled", "result": None},
        f"GET /jobs/{JOB['id']}/events": EVENTS,
        "GET /models": {"models": [MODEL]},
        "GET /models/digits-cnn": WHOLE_MODEL,
        "GET /models/digits-cnn/modules": MODULES,
        "GET /models/digits-cnn/weights": "weights",
        "GET /models/digits-cnn@3/weights": "weights",
        f"GET /compositions/{COMPOSITION['id']}/weights": "composed",
        "POST /compose": COMPOSITION,
        "POST /predict": PREDICTIONS,
    }
    app = FastAPI(openapi_url=None)
    service_errors.install(app)

    @app.api_route("/{path:path}", methods=["GET", "POST", "DELETE"])
    async def answer(path: str, request: Request) -> Response:
        body = await request.body()
        plain = request.headers.get("content-type") == "application/json"
        asked.append((request.method, f"/{path}", json.loads(body) if plain else body))
        found = answers.get(f"{request.method} /{path}", errors.NotFound("thing", path, "there are others"))
        if isinstance(found, Exception):
            raise found
        return PlainTextResponse(found if isinstance(found, str) else json.dumps(found))

    url = str(serve(app).base_url)
    monkeypatch.setenv("MODA_URL", url)
    monkeypatch.setenv("COLUMNS", "160")  # pytest-xdist gives its workers the terminal's
    return Fake(url, asked, answers)


def moda(*arguments: str) -> int:
    """Run the command line in this process: its exit status."""
    before, sys.argv = sys.argv, ["moda", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


# The least that a help of typer's can cost: two commands that import nothing.
EMPTY_COMMAND_LINE = """
import typer

app = typer.Typer()


@app.command()
def first() -> None:
    pass


@app.command()
def second() -> None:
    pass


app()
"""


def test_the_help_costs_little_more_than_that_of_an_empty_command_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text(EMPTY_COMMAND_LINE)

    def seconds(*command: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *command, "--help"], check=True, capture_output=True, cwd=ROOT)
        return time.perf_counter() - started

    # In turn, so that what else the machine does meets both.
    pairs = [(seconds(str(empty)), seconds("-m", "service.cli")) for _ in range(7)]
    least, shown = (min(times) for times in zip(*pairs, strict=True))
    assert shown <= 2 * least


def test_the_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "pydantic", "fastapi", "httpx", "safetensors", "PIL"}
    show = f"""
import sys

sys.argv = ["moda", "--help"]
from service import cli

try:
    cli.main()
finally:
    print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", show], check=True, capture_output=True, text=True, cwd=ROOT)
    assert ended.stderr.strip() == "[]"


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert moda("--help") == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"│ {command} +\w", shown), command
    for status, meaning, _ in EXIT_STATUSES:
        assert f"{status} {meaning}" in " ".join(shown.split())
    for command in (*COMMANDS, "dataset add", "dataset list"):
        assert moda(*command.split(), "--help") == 0
        assert "--help" in capsys.readouterr().out


SPOKEN = {
    "models": (["models"], [MODEL], ["digits-cnn@2", "97.5 %"]),
    "one model": (["models", "digits-cnn"], WHOLE_MODEL, ["3, [red]8[/red]", DIGEST]),
    "modules": (["modules", "digits-cnn"], MODULES, ["25.0 %", "1,234"]),
    "jobs": (["jobs"], [JOB], [JOB["id"], "succeeded"]),
    "one job": (["jobs", JOB["id"]], JOB, ["digits-cnn@1, digits-cnn@2"]),
    "cancel": (["cancel", JOB["id"]], None, ["cancelled"]),
    "data sets": (["dataset", "list"], [DATASET], ["1x8x8"]),
    "data set": (["dataset", "add", "digits", "digits"], JOB, ["digits-cnn@2"]),
    "compose": (["compose", "digits-cnn", "8", "3"], COMPOSITION, ["250 of 1,000 (25.0 %)", COMPOSITION["id"]]),
    "train": (["train", "digits"], JOB, ["digits-cnn@2"]),
    "decompose": (["decompose", "digits-cnn"], JOB, ["digits-cnn@2"]),
    "evaluate": (["evaluate", "digits-cnn", "digits", "-c", "3"], JOB, ["succeeded"]),
    "replace": (["replace", "weak", "digits-cnn", "3"], JOB, ["succeeded"]),
}


@pytest.mark.parametrize(("command", "data", "words"), SPOKEN.values(), ids=SPOKEN)
def test_commands_speak_to_people_and_to_programs(
    fake: Fake, capsys: pytest.CaptureFixture[str], command: list[str], data: Any, words: list[str]
) -> None:
    assert moda(*command) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in words), shown
    assert "\x1b" not in shown
    assert moda(*command, "--json") == 0
    spoken = capsys.readouterr()
    parsed = json.loads(spoken.out)
    assert spoken.err == ""
    if data is not None:
        assert _within(data, parsed)


def _within(expected: Any, found: Any) -> bool:
    """Whether `found` has everything of `expected`, and maybe more members."""
    if isinstance(expected, dict):
        return all(key in found and _within(value, found[key]) for key, value in expected.items())
    if isinstance(expected, list):
        return len(expected) == len(found) and all(map(_within, expected, found))
    return bool(expected == found)


def test_training_sends_the_whole_spec_and_shows_its_progress(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert moda("train", "digits", "-a", "lenet5", "-e", "3", "--no-flip", "-t", "0.8", "--seed", "7") == 0
    method, path, body = fake.asked[0]
    assert (method, path, body["threshold"]) == ("POST", "/train", "0.8")
    spec = body["spec"]
    assert (spec["dataset"], spec["architecture"], spec["epochs"], spec["seed"]) == ("digits", "lenet5", 3, 7)
    assert (spec["flip"], spec["objective"], spec["alpha"]) == (False, "modular", 1.0)
    assert "train 1f2e3d4c: 2/2 accuracy 87.5 %, loss 0.250" in capsys.readouterr().err


def test_a_terminal_gets_a_progress_bar(
    fake: Fake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert moda("train", "digits") == 0
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert re.search(r"train 1f2e3d4c ━+ 2/2 .*accuracy 87.5 %, loss 0.250", shown)


def test_a_job_that_waits_says_why(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["POST /decompose"] = {**JOB, "state": "queued", "waiting": "no worker is connected"}
    assert moda("decompose", "digits-cnn") == 0
    assert f"Job {JOB['id']} waits: no worker is connected." in capsys.readouterr().err


def test_a_detached_job_is_not_waited_for(fake: Fake) -> None:
    assert moda("decompose", "digits-cnn", "--detach") == 0
    assert [path for _, path, _ in fake.asked] == ["/decompose"]


def test_predictions_stand_beside_their_files(fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "eight.png"
    image.write_bytes(b"an image")
    assert moda("predict", "digits-cnn", str(image)) == 0
    shown = capsys.readouterr().out
    assert "eight.png" in shown
    assert "75.0 %" in shown
    assert b"an image" in fake.asked[0][2]


def test_downloads_are_named_after_what_they_are(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert moda("download", "digits-cnn", "--class", "a/b") == 0
    assert moda("download", COMPOSITION["id"]) == 0
    assert moda("download", "digits-cnn", "--out", "named") == 0
    assert moda("download", "digits-cnn@3", "--format", "onnx") == 0
    assert moda("download", COMPOSITION["id"], "--format", "pt2") == 0
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "digits-cnn-a_b.safetensors": "weights",
        "cdcdcdcdcdcd.safetensors": "composed",
        "named": "weights",
        "digits-cnn-3.onnx": "weights",
        "cdcdcdcdcdcd.pt2": "composed",
    }


def test_a_folder_of_images_is_sent_as_a_zip(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    (tmp_path / "pets" / "cat" / "1.png").write_bytes(b"an image")
    assert moda("dataset", "add", "pets", str(tmp_path / "pets")) == 0
    assert b'filename="pets.zip"' in fake.asked[0][2]
    assert b"cat/1.png" in fake.asked[0][2]


def test_a_folder_without_an_image_is_sent_too(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "pets" / "dog").mkdir(parents=True)
    moda("dataset", "add", "pets", str(tmp_path / "pets"))
    assert b"dog/" in fake.asked[0][2]


def test_the_size_and_the_seed_go_with_what_is_sent(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "pets.NPZ").write_bytes(b"arrays")
    moda("dataset", "add", "pets", str(tmp_path / "pets.NPZ"), "--image-size", "16", "--seed", "3")
    sent = fake.asked[0][2]
    assert b'name="image_size"\r\n\r\n16' in sent
    assert b'name="seed"\r\n\r\n3' in sent


def test_a_folder_called_digits_does_not_shadow_the_digits(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    moda("dataset", "add", "digits", "digits")
    assert fake.asked[0][2]["source"] == "digits"


def test_a_path_that_is_not_there_is_said_to_be(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert moda("dataset", "add", "pets", "pest.npz") == 2
    assert "there is no such file or folder" in " ".join(capsys.readouterr().err.split())
    assert fake.asked == []


ENDINGS = [
    (errors.InvalidInput("threshold", "2", "outside [0, 1]", "give 0.9"), 2),
    (errors.UnreadableImage("image", "x", "not an image", "send a PNG"), 2),
    (errors.NotFound("model", "digits-cnn", "there is none"), 3),
    (errors.Conflict("it was never decomposed", "decompose it"), 4),
    (errors.Unavailable("Redis does not answer", "try again"), 5),
    (errors.StorageFailure("the disk is full", "make room"), 1),
]


@pytest.mark.parametrize(("error", "status"), ENDINGS, ids=lambda value: type(value).__name__)
def test_the_exit_status_says_what_went_wrong(
    fake: Fake, capsys: pytest.CaptureFixture[str], error: errors.ModaError, status: int
) -> None:
    fake.answers["POST /compose"] = error
    assert moda("compose", "digits-cnn", "3") == status == exit_status(error)
    spoken = capsys.readouterr()
    assert spoken.out == ""
    assert f"Error: {error}" in " ".join(spoken.err.split())


def test_a_job_that_fails_fails_the_command(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers[f"GET /jobs/{JOB['id']}"] = {**JOB, "state": "failed", "result": None, "error": "the loss is nan"}
    assert moda("train", "digits") == 1
    assert "the loss is nan" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        "train digits --epochs many",
        "train digits --epochs 0",
        "train",
        "compose digits-cnn",
        "nothing",
        "predict m /no/file",
    ],
)
def test_wrong_usage_is_2_and_asks_nothing(fake: Fake, wrong: str) -> None:
    assert moda(*wrong.split()) == 2
    assert fake.asked == []


def test_no_service_is_5_and_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert moda("models", "--url", f"http://127.0.0.1:{free_port()}") == 5
    assert "moda up" in capsys.readouterr().err


def test_a_reader_that_goes_away_ends_it_quietly(fake: Fake) -> None:
    fake.answers["GET /models"] = {"models": [MODEL] * 2000}
    # Python's own unbuffered output takes a short write for a whole one.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for options in ((), ("--json",)):
        with subprocess.Popen(
            [*CLI, "models", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=buffered
        ) as command:
            assert command.stdout is not None
            command.stdout.read(10)
            command.stdout.close()
            assert command.stderr is not None
            said = command.stderr.read()
        assert said == b""
        assert command.returncode == 1


def test_colour_is_left_out_where_it_is_not_wanted(fake: Fake) -> None:
    environment = {**os.environ, "FORCE_COLOR": "1"}
    command = [*CLI, "models", "nothing"]
    coloured = subprocess.run(command, env=environment, capture_output=True, check=False, cwd=ROOT)
    plain = subprocess.run(command, env={**environment, "NO_COLOR": "1"}, capture_output=True, check=False, cwd=ROOT)
    assert b"\x1b[1;31m" in coloured.stderr
    assert b"31m" not in plain.stderr
    assert coloured.returncode == plain.returncode == 3


def test_what_a_replacement_changed_is_said_in_words(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    change = {"before": 0.3, "after": 0.397, "n": 1000}
    per_class = {"cat": {"accuracy": 0.68, "n": 1000}, "dog": {"accuracy": None, "n": 0}}
    fake.answers[f"GET /jobs/{JOB['id']}"] = {**JOB, "result": {"target": change, "per_class": per_class}}
    assert moda("jobs", JOB["id"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "30.0 % before, 39.7 % after (n = 1,000)" in said
    assert "cat 68.0 % (n = 1,000)" in said
