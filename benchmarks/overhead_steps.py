"""Steps of standard and modular training beside each other, timed in turn.

Three ways of one network from the same weights: `standard`, `modular` (as the trainer does it), and
`naive`: modular as the method's public code does it, with a hook on every activation and a matrix of
the cosine similarities of all pairs in the batch, layer by layer.

Needs nothing beyond torch and moda_core, so that it runs wherever training does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from moda_core.architectures.catalogue import complete
from moda_core.data.batches import Batches
from moda_core.data.dataset import Images
from moda_core.errors import InvalidInput
from moda_core.modularity.measures import whole_flops
from moda_core.specs import InputSpec
from moda_core.structure.unitgraph import UnitGraph, unit_graph
from moda_core.training.criteria import Criterion, Evaluated, Modular, Standard
from moda_core.training.execution import EAGER, Execution
from moda_core.training.initial import initial_network
from moda_core.training.steps import LAYOUT, Step, lay_out

__all__ = ["BATCHES_A_RUN", "PEAK_FLOPS", "WAYS", "Naive", "cosines", "measure", "noise", "pairwise_losses"]

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12}
"""Dense bfloat16 FLOPs per second of the SXM form, as NVIDIA states them, by a part of the device's name."""

WARM_UP = 6
"""Steps of each way before the clock runs: more than a recording needs."""

BATCHES_A_RUN = 20
"""On CUDA, between two moments at which the device is waited for."""

_ACTIVATIONS = (nn.ReLU, nn.ReLU6)


class Naive:
    """Modular training the public code's way, for networks whose activations are modules or `functional.relu`."""

    terms: tuple[str, ...] = ("affinity", "dispersion", "compactness")

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, pixels: Tensor, labels: Tensor) -> Evaluated:
        """Logits, eq. 7 with its usual weights, and its three terms."""
        outputs: list[Tensor] = []
        logits = self._hooked(pixels, outputs)
        terms = torch.stack([pairwise_losses(output, labels) for output in outputs]).mean(0)
        weighted = terms[0] + terms[1] + 0.3 * terms[2]
        fit = functional.cross_entropy(logits.float(), labels)
        return Evaluated(logits, fit + weighted, fit, terms)

    def _hooked(self, pixels: Tensor, outputs: list[Tensor]) -> Tensor:
        """A forward pass in which every activation leaves its output in a list."""
        hooks = [
            module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
            for module in self.network.modules()
            if isinstance(module, _ACTIVATIONS)
        ]
        called = functional.relu

        def noted(value: Tensor, inplace: bool = False) -> Tensor:
            output = called(value, inplace)
            outputs.append(output)
            return output

        if not hooks:  # a ResNet calls the function, which has no hooks
            functional.relu = noted  # type: ignore[assignment]
        try:
            logits: Tensor = self.network(pixels)
        finally:
            functional.relu = called
            for hook in hooks:
                hook.remove()
        return logits


def pairwise_losses(output: Tensor, labels: Tensor) -> Tensor:
    """Affinity, dispersion and compactness of one layer from the cosine of every pair of samples."""
    vectors = output.abs().float()
    vectors = vectors.mean(dim=(2, 3)) if vectors.dim() == 4 else vectors
    similarity = cosines(vectors)
    other = labels[:, None] != labels[None]
    same = ~other & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    affinity = 1 - (similarity * same).sum() / same.sum().clamp(min=1)
    dispersion = (similarity * other).sum() / other.sum().clamp(min=1)
    return torch.stack((affinity, dispersion, vectors.mean()))


def cosines(vectors: Tensor) -> Tensor:
    """The cosine of every pair of rows, in one matrix product of the rows at length 1."""
    directions = functional.normalize(vectors, dim=1, eps=1e-8)
    with torch.autocast(vectors.device.type, enabled=False):
        return directions @ directions.T


WAYS: dict[str, Callable[[nn.Module, UnitGraph], Criterion]] = {
    "standard": lambda network, _graph: Standard(network),
    "modular": Modular,
    "naive": lambda network, _graph: Naive(network),
}


def noise(images: int, classes: int = 10, channels: int = 3, size: int = 32) -> Images:
    """Images of no meaning: the time of a step does not depend on what it sees."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, channels, size, size), generator=draw).to(torch.uint8)
    return Images(pixels, torch.randint(classes, (images,), generator=draw))


def measure(
    model: str,
    *,
    width: float = 1.0,
    images: Images | None = None,
    classes: int = 10,
    batch_size: int = 128,
    epochs: int = 2,
    device: torch.device | str = "cpu",
    execution: Execution = EAGER,
    ways: Iterable[str] = tuple(WAYS),
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """One row for each way: milliseconds a step, the ratio to standard of steps on one batch, and speed.

    All ways see the same augmented batches, one after the other batch by batch, so that whatever else
    the machine does happens to all of them; each is first as often as the others. On CUDA the ways
    take turns by runs of 20 batches, as the device is waited for at the end of each. `naive` always
    runs eagerly: hooks cannot be recorded.

    The speed, ``images/s``, is that of steps on batches that are ready: making and augmenting them,
    which a training does too, is not in it.

    Raises:
        InvalidInput: for too few images to time a run of batches.
    """
    images = noise(2560, classes) if images is None else images
    device = torch.device(device)
    runs = 1 if device.type == "cpu" else BATCHES_A_RUN
    if len(images) < runs * batch_size:
        raise InvalidInput(
            "images", len(images), f"fewer than {runs} whole batches", f"give at least {runs * batch_size} images"
        )
    architecture = complete(model, classes=classes, channels=images.pixels.shape[1], image_size=None, width=width)
    channels = architecture.channels
    rule = InputSpec(
        image_size=architecture.image_size, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels
    )
    generator = torch.Generator().manual_seed(0)
    batches = Batches(
        images, rule, batch_size=batch_size, generator=generator, crop_padding=4, flip=True, device=device
    )
    graph = unit_graph(architecture)
    steps = {}
    for way in ways:
        network = initial_network(architecture, 0).to(device).train()
        lay_out(network, LAYOUT)
        steps[way] = _step(WAYS[way](network, graph), network, device, EAGER if way == "naive" else execution)
    seconds = _timed(steps, batches, epochs, batch_size, runs, device, progress)
    flops = 3 * whole_flops(graph) * batch_size
    common = {"model": model, "width": width, "batch": batch_size, "execution": _named(execution)}
    return [common | _row(way, seconds, batch_size, flops, device) for way in steps]


def _step(criterion: Criterion, network: nn.Module, device: torch.device, execution: Execution) -> Step:
    on_cuda = device.type == "cuda"
    rate = torch.tensor(0.01, device=device) if on_cuda else 0.01
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, nesterov=True, fused=on_cuda)
    return Step(criterion, optimizer, device, execution)


def _timed(
    steps: dict[str, Step],
    batches: Batches,
    epochs: int,
    size: int,
    runs: int,
    device: torch.device,
    progress: Callable[[str], None],
) -> dict[str, list[tuple[float, float]]]:
    """For each way the wall-clock and processor seconds of each step, or of the mean of a run of steps."""
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in steps}
    warm, turn = dict.fromkeys(steps, False), list(steps)
    for epoch in range(epochs):
        whole = [(pixels, labels) for pixels, labels in batches if len(labels) == size]
        for start in range(0, len(whole) - runs + 1, runs):
            for way in turn:
                step, part = steps[way], whole[start : start + runs]
                if not warm[way]:
                    _clock(partial(_repeat, step, part, WARM_UP if device.type == "cuda" else 2), device)
                    warm[way] = True
                wall, cpu = _clock(partial(_repeat, step, part, runs), device)
                taken[way].append((wall / runs, cpu / runs))
            turn = [*turn[1:], turn[0]]
            progress(f"epoch {epoch + 1} of {epochs}, batch {start + runs} of {len(whole)}")
    return taken


def _repeat(step: Step, part: list[tuple[Tensor, Tensor]], times: int) -> None:
    for number in range(times):
        step(*part[number % len(part)])


def _clock(work: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Wall-clock and processor seconds of some work, the device's included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def _row(
    way: str, seconds: dict[str, list[tuple[float, float]]], batch_size: int, flops: int, device: torch.device
) -> dict[str, Any]:
    wall, cpu = (statistics.median(one[clock] for one in seconds[way]) for clock in (0, 1))
    row: dict[str, Any] = {"way": way, "steps": len(seconds[way]), "step ms": 1e3 * wall, "processor ms": 1e3 * cpu}
    for name, clock in (("ratio", 0), ("processor ratio", 1)):
        pairs = zip(seconds[way], seconds.get("standard", ()), strict=False)
        ratios = sorted(ours[clock] / theirs[clock] for ours, theirs in pairs)
        row[name] = statistics.median(ratios) if ratios else None
        row[f"{name} quartiles"] = [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]] if ratios else None
    row["images/s"] = batch_size / wall
    row["TFLOP/s"] = flops / wall / 1e12
    row["share of peak"] = _share(flops / wall, device)
    return row


def _share(rate: float, device: torch.device) -> float | None:
    """Of the device's stated peak, where it is known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate / peak for part, peak in PEAK_FLOPS.items() if part in name), None)


def _named(execution: Execution) -> str:
    chosen = [name for name in ("compiled", "captured", "deterministic") if getattr(execution, name)]
    return "+".join(chosen) or "eager"
