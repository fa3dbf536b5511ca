"""RQ4: what the weights of the loss and the threshold τ do (section 5.4 and figure 4 of the paper).

    python -m experiments.rq4 weights --dataset digits --model cnn --epochs 20
    python -m experiments.rq4 threshold --dataset cifar10=cifar10.npz --model resnet18 --width 0.25 --epochs 10

``weights`` trains MODA with one of alpha, beta, gamma changed at a time. One row per model, ``kind: weights``: ``alpha``,
``beta``, ``gamma``, ``losses`` (of the last epoch, by name), test ``accuracy``, module ``size`` and ``overlap``.
``threshold`` composes the sub-tasks at several τ; rows: `experiments.reuse.recording`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from experiments.evidence import printing
from experiments.figures import drawing
from experiments.models.approaches import run_with
from experiments.models.decomposition import THRESHOLD, THRESHOLDS, exact, modular_model
from experiments.models.evaluation import Evaluation
from experiments.models.moda import Run
from experiments.records.result_file import ResultFile, Row
from experiments.reuse.composers import modules_at
from experiments.reuse.options import add_tasks, tasks_of
from experiments.reuse.recording import COMPOSED, Recorder
from experiments.setup.options import add_approaches, add_options, approaches_of, setting_of
from experiments.setup.program import program_parser, run
from experiments.setup.setting import Setting
from moda_core.errors import InvalidInput
from moda_core.modularity.networks import full_network
from moda_core.specs import TrainingSpec, parse_threshold

__all__ = ["main", "weightings"]

Weighting = dict[str, float]

_VALUES = {"alpha": (0.0, 0.5, 1.0, 2.0), "beta": (0.0, 0.5, 1.0, 2.0), "gamma": (0.0, 0.1, 0.3, 0.6, 1.0)}
_THRESHOLDS = ",".join(map(exact, THRESHOLDS))


def main(arguments: Sequence[str] | None = None) -> None:
    """Hand over to ``weights`` or ``threshold``."""
    parser = program_parser("python -m experiments.rq4", __doc__)
    kinds = parser.add_subparsers(required=True, metavar="weights | threshold")
    weights = kinds.add_parser("weights", help="train with one of alpha, beta, gamma changed at a time")
    threshold = kinds.add_parser("threshold", help="compose at several thresholds")
    for kind, program in ((weights, _weights), (threshold, _threshold)):
        add_options(kind)
        kind.set_defaults(program=program)
    for name, values in _VALUES.items():
        listed = ",".join(f"{value:g}" for value in values)
        weights.add_argument(f"--{name}", default=listed, metavar="LIST", help=f"values (default: {listed})")
    add_approaches(threshold, tuple(COMPOSED), ("MODA", "ST-composed"))
    add_tasks(threshold)
    threshold.add_argument("--thresholds", default=_THRESHOLDS, metavar="LIST", help=f"τ (default: {_THRESHOLDS})")
    options = parser.parse_args(arguments)
    options.program(options)


def weightings(values: Mapping[str, Sequence[float]]) -> list[Weighting]:
    """The paper's alpha, beta, gamma, each at these values in turn while the others stand; none twice."""
    default = {name: float(getattr(TrainingSpec(dataset="any", architecture="cnn"), name)) for name in values}
    every = [default, *(default | {name: value} for name, several in values.items() for value in several)]
    return [weighting for place, weighting in enumerate(every) if weighting not in every[:place]]


def _weights(options: argparse.Namespace) -> None:
    setting = setting_of(options)
    chosen = weightings({name: _numbers(f"--{name}", getattr(options, name)) for name in _VALUES})
    file = ResultFile(setting.result_path("rq4-weights"))
    file.begin(setting.invocation())
    for seed in setting.seeds:
        for weighting in chosen:
            _record(setting, file, seed, weighting)
    printing.show_weights(file)
    drawing.rq4_weights(file)


def _record(setting: Setting, file: ResultFile, seed: int, weighting: Weighting) -> None:
    what = ", ".join(f"{name} {value:g}" for name, value in weighting.items())
    found = run_with(setting, f"MODA, seed {seed}, {what}", seed, weighting)
    about = {"kind": "weights", "approach": "MODA", "seed": seed, **weighting}
    about |= {"spec": found.spec_digest, "model": found.digest}
    if not file.has(**about):
        file.append(about | _measured(setting, found))


def _measured(setting: Setting, found: Run) -> Row:
    model = modular_model(found, setting.dataset, device=setting.device)
    evaluation = Evaluation(setting.dataset.test, model.input, len(model.labels), device=setting.device)
    logits = evaluation.logits(full_network(model.architecture, model.weights, setting.device))
    last, modules = found.facts["history"][-1], modules_at(model, THRESHOLD)
    return {
        "losses": {name: last[name] for name in ("cross_entropy", "affinity", "dispersion", "compactness")},
        "accuracy": evaluation.correct_within(logits, range(len(model.labels))),
        "threshold": str(THRESHOLD),
        **{name: modules[name] for name in ("size", "overlap", "size_undropped", "overlap_undropped", "parameters")},
    }


def _threshold(options: argparse.Namespace) -> None:
    setting = setting_of(options)
    thresholds = [parse_threshold(text.strip(), field="--thresholds") for text in options.thresholds.split(",")]
    approaches = approaches_of(options, tuple(COMPOSED))
    file = ResultFile(setting.result_path("rq4-threshold"))
    file.begin(setting.invocation())
    recorder, tasks = Recorder(setting, file), tasks_of(options, setting)
    for seed in setting.seeds:
        for approach in approaches:
            for threshold in thresholds:
                recorder.composed(approach, seed, threshold, tasks)
    printing.show_reuse(file)
    drawing.rq4_threshold(file)


def _numbers(option: str, listed: str) -> list[float]:
    try:
        return [float(text) for text in listed.split(",")]
    except ValueError as error:
        raise InvalidInput(option, listed, "not numbers", "give numbers with commas between") from error


if __name__ == "__main__":
    run(main)
