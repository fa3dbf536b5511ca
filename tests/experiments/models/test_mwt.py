"""Runs of MwT."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.models.mwt import trained_mwt
from experiments.models.training import How
from experiments.setup.setting import Setting
from moda_core.baselines.mwt.training import MwtSpec
from moda_core.training.reports import EpochReport


def stop(report: EpochReport) -> None:
    if report.epoch == 1:
        raise KeyboardInterrupt


def test_mwt_is_kept_and_resumed_alike(tmp_path: Path) -> None:
    setting = Setting(name="digits", source=None, model="cnn", width=0.125, epochs=2)
    spec = MwtSpec(dataset=setting.digest, architecture="cnn", width=0.125, epochs=2)
    whole = trained_mwt(tmp_path / "whole", spec, setting.dataset)
    with pytest.raises(KeyboardInterrupt):
        trained_mwt(tmp_path / "stopped", spec, setting.dataset, How(progress=stop))
    resumed = trained_mwt(tmp_path / "stopped", spec, setting.dataset)
    assert resumed.digest == whole.digest
    assert set(whole.facts["history"][0]) >= {"cohesion", "coupling", "loss"}
    assert resumed.model.labels == setting.dataset.classes
