"""Runs on the disk: trained once, resumed where they stopped, found again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from experiments.models import moda, runs
from experiments.models.moda import trained
from experiments.models.training import How
from experiments.setup.setting import Setting
from moda_core.errors import Conflict
from moda_core.training.reports import EpochReport


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting(name="digits", source=None, model="cnn", width=0.125, epochs=2)


def stop(report: EpochReport) -> None:
    if report.epoch == 1:
        raise KeyboardInterrupt


def test_a_stopped_training_ends_as_one_that_was_never_stopped(setting: Setting, tmp_path: Path) -> None:
    spec = setting.spec(0)
    whole = trained(tmp_path / "whole", spec, setting.dataset)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", spec, setting.dataset, How(progress=stop))
    heard: list[EpochReport] = []
    resumed = trained(tmp_path / "stopped", spec, setting.dataset, How(progress=heard.append))
    assert [report.epoch for report in heard] == [2]
    assert resumed.digest == whole.digest
    assert [report["loss"] for report in resumed.facts["history"]] == [r["loss"] for r in whole.facts["history"]]
    assert sorted(path.name for path in resumed.place.iterdir()) == ["model.safetensors", "run.json"]


def test_a_finished_training_is_not_repeated(setting: Setting, tmp_path: Path) -> None:
    first = trained(tmp_path, setting.spec(1), setting.dataset)
    heard: list[EpochReport] = []
    again = trained(tmp_path, setting.spec(1), setting.dataset, How(progress=heard.append))
    assert heard == []
    assert again.facts == first.facts
    assert all(torch.equal(weight, first.model.weights[name]) for name, weight in again.model.weights.items())
    assert again.wall_s == pytest.approx(sum(report["seconds"] for report in first.facts["history"]))
    assert again.images_per_s == pytest.approx(2 * len(setting.dataset.train) / again.wall_s)
    assert again.facts["conditions"]["processes"] == 1


def test_a_run_that_another_program_works_on_is_left_to_it(setting: Setting, tmp_path: Path) -> None:
    def meanwhile(report: EpochReport) -> None:
        with pytest.raises(Conflict, match="another program"):
            trained(tmp_path, setting.spec(0), setting.dataset)

    run = trained(tmp_path, setting.spec(0), setting.dataset, How(progress=meanwhile))
    assert len(run.facts["history"]) == 2


def test_a_run_that_another_program_finished_while_we_waited_is_not_trained_again(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained(tmp_path / "there", setting.spec(0), setting.dataset)

    @contextmanager
    def alone(place: Path) -> Iterator[None]:
        shutil.copytree(first.place, place)
        yield

    monkeypatch.setattr(runs, "_alone", alone)
    monkeypatch.setattr(moda, "train", None)
    assert trained(tmp_path / "here", setting.spec(0), setting.dataset).digest == first.digest
