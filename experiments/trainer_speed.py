"""How fast each way of training is on a device, standard and modular in turn, and so which one to train by.

    python -m experiments.trainer_speed --dataset cifar10=cifar10.npz --model resnet18 --execution captured

One way per call, measured by `benchmarks.overhead_steps` on the first images of the data set. One row per
kind of step, ``kind: speed``: ``execution``, ``approach`` (``ST``, ``MODA``; ``MODA-naive`` with hooks and
losses of all pairs, step by step), ``images_per_s``, ``ratio`` to ST on the same batches and its quartiles,
``share_of_peak`` of the chip; or, where a way does not work here, one row with ``error``. On other hardware or under
another torch all is timed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.overhead_steps import measure
from experiments.models.ways import EPOCHS, QUESTION, STEPS, steps_of, timed, tried
from experiments.records.result_file import ResultFile, Row
from experiments.setup.options import add_options, setting_of
from experiments.setup.program import program_parser, run
from experiments.setup.setting import Setting
from moda_core.data.dataset import Images
from moda_core.training.surroundings import borrowed_generators

__all__ = ["main"]

_IMAGES = 12_800


def main(arguments: Sequence[str] | None = None) -> None:
    """Time one way of training."""
    parser = program_parser("python -m experiments.trainer_speed", __doc__)
    add_options(parser)
    parser.set_defaults(epochs=EPOCHS)
    options = parser.parse_args(arguments)
    setting, way = setting_of(options), options.execution
    file = ResultFile(setting.result_path(QUESTION))
    if tried(file.path, way, setting.device):
        return
    file.begin(setting.invocation())  # reads the data set, whose faults are not the way's
    try:
        rows = _timed(setting, way)
    except Exception as error:  # noqa: BLE001 - whatever a compiler or driver raises: the way does not work here
        rows = [{"error": f"{type(error).__name__}: {error}"[:500]}]
    known = timed(file, way, setting.device)
    file.extend({"kind": "speed", "execution": way, **row} for row in rows if row.get("approach") not in known)
    print(file.path, *(row.get("error") or f"{row['approach']} {row['images_per_s']:.0f}/s" for row in rows))


def _timed(setting: Setting, way: str) -> list[Row]:
    dataset = setting.dataset
    with borrowed_generators(torch.device(setting.device), 0):
        rows = measure(
            setting.model,
            width=setting.width,
            images=Images(dataset.train.pixels[:_IMAGES], dataset.train.labels[:_IMAGES]),
            classes=len(dataset.classes),
            epochs=setting.epochs,
            device=setting.device,
            execution=setting.execution,
            ways=steps_of(way),
        )
    return [_row(row) for row in rows]


def _row(measured: dict[str, Any]) -> Row:
    return {
        "approach": STEPS[measured["way"]],
        "batch_size": measured["batch"],
        "steps": measured["steps"],
        "step_ms": round(measured["step ms"], 4),
        "images_per_s": round(measured["images/s"], 1),
        "ratio": measured["ratio"],
        "ratio_quartiles": measured["ratio quartiles"],
        "share_of_peak": measured["share of peak"],
    }


if __name__ == "__main__":
    run(main)
