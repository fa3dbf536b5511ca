"""RQ1: test accuracy and training time of standard and modular training (table 1 of the paper).

    python -m experiments.rq1 --dataset cifar10=cifar10.npz --model resnet18 --width 0.25 --epochs 10

Trains each approach under each seed, unless it was trained before; a stopped run goes on after its
last epoch. One row per model, ``kind: training``: ``accuracy`` over all test images, ``wall_s`` and
``cpu_s`` (processor time) of all epochs, ``images_per_s``, ``parameters``, ``history`` (loss and
training accuracy by epoch), ``trained_on`` (the conditions of the training, where the row's own
are those of the evaluation), ``spec`` and ``model`` (digests of what was asked for and of what came of it).
A training of MwT whose loss ends in no number has a row with ``error`` and no measures. Under torchrun all processes train together, and the first measures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from statistics import fmean, stdev

from experiments.evidence import printing
from experiments.evidence.files import evidence_of
from experiments.evidence.summaries import seeds, share
from experiments.figures import drawing
from experiments.models.approaches import MWT, mwt_run_of, run_of, spec_of
from experiments.models.evaluation import Evaluation
from experiments.models.moda import Run
from experiments.models.mwt import MwtRun
from experiments.records.result_file import ResultFile, Row
from experiments.setup.launch import ranks
from experiments.setup.options import add_approaches, add_options, approaches_of, setting_of
from experiments.setup.program import program_parser, run
from experiments.setup.setting import Setting
from moda_core.baselines.mwt.composition import whole_mwt
from moda_core.baselines.mwt.training import MwtModel
from moda_core.errors import TrainingFailure
from moda_core.modularity.networks import full_network
from moda_core.training.distributed import ALONE, Ranks

__all__ = ["main"]

_Failures = dict[tuple[str, int], str]

_KNOWN = ("ST", MWT, "MODA", "MODA-")
_DEFAULT = ("ST", MWT, "MODA")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, draw."""
    parser = program_parser("python -m experiments.rq1", __doc__)
    add_options(parser)
    add_approaches(parser, _KNOWN, _DEFAULT)
    options = parser.parse_args(arguments)
    setting = setting_of(options)
    approaches = approaches_of(options, _KNOWN)
    with ranks(setting.device) as (together, device):
        setting = replace(setting, device=str(device))
        failures = _train(setting, approaches, together)
    if together.rank == 0:
        _record(setting, approaches, failures)


def _train(setting: Setting, approaches: Sequence[str], together: Ranks) -> _Failures:
    """Train what was not trained; why not, where MwT has failed."""
    failures: _Failures = {}
    for seed, approach in product(setting.seeds, approaches):
        try:
            _found(setting, approach, seed, together)
        except TrainingFailure as error:
            if approach != MWT:
                raise
            failures[approach, seed] = str(error)
            print(f"{approach}, seed {seed}: {error}", file=sys.stderr)
    return failures


def _record(setting: Setting, approaches: Sequence[str], failures: Mapping[tuple[str, int], str]) -> None:
    file = ResultFile(setting.result_path("rq1"))
    file.begin(setting.invocation())
    for seed, approach in product(setting.seeds, approaches):
        about = {"kind": "training", "approach": approach, "seed": seed}
        if (approach, seed) in failures:
            about |= {
                "spec": spec_of(setting, approach, seed).digest()[:16],
                "error": failures[approach, seed],
            }
            measured: Callable[[], Row] = dict
        else:
            found = _found(setting, approach, seed)
            about |= {"spec": found.spec_digest, "model": found.digest}
            measured = partial(_measured, setting, found)
        if not file.has(**about):
            file.append(about | measured())
    _show(file)
    drawing.rq1(file, setting.model)


def _found(setting: Setting, approach: str, seed: int, together: Ranks = ALONE) -> Run | MwtRun:
    if approach == MWT:
        return mwt_run_of(setting, seed, together)
    return run_of(setting, approach, seed, together)


def _measured(setting: Setting, found: Run | MwtRun) -> Row:
    model, history = found.model, found.facts["history"]
    evaluation = Evaluation(setting.dataset.test, model.input, len(model.labels), device=setting.device)
    if isinstance(model, MwtModel):
        body = whole_mwt(model, setting.device).get_submodule("body")
    else:
        body = full_network(model.architecture, model.weights, setting.device)
    logits = evaluation.logits(body)
    return {
        "accuracy": evaluation.correct_within(logits, range(len(model.labels))),
        "parameters": sum(parameter.numel() for parameter in body.parameters()),
        "epochs": found.spec.epochs,
        "wall_s": round(found.wall_s, 3),
        "cpu_s": round(found.facts["cpu_s"], 3),
        "images_per_s": round(found.images_per_s, 1),
        "history": {name: [round(report[name], 5) for report in history] for name in ("loss", "accuracy")},
        "trained_on": found.facts["conditions"],
    }


def _show(file: ResultFile) -> None:
    rows = evidence_of(file.path).rows(kind="training")
    approaches = dict.fromkeys(row["approach"] for row in rows)
    printing.show(file, [_line(name, [row for row in rows if row["approach"] == name]) for name in approaches])


def _line(approach: str, rows: Sequence[Row]) -> dict[str, printing.Cell]:
    shares = [100 * share(row["accuracy"]) for row in rows]
    return {
        "approach": approach,
        "seeds": seeds(rows),
        "test accuracy, %": fmean(shares),
        "deviation": stdev(shares) if len(shares) > 1 else None,
        "time, s": fmean(row["wall_s"] for row in rows),
        "cpu, s": fmean(row["cpu_s"] for row in rows),
        "images/s": fmean(row["images_per_s"] for row in rows),
    }


if __name__ == "__main__":
    run(main)
