"""``--local``: the whole way from images to answers in this process, on a registry of its own."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from moda_core.storage import artifacts
from moda_core.storage.registry import Registry
from service import cli


def moda(*arguments: str) -> int:
    before, sys.argv = sys.argv, ["moda", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a data set of three kinds of stripes, and a small model trained and decomposed on it."""
    home = tmp_path_factory.mktemp("home")
    images = np.stack([_stripes(kind, step) for step in range(8) for kind in range(3)])
    labels = np.tile(np.arange(3), 8)
    source = home / "stripes.npz"
    classes = np.array(["down", "across", "both"])
    np.savez(source, x_train=images, y_train=labels, x_test=images[:6], y_test=labels[:6], classes=classes)
    assert moda("dataset", "add", "stripes", str(source), "--local", "--home", str(home)) == 0
    training = ["--architecture", "cnn", "--width", "0.25", "--epochs", "2", "--no-flip", "--crop-padding", "0"]
    assert moda("train", "stripes", *training, "--local", "--home", str(home), "--device", "cpu") == 0
    return home


def _stripes(kind: int, step: int) -> np.ndarray:
    down, across = (np.indices((16, 16)) + step) // 2 % 2
    pixels = (down, across, down * across)[kind] * (200 + step)
    return pixels.astype(np.uint8)


def test_training_publishes_what_a_job_would(home: Path) -> None:
    registry = Registry(home / "registry")
    versions = [version.number for version in registry.versions("stripes-cnn")]
    kinds = [registry.resolve(f"stripes-cnn@{number}").manifest.kind for number in versions]
    assert kinds == ["trained", "modular"]


def test_composing_writes_the_file_and_keeps_the_recipe(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = home / "pair.safetensors"
    here = ("--local", "--home", str(home), "--json")
    assert moda("compose", "stripes-cnn", "both", "down", "--out", str(out), *here) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["classes"] == ["both", "down"]
    assert 0 < made["kept_parameters"] <= made["original_parameters"]
    assert artifacts.decode(out).labels == ("down", "both")
    assert Registry(home / "registry").composition(made["id"]).labels == ("both", "down")


def test_composing_writes_any_format(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, extra = home / "pair.pt2", {"moda": ""}
    here = ("--local", "--home", str(home), "--json")
    assert moda("compose", "stripes-cnn", "both", "down", "--out", str(out), "--format", "pt2", *here) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["both", "down"]
    logits = torch.export.load(out, extra_files=extra).module()(torch.zeros(3, 1, 16, 16, dtype=torch.uint8))
    assert logits.shape == (3, 2)
    assert json.loads(extra["moda"])["labels"] == ["down", "both"]


def test_a_composition_answers_for_its_classes_in_the_roots_order(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = home / "one.png"
    content = io.BytesIO()
    Image.fromarray(_stripes(0, 1)).save(content, "PNG")
    image.write_bytes(content.getvalue())
    here = ("--local", "--home", str(home), "--device", "cpu", "--json")
    assert moda("compose", "stripes-cnn", "both", "down", *here[:3], "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert moda("predict", made["id"], str(image), *here) == 0
    answer = json.loads(capsys.readouterr().out)
    (prediction,) = answer["predictions"]
    assert (answer["composition"], answer["classes"]) == (made["id"], ["down", "both"])
    assert sum(prediction["probabilities"]) == pytest.approx(1.0)
    assert prediction["probability"] == max(prediction["probabilities"])


def test_errors_end_with_the_same_status_as_through_a_service(home: Path, tmp_path: Path) -> None:
    here = ("--local", "--home", str(home))
    text = tmp_path / "text.png"
    text.write_text("no image")
    assert moda("compose", "stripes-cnn", "circles", *here) == 3
    assert moda("compose", "stripes-cnn@1", "both", *here) == 4
    assert moda("predict", "stripes-cnn", str(text), *here) == 2
    assert moda("train", "nothing", *here) == 3
