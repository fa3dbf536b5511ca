"""Compositions of one model at several epsilon: how good, how large, and how near to the masked model."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

import torch

from experiments.models.approaches import APPROACHES
from experiments.models.decomposition import THRESHOLD
from experiments.models.evaluation import Evaluation
from experiments.models.moda import Run, trained
from experiments.models.training import How
from experiments.records.result_file import ResultFile, Row
from experiments.reuse.subtasks import Subtask
from experiments.setup.progress import epochs as report
from experiments.setup.setting import Setting
from moda_core.modularity.composition import compose, composition_masks, composition_plan
from moda_core.modularity.counts import count_activations
from moda_core.modularity.measures import module_measures, whole_flops
from moda_core.modularity.models import ModularModel
from moda_core.modularity.modules import decomposed
from moda_core.modularity.networks import full_network, network
from moda_core.structure.masking import MaskedModel
from moda_core.structure.unitgraph import unit_graph

__all__ = ["COMPOSED", "Sweep", "pairs_and_triples", "spread_error"]

COMPOSED = {"ST": "ST-composed", "MODA": "MODA"}
"""What compositions of a trained model are called."""
_TRIPLES = 10


@dataclass(frozen=True)
class Sweep:
    """One trained model at several epsilon.

    Attributes:
        approach: ``ST`` or ``MODA``.
        recipe: what is changed in the spec besides.
    """

    setting: Setting
    file: ResultFile
    approach: str
    seed: int
    recipe: Mapping[str, Any]

    def measure(self, epsilons: Sequence[float]) -> None:
        """Add the rows that the file lacks: of the training, and at each epsilon."""
        what = f"{self.setting.model}, {self.approach}, seed {self.seed}"
        how = How(device=self.setting.device, progress=report(f"training {what}"))
        spec = self.setting.spec(self.seed, **APPROACHES[self.approach], **self.recipe)
        run = trained(self.setting.runs, spec, self.setting.dataset, how)
        evaluation = Evaluation(
            self.setting.dataset.test, run.model.input, len(run.model.labels), device=self.setting.device
        )
        if not self.file.has(kind="training", model=run.digest):
            self.file.append(self._training(run, evaluation))
        for epsilon in epsilons:
            if not self.file.has(kind="epsilon", model=run.digest, epsilon=epsilon):
                self._at(run, evaluation, epsilon)

    def _training(self, run: Run, evaluation: Evaluation) -> Row:
        model, spec = run.model, run.spec
        whole = full_network(model.architecture, model.weights, self.setting.device)
        return {
            "kind": "training",
            "approach": self.approach,
            "seed": self.seed,
            "spec": run.spec_digest,
            "model": run.digest,
            **{name: getattr(spec, name) for name in ("width", "epochs", "batch_size", "image_size", "crop_padding")},
            "accuracy": evaluation.correct(whole, range(len(model.labels))),
            "parameters": unit_graph(model.architecture).parameters,
            "cpu_s": run.facts["cpu_s"],
        }

    def _at(self, run: Run, evaluation: Evaluation, epsilon: float) -> None:
        images = self.setting.dataset.train
        counts = count_activations(run.model, images, epsilon=epsilon, device=self.setting.device)
        modular = decomposed(run.model, counts, THRESHOLD)
        head = {"approach": COMPOSED[self.approach], "seed": self.seed, "spec": run.spec_digest, "model": run.digest}
        head |= {"epsilon": epsilon, "threshold": str(THRESHOLD)}
        device = self.setting.device
        logits = evaluation.logits(full_network(modular.architecture, modular.weights, device))
        compositions = [
            {
                "kind": "reuse",
                **head,
                "classes": list(task),
                "whole": evaluation.correct_within(logits, task),
                **_composition(modular, evaluation, task, device),
            }
            for task in pairs_and_triples(len(modular.labels))
        ]
        self.file.extend([*compositions, {"kind": "epsilon", **head, **_summary(modular, compositions)}])


def pairs_and_triples(classes: int) -> tuple[Subtask, ...]:
    """All pairs of classes, and some triples, the same ones every time."""
    triples = list(combinations(range(classes), 3))
    chosen = random.Random("triples").sample(triples, min(_TRIPLES, len(triples)))
    return (*combinations(range(classes), 2), *sorted(chosen))


def spread_error(found: torch.Tensor, reference: torch.Tensor) -> float:
    """The largest difference in units of the largest deviation of a logit over images; as it is if none deviates."""
    difference, spread = float((found - reference).abs().max()), float(reference.std(0).max())
    return difference / spread if spread > 0 else difference


def _composition(modular: ModularModel, evaluation: Evaluation, task: Subtask, device: str) -> Row:
    """One composition: how good, how large, and how near to the masked model."""
    labels, graph = [modular.labels[position] for position in task], unit_graph(modular.architecture)
    sliced = network(compose(modular, labels), device).get_submodule("body").to(device)
    planned = composition_plan(modular, labels)
    accuracy = evaluation.correct(sliced, task)
    full = full_network(modular.architecture, modular.weights, device)
    masked = MaskedModel(graph, full, composition_masks(modular, labels), task).to(device).double()
    pixels = evaluation.pixels.double()
    with torch.inference_mode():
        error = spread_error(sliced.double()(pixels), masked.eval()(pixels))
    return {
        "accuracy": accuracy,
        "kept_parameters": planned.parameters,
        "kept_flops": planned.flops,
        "original_parameters": graph.parameters,
        "original_flops": whole_flops(graph),
        "error": error,
    }


def _summary(modular: ModularModel, compositions: Sequence[Row]) -> Row:
    measures = module_measures(modular)
    modules = [composition_masks(modular, [label]) for label in modular.labels]
    return {
        "size": measures.mean_size,
        "overlap": measures.mean_overlap,
        "layers": {layer: fmean(float(module[layer].float().mean()) for module in modules) for layer in modules[0]},
        **{name: _summed([row[name] for row in compositions]) for name in ("accuracy", "whole")},
        "kept": fmean(row["kept_parameters"] / row["original_parameters"] for row in compositions),
        "compositions": len(compositions),
        "error": max(row["error"] for row in compositions),
    }


def _summed(accuracies: Sequence[dict[str, int]]) -> dict[str, int]:
    return {name: sum(accuracy[name] for accuracy in accuracies) for name in ("correct", "n")}
