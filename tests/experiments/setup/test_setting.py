"""A setting: the specs that it trains by, and where its results lie."""

from __future__ import annotations

from pathlib import Path

from experiments.models.approaches import APPROACHES
from experiments.setup.setting import Setting
from moda_core.specs import TrainingSpec


def test_a_spec_differs_from_the_paper_in_nothing_but_what_is_asked() -> None:
    setting = Setting(name="digits", source=None, model="cnn", width=0.5, epochs=3)
    asked = {"dataset": setting.digest, "architecture": "cnn", "width": 0.5, "epochs": 3}
    assert setting.spec(1, **APPROACHES["ST"]) == TrainingSpec(objective="standard", seed=1, **asked)
    assert setting.spec(0, **APPROACHES["MODA"]) == TrainingSpec(**asked)
    assert setting.spec(0, **APPROACHES["MODA-"]) == TrainingSpec(gamma=0.0, **asked)


def test_result_files_are_named_by_what_they_are_results_of(tmp_path: Path) -> None:
    setting = Setting(name="cifar10", source=None, model="resnet18", width=0.25, epochs=10, results=tmp_path)
    assert setting.result_path("rq1") == tmp_path / "rq1-cifar10-resnet18-w0.25-e10.jsonl"
    full = Setting(name="svhn", source=None, model="vgg16", results=tmp_path)
    assert full.result_path("rq2-reuse").name == "rq2-reuse-svhn-vgg16-e200.jsonl"
