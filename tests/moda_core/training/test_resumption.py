"""A run stopped after any epoch and resumed, against the run that was never stopped: equal to the bit."""

import hashlib
import itertools

import pytest
import torch
from torch import nn

from moda_core.data.dataset import Images
from moda_core.errors import Cancelled
from moda_core.specs import InputSpec, TrainingSpec
from moda_core.structure.unitgraph import UnitGraph
from moda_core.training.execution import EAGER, Execution
from moda_core.training.loop import train

DOOR = InputSpec(image_size=8, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
EPOCHS = 4
STEPS = 5
"""Of an epoch."""
RARELY = Execution(seconds_between_checkpoints=1e9)
ON_CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA")]
)


class Stopped(Exception):
    """The process ends."""


class Kept:
    """The latest checkpoint, as copies that no later step can reach."""

    def __init__(self):
        self.latest = None

    def load(self):
        return self.latest

    def save(self, checkpoint):
        self.latest = checkpoint


def images():
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(37) % 3
    pixels = torch.randint(0, 100, (37, 3, 8, 8), generator=draw) + 60 * labels[:, None, None, None]
    return Images(pixels.to(torch.uint8), labels)


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.2),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(96, 8),
            nn.ReLU(inplace=True),
            nn.Dropout(0.3),
            nn.Linear(8, 3),
        )


def recipe(**changes):
    options = {"dataset": "d", "architecture": "cnn", "epochs": EPOCHS, "batch_size": 8, "weight_decay": 1e-3}
    return TrainingSpec(**options | {"crop_padding": 2, "flip": True} | changes)


def run(model, spec, checkpoints, *, stop_after=None, device="cpu", execution=EAGER):
    """Train until the end, or until just after a checkpoint."""

    def progress(report):
        if report.epoch == stop_after and execution is not RARELY:
            raise Stopped

    graph = UnitGraph.trace(network(), (3, 8, 8))
    steps = itertools.count()

    def cancelled():
        """In the middle of the epoch after."""
        return execution is RARELY and stop_after is not None and next(steps) == STEPS * stop_after + 2

    options = {"mirror": True, "device": device, "execution": execution, "checkpoints": checkpoints}
    return train(model, graph, images(), spec, DOOR, progress=progress, cancelled=cancelled, **options)


def digest(tensors):
    """SHA-256 over names, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def finished(stop_after, spec, **options):
    """Digests of weights, and of the last checkpoint's tensors, of a run that was stopped, or not."""
    kept = Kept()
    if stop_after is not None:
        with pytest.raises((Stopped, Cancelled)):
            run(network(), spec, kept, stop_after=stop_after, **options)
        assert kept.latest.epoch == stop_after
    model = network(seed=0 if stop_after is None else 9)  # its weights come from the checkpoint
    torch.rand(7)  # what the process drew before must not matter
    reports = run(model, spec, kept, **options)
    assert [report.epoch for report in reports] == list(range(1, EPOCHS + 1))
    return digest(model.state_dict()), digest(kept.latest.tensors), reports[-1].loss


@pytest.fixture(scope="module", params=[{}, {"objective": "standard"}, {"momentum": 0.0}, {"weighting": "pair"}])
def spec(request):
    return recipe(**request.param)


@pytest.fixture(scope="module")
def whole(spec):
    return finished(None, spec)


@pytest.mark.parametrize("stop_after", range(1, EPOCHS + 1))
def test_a_stop_after_any_epoch_leaves_no_trace(spec, whole, stop_after):
    assert finished(stop_after, spec) == whole


@pytest.mark.parametrize("stop_after", range(1, EPOCHS))
def test_nor_does_being_cancelled_where_epochs_are_rarely_saved(spec, whole, stop_after):
    assert finished(stop_after, spec, execution=RARELY) == whole


def test_the_digest_sees_the_last_bit(whole, spec):
    model = network()
    run(model, spec, Kept())
    assert digest(model.state_dict()) == whole[0]
    with torch.no_grad():
        last = model[-1].bias
        last[0] = torch.nextafter(last[0], torch.tensor(torch.inf))
    assert digest(model.state_dict()) != whole[0]


def test_what_a_checkpoint_holds():
    kept = Kept()
    run(network(), recipe(), kept)
    names = {name.split("/")[0] for name in kept.latest.tensors}
    assert names == {"weights", "momentum", "generator"}
    assert {name for name in kept.latest.tensors if name.startswith("generator/")} >= {
        "generator/batches",
        "generator/cpu",
    }
    assert [report["epoch"] for report in kept.latest.state["history"]] == list(range(1, EPOCHS + 1))


@pytest.mark.parametrize("device", [ON_CUDA])
@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("stop_after", range(1, EPOCHS + 1))
def test_on_cuda_too_in_deterministic_mode(device, captured, stop_after, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    options = {"device": device, "execution": Execution(deterministic=True, captured=captured)}
    assert finished(stop_after, recipe(), **options) == finished(None, recipe(), **options)


@pytest.mark.parametrize("device", [ON_CUDA])
def test_captured_steps_are_the_eager_ones(device, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    trained = []
    for captured in (False, True):
        model = network()
        execution = Execution(deterministic=True, captured=captured)
        trained.append((model, run(model, recipe(), Kept(), device=device, execution=execution)))
    (eager, expected), (recorded, found) = trained
    if digest(recorded.state_dict()) == digest(eager.state_dict()):
        assert [r.loss for r in found] == [r.loss for r in expected]
        return
    for name, state in eager.state_dict().items():
        torch.testing.assert_close(recorded.state_dict()[name], state, rtol=1e-3, atol=1e-4)
    assert [r.loss for r in found] == pytest.approx([r.loss for r in expected], rel=1e-3)
    pytest.xfail("captured steps round in another way than eager ones on this device")
