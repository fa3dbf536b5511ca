"""Trained models on the disk, one folder per training spec: trained once, resumed if stopped, found again.

    <folder>/<spec digest>/000012.safetensors   the last checkpoint while training goes on
    <folder>/<spec digest>/model.safetensors    the trained model, an artifact file like any other
    <folder>/<spec digest>/run.json             spec, epoch reports, processor time, conditions
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.conditions import conditions
from moda_core.architectures.catalogue import complete
from moda_core.data.dataset import Dataset, subset
from moda_core.files import parse_json, write_atomically
from moda_core.modularity.models import TrainedModel
from moda_core.specs import TrainingSpec, canonical_json, sha256
from moda_core.storage.artifacts import decode, encode
from moda_core.storage.tensorfiles import check_content, load_tensors, read_header, save_tensors
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.checkpoints import Checkpoint
from moda_core.training.initial import initial_network
from moda_core.training.loop import train
from moda_core.training.reports import EpochReport

__all__ = ["CheckpointFolder", "Run", "dataset_digest", "trained"]


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        facts: as in ``run.json``: ``spec``, ``history`` (epoch reports), ``cpu_s`` (processor
            time, which a busy machine does not stretch), ``conditions``.
    """

    model: TrainedModel
    facts: dict[str, Any]


class CheckpointFolder:
    """The checkpoints of one run in a local folder; only the last is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> Checkpoint | None:
        """The latest checkpoint, or None."""
        paths = self._paths()
        if not paths:
            return None
        header = read_header(paths[-1])
        check_content(paths[-1], header)
        tensors = {name: tensor.clone() for name, tensor in load_tensors(paths[-1], header, verify=False).items()}
        return Checkpoint(epoch=header.meta["epoch"], tensors=tensors, state=header.meta["state"])

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then drop those before it."""
        before = self._paths()
        meta = {"epoch": checkpoint.epoch, "state": checkpoint.state}
        write_atomically(self.folder / f"{checkpoint.epoch:06d}.safetensors", save_tensors(checkpoint.tensors, meta))
        for path in before:
            if path.name != f"{checkpoint.epoch:06d}.safetensors":
                path.unlink()

    def clear(self) -> None:
        """Drop all of them."""
        for path in self._paths():
            path.unlink()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))


def dataset_digest(dataset: Dataset) -> str:
    """SHA-256 over class names, images and labels: what a training spec calls its data set."""
    parts = [canonical_json(list(dataset.classes)).encode()]
    for images in (dataset.train, dataset.test):
        parts += [images.pixels.numpy().tobytes(), images.labels.numpy().tobytes()]
    return sha256("".join(sha256(part) for part in parts))


def trained(
    folder: Path,
    spec: TrainingSpec,
    dataset: Dataset,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[EpochReport], None] | None = None,
) -> Run:
    """The model of a spec: read if it was trained before, trained (further) otherwise."""
    place = folder / spec.digest()
    if (place / "run.json").exists():
        model = decode(place / "model.safetensors")
        assert isinstance(model, TrainedModel)
        return Run(model, parse_json((place / "run.json").read_bytes()))
    run = _train(place, spec, dataset, device, progress)
    write_atomically(place / "model.safetensors", encode(run.model))
    write_atomically(place / "run.json", (json.dumps(run.facts, indent=1) + "\n").encode())
    CheckpointFolder(place).clear()
    return run


def _train(
    place: Path,
    spec: TrainingSpec,
    dataset: Dataset,
    device: torch.device | str,
    progress: Callable[[EpochReport], None] | None,
) -> Run:
    architecture = complete(
        spec.architecture,
        classes=len(dataset.classes),
        channels=dataset.train.pixels.shape[1],
        image_size=spec.image_size,
        width=spec.width,
    )
    rule = dataset.input_spec(architecture.image_size, architecture.channels)
    network = initial_network(architecture, spec.seed, pretrained=spec.pretrained)
    begun = time.process_time()
    history = train(
        network,
        unit_graph(architecture) if spec.objective == "modular" else None,
        subset(dataset.train, spec.fraction, spec.seed),
        spec,
        rule,
        mirror=dataset.mirror,
        device=device,
        checkpoints=CheckpointFolder(place),
        progress=progress,
    )
    weights = {name: state.detach().cpu() for name, state in network.state_dict().items()}
    facts = {
        "spec": spec.to_json(),
        "history": [report.to_json() for report in history],
        "cpu_s": time.process_time() - begun,
        "conditions": conditions(device),
    }
    return Run(TrainedModel(architecture, dataset.classes, rule, weights), facts)
