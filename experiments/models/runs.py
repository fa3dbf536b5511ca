"""Trained models on the disk, one folder per training spec: trained once, resumed if stopped, found again.

    <folder>/<spec digest>/000012.safetensors   the last checkpoint while training goes on
    <folder>/<spec digest>/model.safetensors    the trained model, an artifact file like any other
    <folder>/<spec digest>/run.json             spec, epoch reports, processor time, conditions

What is counted and measured of a model is kept beside it: ``counts.safetensors``, ``reuse.jsonl``.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.records.conditions import conditions
from moda_core.architectures.catalogue import complete
from moda_core.data.dataset import Dataset, subset
from moda_core.errors import Conflict
from moda_core.files import file_digest, parse_json, storing, write_atomically
from moda_core.modularity.models import TrainedModel
from moda_core.specs import ArchitectureSpec, Spec, TrainingSpec
from moda_core.storage.artifacts import decode, encode
from moda_core.storage.tensorfiles import check_content, load_tensors, read_header, save_tensors
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.checkpoints import Checkpoint
from moda_core.training.distributed import ALONE, Ranks
from moda_core.training.execution import EAGER, Execution
from moda_core.training.initial import initial_network
from moda_core.training.loop import train
from moda_core.training.reports import EpochReport

__all__ = [
    "CheckpointFolder",
    "Finished",
    "How",
    "Reports",
    "Run",
    "architecture_of",
    "finished",
    "trained",
]

Reports = Sequence[EpochReport]


@dataclass(frozen=True, kw_only=True)
class How:
    """How training is carried out, which is no part of what is asked for."""

    device: torch.device | str = "cpu"
    execution: Execution = EAGER
    ranks: Ranks = ALONE
    progress: Callable[[EpochReport], None] | None = None

    @property
    def saving(self) -> Execution:
        """`execution`, but where epochs may be shorter than their saving, on CUDA, some are not saved."""
        on_cuda = torch.device(self.device).type == "cuda"
        return replace(self.execution, seconds_between_checkpoints=30.0) if on_cuda else self.execution


@dataclass(frozen=True)
class Finished:
    """A finished training run.

    Attributes:
        place: its folder, where what is measured of it is kept too.
        facts: as in ``run.json``: ``spec``, ``history`` (epoch reports), ``cpu_s`` (processor time of
            all its epochs, which a busy machine does not stretch), ``conditions``.
    """

    place: Path
    facts: dict[str, Any]

    @property
    def digest(self) -> str:
        """Of the stored model: what says that two measurements are of the same one."""
        return file_digest(self.place / "model.safetensors")[:16]

    @property
    def spec_digest(self) -> str:
        """Of the spec, as rows of results name it."""
        return self.place.name[:16]

    @property
    def wall_s(self) -> float:
        """The time that its epochs took, without what was before, between and after them."""
        return float(sum(report["seconds"] for report in self.facts["history"]))

    @property
    def images_per_s(self) -> float:
        """Over all its epochs."""
        images = sum(report["samples_per_s"] * report["seconds"] for report in self.facts["history"])
        return float(images / self.wall_s)


@dataclass(frozen=True)
class Run(Finished):
    """A finished run of a `TrainingSpec`."""

    spec: TrainingSpec
    model: TrainedModel


class CheckpointFolder:
    """The checkpoints of one run in a local folder; only the last is kept, with the processor time until then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cpu_s_before = 0.0
        self._begun = time.process_time()

    @property
    def cpu_s(self) -> float:
        """Processor time of the run until now, that of the processes before this one included."""
        return self._cpu_s_before + time.process_time() - self._begun

    def load(self) -> Checkpoint | None:
        """The latest checkpoint, or None."""
        paths = self._paths()
        if not paths:
            return None
        header = read_header(paths[-1])
        check_content(paths[-1], header)
        tensors = {name: tensor.clone() for name, tensor in load_tensors(paths[-1], header, verify=False).items()}
        self._cpu_s_before, self._begun = header.meta.get("cpu_s", 0.0), time.process_time()
        return Checkpoint(epoch=header.meta["epoch"], tensors=tensors, state=header.meta["state"])

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then drop those before it."""
        before = self._paths()
        meta = {"epoch": checkpoint.epoch, "state": checkpoint.state, "cpu_s": self.cpu_s}
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


def architecture_of(
    dataset: Dataset, name: str, *, image_size: int | None = None, width: float = 1.0
) -> ArchitectureSpec:
    """A network for the images and classes of a data set."""
    channels = dataset.train.pixels.shape[1]
    return complete(name, classes=len(dataset.classes), channels=channels, image_size=image_size, width=width)


def finished(
    folder: Path, spec: Spec, work: Callable[[CheckpointFolder], tuple[Reports, bytes]], how: How
) -> tuple[Path, dict[str, Any]]:
    """The folder and the facts of a run.

    Args:
        folder: of all runs.
        spec: whose digest names the run's own folder.
        work: trains, if it was not done before; returns the reports of all epochs and the model's file.
        how: for the record.

    Raises:
        Conflict: while another program works on the same run.
    """
    place = folder / spec.digest()
    if not _is_finished(place, how):
        with ExitStack() as held:
            how.ranks.first(lambda: held.enter_context(_alone(place)))
            if not _is_finished(place, how):  # by another program, before this one held the folder
                _finish(place, spec, work, how)
    return place, parse_json((place / "run.json").read_bytes())


def _is_finished(place: Path, how: How) -> bool:
    return how.ranks.agreed((place / "run.json").exists())


def _finish(place: Path, spec: Spec, work: Callable[[CheckpointFolder], tuple[Reports, bytes]], how: How) -> None:
    checkpoints = CheckpointFolder(place)
    history, model = work(checkpoints)
    facts = {
        "spec": spec.to_json(),
        "history": [report.to_json() for report in history],
        "cpu_s": checkpoints.cpu_s,
        "conditions": _conditions(how),
    }
    how.ranks.first(partial(_store, checkpoints, model, facts))


def trained(
    folder: Path,
    spec: TrainingSpec,
    dataset: Dataset,
    *,
    device: torch.device | str = "cpu",
    execution: Execution = EAGER,
    ranks: Ranks = ALONE,
    progress: Callable[[EpochReport], None] | None = None,
) -> Run:
    """The model of a spec: read if it was trained before, trained (further) otherwise.

    Several ranks share the folder: the first writes, all read.
    """
    how = How(device=device, execution=execution, ranks=ranks, progress=progress)
    place, facts = finished(folder, spec, partial(_trained, spec, dataset, how), how)
    model = decode(place / "model.safetensors")
    assert isinstance(model, TrainedModel)
    return Run(place, facts, spec, model)


def _trained(spec: TrainingSpec, dataset: Dataset, how: How, checkpoints: CheckpointFolder) -> tuple[Reports, bytes]:
    architecture = architecture_of(dataset, spec.architecture, image_size=spec.image_size, width=spec.width)
    rule = dataset.input_spec(architecture.image_size, architecture.channels)
    network = initial_network(architecture, spec.seed, pretrained=spec.pretrained)
    history = train(
        network,
        unit_graph(architecture) if spec.objective == "modular" else None,
        subset(dataset.train, spec.fraction, spec.seed),
        spec,
        rule,
        mirror=dataset.mirror,
        device=how.device,
        execution=how.saving,
        ranks=how.ranks,
        checkpoints=checkpoints,
        progress=how.progress,
    )
    weights = {name: state.detach().cpu() for name, state in network.state_dict().items()}
    return history, encode(TrainedModel(architecture, dataset.classes, rule, weights))


def _conditions(how: How) -> dict[str, Any]:
    execution = asdict(how.execution)
    del execution["seconds_between_checkpoints"]  # which changes no number
    return conditions(how.device) | {"processes": how.ranks.world, "execution": execution}


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold a folder; it is let go when the process ends, however it ends."""
    with storing(place):
        place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_RDONLY)
    try:
        _lock(descriptor, place)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, place: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(f"another program is training {place.name[:12]}", "wait for it, or stop it") from error


def _store(checkpoints: CheckpointFolder, model: bytes, facts: dict[str, Any]) -> None:
    """The model, then the facts that say it is there, then the checkpoints away."""
    write_atomically(checkpoints.folder / "model.safetensors", model)
    write_atomically(checkpoints.folder / "run.json", (json.dumps(facts, indent=1) + "\n").encode())
    checkpoints.clear()
