"""Models trained by MwT on the disk, in folders like those of `experiments.models.runs`, and their modules."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

from experiments.models.checkpoints import CheckpointFolder
from experiments.models.runs import Finished, finished
from experiments.models.training import PLAIN, How, Reports, learn, network_of
from moda_core.baselines.mwt.modules import Augmentation, MaskCounts, ModuleMasks, count_masks, module_masks
from moda_core.baselines.mwt.training import MwtModel, MwtSpec, initial_mwt, mwt_model, train_mwt
from moda_core.data.dataset import Dataset, subset
from moda_core.files import write_atomically
from moda_core.storage.tensorfiles import load_tensors, read_header, save_tensors

__all__ = ["MwtRun", "mwt_modules", "trained_mwt"]


@dataclass(frozen=True)
class MwtRun(Finished):
    """A finished run of an `MwtSpec`."""

    spec: MwtSpec
    model: MwtModel


def trained_mwt(folder: Path, spec: MwtSpec, dataset: Dataset, how: How = PLAIN) -> MwtRun:
    """The model of a spec: read if it was trained before, trained (further) otherwise."""
    place, facts = finished(folder, spec, partial(_trained, spec, dataset, how), how)
    path = place / "model.safetensors"
    header = read_header(path)
    return MwtRun(place, facts, spec, MwtModel.from_tensors(load_tensors(path, header), header.meta))


def mwt_modules(run: MwtRun, dataset: Dataset, threshold: Decimal, *, device: str = "cpu") -> ModuleMasks:
    """The modules of a run at τ; its masks are counted once, over the images that it was trained on."""
    path = run.place / "counts.safetensors"
    if not path.exists():
        counted = _counted(run, dataset, device)
        write_atomically(path, save_tensors(dict(counted.counts), {"samples": list(counted.samples)}))
    header = read_header(path)
    counts = MaskCounts(load_tensors(path, header), run.model.labels, tuple(header.meta["samples"]))
    return module_masks(counts, threshold)


def _trained(spec: MwtSpec, dataset: Dataset, how: How, checkpoints: CheckpointFolder) -> tuple[Reports, bytes]:
    architecture, rule = network_of(dataset, spec)
    network = initial_mwt(architecture, spec.seed)
    history = learn(partial(train_mwt, network), dataset, spec, rule, how, checkpoints)
    model = mwt_model(network, architecture, dataset.classes, rule)
    return history, save_tensors(model.tensors(), model.to_json())


def _counted(run: MwtRun, dataset: Dataset, device: str) -> MaskCounts:
    """Over augmented images, as MwT does it."""
    spec = run.spec
    flip = dataset.mirror if spec.flip is None else spec.flip
    drawn = Augmentation(crop_padding=spec.crop_padding, flip=flip, seed=spec.seed)
    return count_masks(run.model, subset(dataset.train, spec.fraction, spec.seed), drawn, device=device)
