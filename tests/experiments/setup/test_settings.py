"""The options that all experiments share."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from experiments.setup.settings import APPROACHES, Setting, add_options, setting_of
from moda_core.errors import ModaError
from moda_core.specs import TrainingSpec


def parsed(*arguments: str) -> Setting:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return setting_of(parser.parse_args(arguments))


def test_a_data_set_is_named_after_its_file_or_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "cifar10.npz"
    path.touch()
    assert parsed("--model", "vgg16", "--dataset", str(path)).name == "cifar10"
    named = parsed("--model", "vgg16", "--dataset", f"small={path}")
    assert (named.name, named.source) == ("small", path)
    assert parsed("--model", "cnn", "--dataset", "digits").source is None


def test_a_spec_differs_from_the_paper_in_nothing_but_what_is_asked() -> None:
    setting = parsed("--model", "cnn", "--dataset", "digits", "--epochs", "3", "--width", "0.5", "--seeds", "2")
    asked = {"dataset": setting.digest, "architecture": "cnn", "width": 0.5, "epochs": 3}
    assert setting.seeds == (0, 1)
    assert setting.spec(1, **APPROACHES["ST"]) == TrainingSpec(objective="standard", seed=1, **asked)
    assert setting.spec(0, **APPROACHES["MODA"]) == TrainingSpec(**asked)
    assert setting.spec(0, **APPROACHES["MODA-"]) == TrainingSpec(gamma=0.0, **asked)


def test_result_files_are_named_by_what_they_are_results_of(tmp_path: Path) -> None:
    setting = Setting(name="cifar10", source=None, model="resnet18", width=0.25, epochs=10, results=tmp_path)
    assert setting.result_path("rq1") == tmp_path / "rq1-cifar10-resnet18-w0.25-e10.jsonl"
    full = Setting(name="svhn", source=None, model="vgg16", results=tmp_path)
    assert full.result_path("rq2-reuse").name == "rq2-reuse-svhn-vgg16-e200.jsonl"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--dataset", "nowhere.npz"], "nowhere.npz"),
        (["--dataset", "a/b=nowhere.npz"], "NAME=PATH"),
        (["--dataset", "digits", "--seeds", "0"], "--seeds"),
        (["--dataset", "digits", "--images-per-class", "-1"], "--images-per-class"),
        (["--dataset", "digits", "--device", "toaster"], "--device"),
        (["--dataset", "digits", "--device", "meta"], "--device"),
        (["--dataset", "cifar-10=nowhere.npz"], "no hyphen"),
        (["--dataset", "digits", "--epochs", "0"], "--epochs"),
        (["--dataset", "digits", "--width", "0"], "width"),
        (["--dataset", "digits", "--model", "vgg61"], "vgg16"),
    ],
)
def test_what_cannot_be_used_is_named(arguments: list[str], named: str) -> None:
    with pytest.raises(ModaError, match=named):
        parsed("--model", "vgg16", *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_said() -> None:
    with pytest.raises(ModaError, match="no CUDA device"):
        parsed("--model", "cnn", "--dataset", "digits", "--device", "cuda")
