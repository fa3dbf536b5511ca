"""Beyond ReLU and convolutions, on digits: what epsilon does to a GELU network and to a vision transformer.

    python -m experiments.beyond_relu
    python -m experiments.beyond_relu --models vit --seeds 3 --epsilons 0.1,0.2

GELU and attention are never exactly zero, so a unit (a head: any number of its slice) is inactive for an
image only where it stays within epsilon. One training per seed, with and without the modular objective;
then at each epsilon counted, decomposed and composed anew. Rows, in one file per model (and number of epochs, where it is given):

``kind: training``: ``approach`` (ST, MODA), ``seed``, ``spec`` and ``model`` (digests), the recipe, test ``accuracy``, ``parameters``.
``kind: reuse``: one per composition: ``approach`` (ST-composed, MODA), ``seed``, ``spec``, ``model``, ``epsilon``, ``threshold``,
``classes``, ``accuracy``, ``whole`` (the uncut model within the same classes), ``kept_…`` and ``original_parameters``,
``…_flops``, and ``error`` of the sliced against the masked model in float64, in units of the logits' spread.
``kind: epsilon``: the same summed over compositions, with module ``size``, ``overlap`` and the share of each layer's
units that a class's module has (``layers``).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from experiments.evidence.summaries import share
from experiments.figures.beyond_relu import draw
from experiments.models.approaches import APPROACHES
from experiments.models.decomposition import THRESHOLD
from experiments.models.evaluation import Evaluation
from experiments.models.moda import Run, trained
from experiments.models.training import How
from experiments.records.result_file import ResultFile, Row
from experiments.setup.datasets import DIGITS
from experiments.setup.options import add_surroundings, check_positive, surroundings_of
from experiments.setup.program import run as run_program
from experiments.setup.progress import epochs as report
from experiments.setup.setting import Setting
from moda_core.errors import InvalidInput
from moda_core.modularity.composition import compose, composition_masks, composition_plan
from moda_core.modularity.counts import count_activations
from moda_core.modularity.measures import module_measures, whole_flops
from moda_core.modularity.models import ModularModel
from moda_core.modularity.modules import decomposed
from moda_core.modularity.networks import full_network, network
from moda_core.specs import TrainingSpec
from moda_core.structure.masking import MaskedModel
from moda_core.structure.unitgraph import unit_graph

__all__ = ["main", "result_path", "spread_error", "tasks"]

Task = tuple[int, ...]

_RECIPES: dict[str, dict[str, Any]] = {
    "cnn-gelu": {"width": 0.5, "epochs": 40, "batch_size": 64},
    "vit": {"width": 0.5, "epochs": 60, "batch_size": 32},
}
_SMALL = {"image_size": 8, "crop_padding": 1}
"""Digits are 8x8 images, and few: no upscaling, a shift by one pixel at most."""
_EPSILONS = "0.001,0.01,0.05,0.1,0.17,0.3,0.5,1"
_COMPOSED = {"ST": "ST-composed", "MODA": "MODA"}
_TRIPLES = 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what was not trained, decompose and compose at every epsilon, draw."""
    options = _parser().parse_args(arguments)
    check_positive(options, "epochs")
    epsilons = _numbers(options.epsilons)
    settings = {model: _setting(options, model) for model in options.models}
    for model, setting in settings.items():
        file = ResultFile(result_path(setting.results, model, options.epochs))
        file.begin(setting.invocation())
        for seed in setting.seeds:
            for approach in _COMPOSED:
                _Sweep(setting, file, approach, seed).measure(epsilons)
        _show(model, file)
    files = {model: ResultFile(result_path(options.results, model, options.epochs)) for model in _RECIPES}
    draw(options.results, {model: file.measured() for model, file in files.items()}, options.epochs)


def tasks(classes: int) -> tuple[Task, ...]:
    """All pairs of classes, and some triples, the same ones every time."""
    triples = list(combinations(range(classes), 3))
    chosen = random.Random("triples").sample(triples, min(_TRIPLES, len(triples)))
    return (*combinations(range(classes), 2), *sorted(chosen))


def result_path(results: Path, model: str, epochs: int | None = None) -> Path:
    """The result file of a model, trained as long as its recipe says or for so many epochs."""
    return results / f"beyond-relu-{DIGITS}-{model}{'' if epochs is None else f'-e{epochs}'}.jsonl"


def spread_error(found: torch.Tensor, reference: torch.Tensor) -> float:
    """The largest difference in units of the largest deviation of a logit over images; as it is if none deviates."""
    difference, spread = float((found - reference).abs().max()), float(reference.std(0).max())
    return difference / spread if spread > 0 else difference


@dataclass(frozen=True)
class _Sweep:
    """One trained model at several epsilon."""

    setting: Setting
    file: ResultFile
    approach: str
    seed: int

    def measure(self, epsilons: Sequence[float]) -> None:
        what = f"{self.setting.model}, {self.approach}, seed {self.seed}"
        how = How(device=self.setting.device, progress=report(f"training {what}"))
        run = trained(self.setting.runs, self._spec(), self.setting.dataset, how)
        evaluation = Evaluation(
            self.setting.dataset.test, run.model.input, len(run.model.labels), device=self.setting.device
        )
        if not self.file.has(kind="training", model=run.digest):
            self.file.append(self._training(run, evaluation))
        for epsilon in epsilons:
            if not self.file.has(kind="epsilon", model=run.digest, epsilon=epsilon):
                self._at(run, evaluation, epsilon)

    def _spec(self) -> TrainingSpec:
        changes = _SMALL | APPROACHES[self.approach] | {"batch_size": _RECIPES[self.setting.model]["batch_size"]}
        return self.setting.spec(self.seed, **changes)

    def _training(self, run: Run, evaluation: Evaluation) -> Row:
        model, spec = run.model, run.spec
        whole = full_network(model.architecture, model.weights, self.setting.device)
        return {
            "kind": "training",
            "approach": self.approach,
            "seed": self.seed,
            "spec": run.spec_digest,
            "model": run.digest,
            **{name: getattr(spec, name) for name in ("width", "epochs", "batch_size", *_SMALL)},
            "accuracy": evaluation.correct(whole, range(len(model.labels))),
            "parameters": unit_graph(model.architecture).parameters,
            "cpu_s": run.facts["cpu_s"],
        }

    def _at(self, run: Run, evaluation: Evaluation, epsilon: float) -> None:
        images = self.setting.dataset.train
        counts = count_activations(run.model, images, epsilon=epsilon, device=self.setting.device)
        modular = decomposed(run.model, counts, THRESHOLD)
        head = {"approach": _COMPOSED[self.approach], "seed": self.seed, "spec": run.spec_digest, "model": run.digest}
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
            for task in tasks(len(modular.labels))
        ]
        self.file.extend([*compositions, {"kind": "epsilon", **head, **_summary(modular, compositions)}])


def _composition(modular: ModularModel, evaluation: Evaluation, task: Task, device: str) -> Row:
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


def _show(model: str, file: ResultFile) -> None:
    """A line per training and epsilon."""
    for row in file.measured():
        about = f"{model}  {row['approach']:<11} seed {row['seed']}"
        if row["kind"] == "training":
            print(f"{about}  test accuracy {share(row['accuracy']):.2%} of {row['parameters']} parameters")
        if row["kind"] == "epsilon":
            layers = " ".join(f"{layer:.0%}" for layer in row["layers"].values())
            print(
                f"{about}  epsilon {row['epsilon']:<5g}  reuse {share(row['accuracy']):.2%} (whole {share(row['whole']):.2%})"
                f"  kept {row['kept']:.1%}  module {row['size']:.1%}  layers {layers}  error {row['error']:.1e}"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.beyond_relu", description="GELU and attention")
    add = parser.add_argument
    add("--models", nargs="+", choices=_RECIPES, default=list(_RECIPES), help="(default: both)")
    add("--epochs", type=int, default=None, metavar="N", help="of training (default: as each model needs)")
    add("--epsilons", default=_EPSILONS, metavar="LIST", help=f"(default: {_EPSILONS})")
    add_surroundings(parser)
    return parser


def _setting(options: argparse.Namespace, model: str) -> Setting:
    recipe = _RECIPES[model]
    return Setting(
        name=DIGITS,
        source=None,
        model=model,
        width=recipe["width"],
        epochs=options.epochs or recipe["epochs"],
        **surroundings_of(options),
    )


def _numbers(listed: str) -> list[float]:
    try:
        return [float(number) for number in listed.split(",")]
    except ValueError as error:
        raise InvalidInput("--epsilons", listed, "not a list of numbers", f"give some as in {_EPSILONS}") from error


if __name__ == "__main__":
    run_program(main)
