"""Models on the disk that MODA's trainer makes, with the modular objective or the standard one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.models.checkpoints import CheckpointFolder
from experiments.models.runs import Finished, finished
from experiments.models.training import PLAIN, How, Reports, learn, network_of
from moda_core.data.dataset import Dataset
from moda_core.modularity.models import TrainedModel
from moda_core.specs import TrainingSpec
from moda_core.storage.artifacts import decode, encode
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.initial import initial_network
from moda_core.training.loop import train

__all__ = ["Run", "trained"]


@dataclass(frozen=True)
class Run(Finished):
    """A finished run of a `TrainingSpec`."""

    spec: TrainingSpec
    model: TrainedModel


def trained(folder: Path, spec: TrainingSpec, dataset: Dataset, how: How = PLAIN) -> Run:
    """The model of a spec: read if it was trained before, trained (further) otherwise.

    Several ranks share the folder: the first writes, all read.
    """
    place, facts = finished(folder, spec, partial(_trained, spec, dataset, how), how)
    model = decode(place / "model.safetensors")
    assert isinstance(model, TrainedModel)
    return Run(place, facts, spec, model)


def _trained(spec: TrainingSpec, dataset: Dataset, how: How, checkpoints: CheckpointFolder) -> tuple[Reports, bytes]:
    architecture, rule = network_of(dataset, spec)
    network = initial_network(architecture, spec.seed, pretrained=spec.pretrained)
    graph = unit_graph(architecture) if spec.objective == "modular" else None
    history = learn(partial(train, network, graph), dataset, spec, rule, how, checkpoints)
    weights = {name: state.detach().cpu() for name, state in network.state_dict().items()}
    return history, encode(TrainedModel(architecture, dataset.classes, rule, weights))
