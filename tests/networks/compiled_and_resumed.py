"""A compiled training that is stopped after an epoch and resumed, against the one that was never stopped.

python compiled_and_resumed.py     fails where a bit differs; in a process without shape checks, which cannot be compiled
"""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor, nn

from moda_core.data.dataset import Images
from moda_core.specs import InputSpec, TrainingSpec
from moda_core.structure.unitgraph import UnitGraph
from moda_core.training.checkpoints import Checkpoint
from moda_core.training.execution import Execution
from moda_core.training.loop import train
from moda_core.training.reports import EpochReport

RECIPE = TrainingSpec(dataset="d", architecture="cnn", epochs=2, batch_size=8, crop_padding=1, weight_decay=1e-3)
DOOR = InputSpec(image_size=6, channels=1, mean=(0.5,), std=(0.25,))


class Stopped(Exception):
    """The process ends."""


class Kept:
    """The latest checkpoint."""

    latest: Checkpoint | None = None

    def load(self) -> Checkpoint | None:
        return self.latest

    def save(self, checkpoint: Checkpoint) -> None:
        self.latest = checkpoint


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 3)
    )


def run(kept: Kept, *, compiled: bool, seed: int = 0, stop_after: int | None = None) -> dict[str, Tensor]:
    """Train on batches of 8, 8 and 3 to the end, or until after an epoch, as a process that has compiled nothing yet."""

    def progress(report: EpochReport) -> None:
        if report.epoch == stop_after:
            raise Stopped

    torch.compiler.reset()
    draw = torch.Generator().manual_seed(0)
    images = Images(torch.randint(256, (19, 1, 6, 6), generator=draw).to(torch.uint8), torch.arange(19) % 3)
    model, graph = network(seed), UnitGraph.trace(network(seed), (1, 6, 6))
    way = {"mirror": True, "device": "cpu", "execution": Execution(compiled=compiled)}
    train(model, graph, images, RECIPE, DOOR, checkpoints=kept, progress=progress, **way)
    return model.state_dict()


def stopped_and_resumed(epoch: int) -> dict[str, Tensor]:
    kept = Kept()
    with suppress(Stopped):
        run(kept, compiled=True, stop_after=epoch)
    assert kept.latest is not None
    assert kept.latest.epoch == epoch
    torch.rand(7)  # what the next process drew before must not matter, nor the weights that it began with
    return run(kept, compiled=True, seed=9)


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


if __name__ == "__main__":
    torch.set_num_threads(1)
    whole = run(Kept(), compiled=True)
    assert equal(stopped_and_resumed(1), whole)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3  # each of the three runs was compiled
    assert not equal(run(Kept(), compiled=False), whole)  # dropout draws other numbers
