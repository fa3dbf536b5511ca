"""Checkpoints in a folder."""

from __future__ import annotations

from pathlib import Path

import torch

from experiments.models.checkpoints import CheckpointFolder
from moda_core.training.checkpoints import Checkpoint


def test_processor_time_is_that_of_all_processes_of_a_run(tmp_path: Path) -> None:
    first = CheckpointFolder(tmp_path)
    first._cpu_s_before = 100.0
    first.save(Checkpoint(epoch=1, tensors={"weight": torch.zeros(1)}, state={}))
    second = CheckpointFolder(tmp_path)
    assert second.cpu_s < 100
    assert second.load() is not None
    assert 100 <= second.cpu_s < 200


def test_only_the_last_checkpoint_is_kept_until_all_are_dropped(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    assert folder.load() is None
    for epoch in (1, 2):
        folder.save(Checkpoint(epoch=epoch, tensors={"weight": torch.full((1,), float(epoch))}, state={"n": epoch}))
    assert [path.name for path in tmp_path.iterdir()] == ["000002.safetensors"]
    found = CheckpointFolder(tmp_path).load()
    assert found is not None
    assert (found.epoch, found.tensors["weight"].item(), found.state) == (2, 2.0, {"n": 2})
    folder.clear()
    assert folder.load() is None
