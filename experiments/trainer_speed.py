"""How fast each way of training is on a device, standard and modular in turn, and so which one to train by.

    python -m experiments.trainer_speed --dataset cifar10=cifar10.npz --model resnet18 --execution captured

One way per call. A few epochs over a quarter of the images, in rounds that alternate; the first epoch of each
training, in which code is compiled or recorded, does not count. One row per training, ``kind: speed``:
``execution``, ``approach``, ``round``, ``images_per_s`` (of each epoch that counts), ``flops`` (of one image,
forward and backward: three times the forward's); or, where a way does not work here, one with ``error``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median

import torch

from experiments.conditions import invocation
from experiments.program import program_parser, run
from experiments.results import ResultFile, Row
from experiments.settings import APPROACHES, Setting, add_options, setting_of
from moda_core.architectures.catalogue import complete
from moda_core.data.dataset import subset
from moda_core.errors import InvalidInput
from moda_core.modularity.measures import whole_flops
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.initial import initial_network
from moda_core.training.loop import train

__all__ = ["EPOCHS", "QUESTION", "WAYS", "fastest", "main", "tried"]

QUESTION = "overhead"
WAYS = ("", "compiled", "captured", "compiled,captured")
"""Ways of training, as ``--execution`` takes them; the first is step by step."""

EPOCHS = 3
_ROUNDS, _FRACTION = 2, 0.25
_TIMED = ("ST", "MODA")


def main(arguments: Sequence[str] | None = None) -> None:
    """Time one way of training."""
    parser = program_parser("python -m experiments.trainer_speed", __doc__)
    add_options(parser)
    parser.set_defaults(epochs=EPOCHS)
    options = parser.parse_args(arguments)
    setting, way = setting_of(options), options.execution
    if setting.epochs < 2:
        raise InvalidInput("--epochs", setting.epochs, "no epoch would count", "give 2 or more")
    if tried(setting.result_path(QUESTION), way):
        return
    file = ResultFile(setting.result_path(QUESTION))
    file.begin(invocation(setting.device))
    try:
        rows = [_timed(setting, approach, number) for number, approach in product(range(_ROUNDS), _TIMED)]
    except Exception as error:  # noqa: BLE001 - whatever a compiler or driver raises: the way does not work here
        rows = [{"error": f"{type(error).__name__}: {error}"[:500]}]
    file.extend({"kind": "speed", "execution": way, **row} for row in rows)
    print(file.path, *(f"{row['approach']} {median(row['images_per_s']):.0f}/s" for row in rows if "error" not in row))


def tried(file: Path, way: str) -> bool:
    """Whether a way has its rows, be it that it does not work."""
    return ResultFile(file).has(kind="speed", execution=way)


def fastest(file: Path) -> str:
    """The way with the most images per second in modular training; step by step where none was timed."""
    rows = [row for row in ResultFile(file).measured() if row.get("approach") == "MODA"]
    speeds = {way: [row for row in rows if row["execution"] == way] for way in WAYS}
    return max(WAYS, key=lambda way: max((median(row["images_per_s"]) for row in speeds[way]), default=0.0))


def _timed(setting: Setting, approach: str, number: int) -> Row:
    dataset, spec = setting.dataset, setting.spec(0, fraction=_FRACTION, **APPROACHES[approach])
    channels = dataset.train.pixels.shape[1]
    architecture = complete(setting.model, classes=len(dataset.classes), channels=channels, width=setting.width)
    graph, rule = unit_graph(architecture), dataset.input_spec(architecture.image_size, architecture.channels)
    history = train(
        initial_network(architecture, spec.seed),
        graph if spec.objective == "modular" else None,
        subset(dataset.train, spec.fraction, spec.seed),
        spec,
        rule,
        mirror=dataset.mirror,
        device=torch.device(setting.device),
        execution=setting.execution,
    )
    return {
        "approach": approach,
        "round": number,
        "batch_size": spec.batch_size,
        "fraction": spec.fraction,
        "images_per_s": [round(report.samples_per_s, 1) for report in history[1:]],
        "flops": 3 * whole_flops(graph),
    }


if __name__ == "__main__":
    run(main)
