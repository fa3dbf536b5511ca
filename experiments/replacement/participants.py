"""A strong model cut into modules, a weak model and its answers: who takes part in a replacement."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from experiments.models.decomposition import modular_model
from experiments.models.moda import Run, trained
from experiments.models.training import How
from experiments.records.result_file import Row
from experiments.replacement.cells import Cell
from experiments.replacement.parts import Part, strong_part, strong_spec, weak_part, weak_spec
from experiments.setup.setting import Setting
from moda_core.data.dataset import Images, subset
from moda_core.modularity.measures import module_measures
from moda_core.modularity.models import Model, ModularModel
from moda_core.modularity.networks import network
from moda_core.training.evaluation import accuracy, logits

__all__ = ["Strong", "Weak", "answers_of", "strong_model", "weak_model"]


@dataclass(frozen=True)
class Strong:
    """A strong model cut into modules, the images it saw and did not see, and how good it is."""

    run: Run
    part: Part
    modular: ModularModel
    accuracy: Row

    @cached_property
    def sizes(self) -> dict[str, float]:
        """Of each module, as a share of the model's parameters."""
        return dict(module_measures(self.modular).sizes)


@dataclass(frozen=True)
class Weak:
    """A weak model's answers to the images it learnt from and to those it is tested on; the target is last."""

    run: Run
    target: str
    train: Images
    test: Images
    train_logits: Float[Tensor, "train classes"]
    test_logits: Float[Tensor, "test classes"]

    @property
    def position(self) -> int:
        """The target's place among the logits."""
        return self.train_logits.shape[1] - 1


def strong_model(setting: Setting, objective: str, seed: int) -> Strong:
    """The strong model of an objective and a seed, trained if it was not."""
    part = strong_part(setting.dataset, seed)
    spec = strong_spec(part, setting.model, setting.width, setting.epochs, seed, objective)
    strong = trained(setting.runs, spec, part.dataset, How(device=setting.device, execution=setting.execution))
    modular = modular_model(strong, part.dataset, device=setting.device)
    found = accuracy(answers_of(strong.model, part.dataset.test, setting.device), part.dataset.test.labels)
    return Strong(strong, part, modular, {"correct": found.correct, "n": found.samples})


def weak_model(setting: Setting, cell: Cell, weak_epochs: int) -> Weak:
    """The weak model of a cell, trained if it was not."""
    seed, kind, target = cell
    part = weak_part(setting.dataset, target)
    spec = weak_spec(part, kind, weak_epochs, seed)
    weak = trained(setting.runs, spec, part.dataset, How(device=setting.device, execution=setting.execution))
    train = subset(part.dataset.train, spec.fraction, spec.seed)
    answers = [answers_of(weak.model, images, setting.device) for images in (train, part.dataset.test)]
    return Weak(weak, target, train, part.dataset.test, *answers)


def answers_of(model: Model, images: Images, device: str) -> Float[Tensor, "images classes"]:
    """A model's logits."""
    asked = network(model, device)
    return logits(asked, images, asked.inputs, device=device)
