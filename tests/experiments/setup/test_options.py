"""The options that all experiments share."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from experiments.setup.options import add_options, setting_of
from experiments.setup.setting import Setting
from moda_core.errors import ModaError


def parsed(*arguments: str) -> Setting:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return setting_of(parser.parse_args(arguments))


def test_options_become_a_setting(tmp_path: Path) -> None:
    path = tmp_path / "cifar10.npz"
    path.touch()
    setting = parsed("--model", "cnn", "--dataset", f"small={path}", "--epochs", "3", "--width", "0.5", "--seeds", "2")
    assert (setting.name, setting.source, setting.model) == ("small", path, "cnn")
    assert (setting.epochs, setting.width, setting.seeds) == (3, 0.5, (0, 1))


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
