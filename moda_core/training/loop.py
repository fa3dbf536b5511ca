"""Activation-driven training: the paper's recipe, resumable after every epoch.

SGD with Nesterov momentum; the learning rate falls along a cosine, epoch by epoch, from its first
value towards zero after the last. On CUDA the network runs in bfloat16 autocast and channels-last;
on the CPU in float32, where one seed gives one result to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from moda_core.data.batches import Batches
from moda_core.data.dataset import Images
from moda_core.errors import Cancelled, Conflict, InvalidInput, TrainingFailure, Untraceable
from moda_core.specs import InputSpec, TrainingSpec
from moda_core.structure.activations import with_activations
from moda_core.structure.unitgraph import UnitGraph
from moda_core.training.checkpoints import Checkpoint, Checkpoints, captured, restore
from moda_core.training.objectives import modular_losses
from moda_core.training.reports import EpochReport
from moda_core.training.surroundings import borrowed_generators, never

__all__ = ["learning_rate", "train"]

_Forward = Callable[[Tensor], tuple[Tensor, Mapping[str, Tensor]]]


def learning_rate(spec: TrainingSpec, epoch: int) -> float:
    """The rate of an epoch, counted from 0: half a cosine over all epochs."""
    return spec.learning_rate * (1 + math.cos(math.pi * epoch / spec.epochs)) / 2


def train(
    model: nn.Module,
    graph: UnitGraph | None,
    images: Images,
    spec: TrainingSpec,
    input: InputSpec,  # noqa: A002  # the name that every model gives it
    *,
    mirror: bool,
    device: torch.device | str,
    checkpoints: Checkpoints | None = None,
    progress: Callable[[EpochReport], None] | None = None,
    cancelled: Callable[[], bool] = never,
) -> tuple[EpochReport, ...]:
    """Train `model` in place, from its weights or from the latest checkpoint, and leave it in eval mode.

    The caller's random generators and convolution settings are as before when it returns or raises.

    `images` are all that is trained on: `spec.fraction` has been taken already. `mirror` says whether
    mirror images keep their class, for a spec that leaves `flip` open. `graph` may be None for the
    standard objective. A checkpoint is saved after every epoch, before `progress` hears of it;
    `cancelled` is asked before every step.

    Returns:
        The reports of all epochs, those before a resumption included.

    Raises:
        Cancelled: when `cancelled` said so.
        TrainingFailure: when loss or weights were no longer finite; no checkpoint holds them.
        Conflict, Corrupt: when the checkpoint is of another run, or broken.
        InvalidInput: for batches of one sample and a network with batch norm.
        Untraceable: for the modular objective without a graph.
    """
    flip = mirror if spec.flip is None else spec.flip
    with borrowed_generators(torch.device(device), spec.seed) as generators:
        run = _Run(model, graph, spec, torch.device(device), generators)
        batches = Batches(
            images,
            input,
            batch_size=spec.batch_size,
            generator=generators["batches"],
            crop_padding=spec.crop_padding,
            flip=flip,
            device=device,
        )
        checkpoint = None if checkpoints is None else checkpoints.load()
        if checkpoint is not None:
            run.resume(checkpoint)
        while len(run.history) < spec.epochs:
            report = run.epoch(batches, cancelled)
            if checkpoints is not None:
                checkpoints.save(run.checkpoint())
            if progress is not None:
                progress(report)
    _lay_out(model.eval(), torch.contiguous_format)
    return tuple(run.history)


class _Run:
    """A training run: all that changes from step to step, and the reports so far."""

    def __init__(
        self,
        model: nn.Module,
        graph: UnitGraph | None,
        spec: TrainingSpec,
        device: torch.device,
        generators: Mapping[str, torch.Generator],
    ) -> None:
        _check_batch_norm(model, spec)
        self.on_cuda = device.type == "cuda"
        self.layout = torch.channels_last if self.on_cuda else torch.contiguous_format
        self.model = _lay_out(model.to(device).train(), self.layout)
        self.forward = _forward(model, graph, spec)
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=spec.learning_rate,
            momentum=spec.momentum,
            nesterov=spec.momentum > 0,
            weight_decay=spec.weight_decay,
            fused=self.on_cuda,
        )
        self.spec, self.device, self.generators = spec, device, generators
        self.history: list[EpochReport] = []
        self.seconds: list[float] = []

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on after a checkpoint of the same spec."""
        if checkpoint.state.get("spec") != self.spec.digest():
            raise Conflict("the checkpoint belongs to another training spec", "give every spec its own checkpoints")
        restore(checkpoint.tensors, self.model, self.optimizer, self.generators)
        self.history = [EpochReport.from_json(report) for report in checkpoint.state["history"]]

    def checkpoint(self) -> Checkpoint:
        """The run as it is between two epochs."""
        return Checkpoint(
            epoch=len(self.history),
            tensors=captured(self.model, self.optimizer, self.generators),
            state={"spec": self.spec.digest(), "history": [report.to_json() for report in self.history]},
        )

    def epoch(self, batches: Batches, cancelled: Callable[[], bool]) -> EpochReport:
        """One pass over the images; nothing is read back from the device before its end."""
        begun, samples = time.perf_counter(), 0
        rate = learning_rate(self.spec, len(self.history))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sums = torch.zeros(6, dtype=torch.float64, device=self.device)
        for pixels, labels in batches:
            if cancelled():
                raise Cancelled("training")
            sums += self._step(pixels, labels) * len(labels)
            samples += len(labels)
        means = (sums / samples).tolist()
        self._check_finite(means, rate)
        return self._reported(means, rate, samples, time.perf_counter() - begun)

    def _step(
        self, pixels: Float[Tensor, "batch channels height width"], labels: Int64[Tensor, "batch"]
    ) -> Float[Tensor, "6"]:
        """Descend once along eq. 7: loss, its four parts, and accuracy, all means over the batch."""
        spec = self.spec
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.on_cuda):
            logits, activations = self.forward(pixels.contiguous(memory_format=self.layout))
        cross_entropy = nn.functional.cross_entropy(logits.float(), labels)
        losses = modular_losses(
            activations, labels, logits.shape[1], weighting=spec.weighting, compactness=spec.compactness
        )
        loss = cross_entropy + losses.weighted(spec.alpha, spec.beta, spec.gamma)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        parts = (loss, cross_entropy, losses.affinity, losses.dispersion, losses.compactness, accuracy)
        return torch.stack(parts).detach()

    def _check_finite(self, means: list[float], rate: float) -> None:
        weights = [t.isfinite().all() for t in self.model.state_dict().values() if t.is_floating_point()]
        if not (all(map(math.isfinite, means)) and torch.stack(weights).all()):
            raise TrainingFailure(
                f"the loss was no longer finite in epoch {len(self.history) + 1} at learning rate {rate:g}",
                "lower the learning rate or the weights of the modular losses",
            )

    def _reported(self, means: list[float], rate: float, samples: int, seconds: float) -> EpochReport:
        loss, cross_entropy, affinity, dispersion, compactness, accuracy = means
        epoch = len(self.history) + 1
        self.seconds.append(seconds)
        report = EpochReport(
            epoch=epoch,
            epochs=self.spec.epochs,
            loss=loss,
            cross_entropy=cross_entropy,
            affinity=affinity,
            dispersion=dispersion,
            compactness=compactness,
            accuracy=accuracy,
            learning_rate=rate,
            samples_per_s=samples / seconds,
            seconds=seconds,
            remaining_s=(self.spec.epochs - epoch) * sum(self.seconds) / len(self.seconds),
        )
        self.history.append(report)
        return report


def _forward(model: nn.Module, graph: UnitGraph | None, spec: TrainingSpec) -> _Forward:
    """The network as logits and the activation vectors to regulate: none for the standard objective."""
    if spec.objective == "standard":
        return lambda pixels: (model(pixels), {})
    if graph is None:
        raise Untraceable("this network has no unit graph", "train it with the standard objective")
    return with_activations(graph, model).train()


def _lay_out(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    return model.to(memory_format=layout)  # type: ignore[call-overload,no-any-return]  # torch's stubs lack it


def _check_batch_norm(model: nn.Module, spec: TrainingSpec) -> None:
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if spec.batch_size == 1 and any(isinstance(module, norms) for module in model.modules()):
        raise InvalidInput(
            "batch_size", 1, "a network with batch norm cannot train on single samples", "give 2 or more"
        )
