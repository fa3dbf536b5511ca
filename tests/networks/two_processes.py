"""What two processes do together, and one alone for comparison: networks, batches, and a program of one rank.

python two_processes.py RANK FOLDER            the same for ranks 0 and 1; writes FOLDER/RANK.safetensors and .json
python two_processes.py RANK FOLDER --cuda     batch norm over both, on a device each; writes FOLDER/RANK.safetensors
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn

from moda_core.data.dataset import Images
from moda_core.errors import Cancelled, Conflict, TrainingFailure
from moda_core.modularity.counts import count_activations
from moda_core.modularity.models import TrainedModel
from moda_core.specs import ArchitectureSpec, InputSpec, TrainingSpec
from moda_core.structure.unitgraph import UnitGraph
from moda_core.training.checkpoints import Checkpoint
from moda_core.training.criteria import Evaluated, Modular
from moda_core.training.distributed import ALONE, joined
from moda_core.training.execution import Execution
from moda_core.training.initial import initial_network
from moda_core.training.loop import train
from moda_core.training.synced_batch_norm import synced_batch_norm

DOOR = InputSpec(image_size=16, channels=1, mean=(0.5,), std=(0.25,))
LENET = ArchitectureSpec(name="lenet5", classes=4, channels=1, image_size=16, width=0.5)
CNN = ArchitectureSpec(name="cnn", classes=4, channels=1, image_size=16, width=0.25)

# labels of the joint batch, how many of them are the first rank's, and what the criterion is told
CASES = {
    "even": ([0, 1, 2, 3, 0, 1, 2, 3], 4, {}),
    "uneven": ([0, 1, 2, 0, 1, 2, 3], 5, {}),
    "a class on one rank only": ([0, 1, 0, 1, 2, 2, 0, 1], 4, {}),
    "classes with one sample a rank": ([0, 1, 2, 2, 1, 0], 3, {}),
    "a class with one sample in all": ([0, 0, 1, 0, 1, 3], 3, {}),
    "one class": ([2, 2, 2, 2, 2], 2, {}),
    "a rank without a sample": ([0, 1, 0], 3, {}),
    "pairs weigh alike": ([0, 1, 1, 0, 1, 2], 4, {"weighting": "pair"}),
    "compactness as printed": ([0, 1, 1, 0, 1, 2], 2, {"compactness": "sum", "gamma": 0.01}),
    "zero vectors": ([0, 1, 2, 0, 1, 2], 3, {}),
}

ROOT = Path(__file__).parents[2]
PATIENCE_S = 250


def run_both(folder: Path, *options: str) -> None:
    """This file as a program, for both ranks at once."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-W", "error", __file__]
    both = [
        subprocess.Popen(
            [*program, str(rank), str(folder), *options], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    try:
        heard = [process.communicate(timeout=PATIENCE_S)[1] for process in both]
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert [process.returncode for process in both] == [0, 0], "\n".join(heard)


class InDouble(nn.Module):
    """A network in float64, whatever its images come in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x.double())


def lenet() -> tuple[nn.Module, UnitGraph]:
    """A network without batch norm, in float64."""
    return InDouble(initial_network(LENET, 3)), _lenet_graph()


@lru_cache(maxsize=1)
def _lenet_graph() -> UnitGraph:
    return UnitGraph.trace(InDouble(initial_network(LENET, 3)), (1, 16, 16))


def normed() -> tuple[nn.Module, UnitGraph]:
    """A network with batch norm and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(6 * 14 * 14, 4)
        )
    return model, UnitGraph.trace(model, (1, 16, 16))


def images(count: int) -> Images:
    draw = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (count, 1, 16, 16), generator=draw).to(torch.uint8)
    return Images(pixels, torch.randint(0, 4, (count,), generator=draw))


def gradients(case: str, ranks=ALONE, *, reduced: bool = True) -> dict[str, torch.Tensor]:
    """Losses and every gradient of a case: of the joint batch, or of this rank's share averaged over ranks."""
    labels, first, options = CASES[case]
    model, graph = lenet()
    pixels = torch.randn(len(labels), 1, 16, 16, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    if case == "zero vectors":
        pixels[1], pixels[4] = 0, 0
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
    share = slice(None) if ranks.world == 1 else (slice(first), slice(first, None))[ranks.rank]
    criterion = Modular(model, graph, ranks=ranks if reduced else ALONE, **options)
    found = criterion(pixels[share], torch.tensor(labels)[share])
    found.loss.backward()
    ranks.average_gradients(model.parameters())
    return losses(found) | {name: parameter.grad for name, parameter in model.named_parameters()}


def losses(found: Evaluated) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in found._asdict().items() if name != "logits"}


class Summed(torch.autograd.Function):
    """Sum over ranks that each goes on with in its own way: their gradients are summed too."""

    @staticmethod
    def forward(_ctx, part: torch.Tensor) -> torch.Tensor:
        whole = part.clone()
        dist.all_reduce(whole)
        return whole

    backward = forward


def joint_norm(norm: nn.SyncBatchNorm, x: torch.Tensor) -> torch.Tensor:
    """What synced batch norm computes in train mode, written out; torch's own kernels for it need CUDA."""
    count = x.new_tensor([x.numel() / x.shape[1]])
    sums = Summed.apply(torch.cat((x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), count)))
    mean, square = (sums[:-1] / sums[-1]).chunk(2)
    variance = square - mean.square()
    with torch.no_grad():
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * sums[-1] / (sums[-1] - 1), norm.momentum)
        norm.num_batches_tracked += 1
    factor, shift = norm.weight / (variance + norm.eps).sqrt(), norm.bias
    return (x - mean[:, None, None]) * factor[:, None, None] + shift[:, None, None]


def normed_gradients(ranks=ALONE, device="cpu", *, synced: bool = True) -> dict[str, torch.Tensor]:
    """Losses, statistics and every gradient of a network with batch norm on uneven shares of a batch."""
    model, graph = normed()
    model[3].p = 0.0  # dropout is each process's own
    pixels = torch.randn(7, 1, 16, 16, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    labels, share = torch.tensor([0, 1, 2, 0, 1, 2, 3]), ranks.share(7)
    with synced_batch_norm(model.double().to(device), ranks, synced):
        criterion = Modular(model, graph, ranks=ranks)
        found = criterion(pixels[share].to(device), labels[share].to(device))
        found.loss.backward()
        ranks.average_gradients(model.parameters())
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return losses(found) | dict(model.named_buffers()) | gradients


def recipe(**changes) -> TrainingSpec:
    shared = {"dataset": "noise", "architecture": "lenet5", "epochs": 3, "batch_size": 8, "crop_padding": 1}
    return TrainingSpec(**shared | changes)


def trained(ranks=ALONE) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """A whole training in float64, on batches of 8, 8 and 3: weights, and reports without their clocks."""
    model, graph = lenet()
    reports = train(model, graph, images(19), recipe(), DOOR, mirror=True, device="cpu", ranks=ranks)
    clocks = ("samples_per_s", "seconds", "remaining_s")
    facts = [{name: value for name, value in one.to_json().items() if name not in clocks} for one in reports]
    return model.state_dict(), facts


def counted(ranks=ALONE):
    model = TrainedModel(CNN, ("a", "b", "c", "d"), DOOR, initial_network(CNN, 0).state_dict())
    return count_activations(model, images(23), batch_size=4, ranks=ranks)


class Folder:
    """Checkpoints that all processes read."""

    def __init__(self, path: Path) -> None:
        self.path, self.saved = path, 0

    def load(self) -> Checkpoint | None:
        if not self.path.with_suffix(".json").exists():
            return None
        state = json.loads(self.path.with_suffix(".json").read_text())
        return Checkpoint(epoch=len(state["history"]), tensors=load_file(self.path), state=state)

    def save(self, checkpoint: Checkpoint) -> None:
        self.saved += 1
        save_file(dict(checkpoint.tensors), self.path)
        self.path.with_suffix(".json").write_text(json.dumps(checkpoint.state))


def stopped_and_resumed(ranks, folder: Path) -> tuple[dict, dict, dict]:
    """Training with batch norm and dropout, whole, and again stopped by one rank and resumed."""

    def run(place: Folder, cancelled=lambda: False):
        model, graph = normed()
        options = {"mirror": True, "device": "cpu", "ranks": ranks, "checkpoints": place, "cancelled": cancelled}
        train(model, graph, images(29), recipe(epochs=6, batch_size=8), DOOR, **options)
        return model.state_dict()

    asked = []

    def second_rank_stops():
        asked.append(0)
        return ranks.rank == 1 and len(asked) == 14

    place = Folder(folder / "stopped.safetensors")
    whole = run(Folder(folder / "whole.safetensors"))
    facts = {"stopped": False}
    try:
        run(place, second_rank_stops)
    except Cancelled:
        facts = {"stopped": True, "asked": len(asked), "saved": place.saved}
    resumed = run(place)
    return whole, resumed, facts


class Fragile(nn.Module):
    """Passes everything on but a batch with a white image in it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / (x.flatten(1).amin(1).max() < 1.0)


def broken(ranks) -> str:
    """Training that a white image ends, which only one rank has in its share."""
    data = images(29)
    data.pixels[:] = data.pixels.clamp(max=200)
    data.pixels[7] = 255
    model, _ = normed()
    model = nn.Sequential(Fragile(), model)
    flat = recipe(objective="standard", crop_padding=0)
    try:
        train(model, None, data, flat, DOOR, mirror=True, device="cpu", ranks=ranks)
    except TrainingFailure as error:
        return str(error)
    return ""


def troubles(ranks) -> dict[str, str]:
    """What each rank hears of the others' troubles."""
    heard = {}

    def tried(name, action):
        try:
            heard[name] = repr(action())
        except (Conflict, TrainingFailure, ZeroDivisionError) as error:
            heard[name] = type(error).__name__

    tried("first", lambda: ranks.first(lambda: 1 // 0))
    tried("same", lambda: ranks.require_same("the epoch", 3))
    tried("different", lambda: ranks.require_same("the epoch", 3 + ranks.rank))
    tried("agreed", lambda: [ranks.agreed(ranks.rank == 1), ranks.agreed(False)])
    return heard


def left_alone(rank: int, folder: Path) -> dict:
    """The second rank fails, the first waits for it."""
    begun = time.monotonic()
    try:
        with joined(backend="gloo", rank=rank, world=2, init_method=f"file://{folder}/second", timeout_s=200) as ranks:
            if rank == 1:
                raise ZeroDivisionError
            ranks.total(torch.zeros(3))
    except (RuntimeError, ZeroDivisionError) as error:
        return {"error": type(error).__name__, "waited_s": time.monotonic() - begun}
    return {}


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    tensors, facts = {}, {}
    with joined(backend="gloo", rank=rank, world=2, init_method=f"file://{folder}/first", timeout_s=200) as ranks:
        for case in CASES:
            for kind, reduced in (("exact", True), ("mutant", False)):
                found = gradients(case, ranks, reduced=reduced)
                tensors |= {f"{kind}/{case}/{name}": value for name, value in found.items()}
        nn.SyncBatchNorm.forward = joint_norm
        for kind, synced in (("synced", True), ("unsynced", False)):
            tensors |= {f"{kind}/{name}": value for name, value in normed_gradients(ranks, synced=synced).items()}
        weights, facts["reports"] = trained(ranks)
        tensors |= {f"trained/{name}": value for name, value in weights.items()}
        whole, resumed, facts["stop"] = stopped_and_resumed(ranks, folder)
        tensors |= {f"whole/{name}": value for name, value in whole.items()}
        tensors |= {f"resumed/{name}": value for name, value in resumed.items()}
        counts = counted(ranks)
        tensors |= {f"counts/{layer}": count for layer, count in counts.counts.items()}
        facts["samples"] = counts.samples
        facts["broken"] = broken(ranks)
        facts["heard"] = troubles(ranks)
    facts["left"] = left_alone(rank, folder)
    write(tensors, folder / f"{rank}.safetensors")
    (folder / f"{rank}.json").write_text(json.dumps(facts))


def main_on_cuda(rank: int, folder: Path) -> None:
    """Synced batch norm as torch has it, alone and in a training that asks for it."""
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    meeting = {"backend": "cpu:gloo,cuda:nccl", "init_method": f"file://{folder}/first", "timeout_s": 200}
    with joined(rank=rank, world=2, **meeting) as ranks:
        tensors = {f"synced/{name}": value for name, value in normed_gradients(ranks, device).items()}
        model, graph = normed()
        way = {"execution": Execution(synced_batch_norm=True), "ranks": ranks, "mirror": True, "device": device}
        train(model, graph, images(29), recipe(), DOOR, **way)
        tensors |= {f"trained/{name}": value for name, value in model.state_dict().items()}
    write(tensors, folder / f"{rank}.safetensors")


def write(tensors: dict[str, torch.Tensor], path: Path) -> None:
    save_file({name: value.cpu().contiguous().clone() for name, value in tensors.items()}, path)


if __name__ == "__main__":
    (main_on_cuda if "--cuda" in sys.argv else main)(int(sys.argv[1]), Path(sys.argv[2]))
