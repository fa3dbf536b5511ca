"""What a training run leaves behind between epochs, so that another process can go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from moda_core.errors import Corrupt

__all__ = ["Checkpoint", "Checkpoints", "restore", "snapshot"]


@dataclass(frozen=True)
class Checkpoint:
    """A run after a whole epoch.

    Attributes:
        epoch: the epochs done, from 1.
        tensors: on the CPU; weights and buffers as ``weights/<name>``, momentum as
            ``momentum/<name>``, states of random generators (uint8) as ``generator/<name>``.
        state: plain JSON data: the spec's digest, how many ranks trained, and the reports of the epochs done.
    """

    epoch: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


@runtime_checkable
class Checkpoints(Protocol):
    """Where the checkpoints of one run are kept."""

    def load(self) -> Checkpoint | None:
        """The latest whole checkpoint of this run, or None."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint, whole or not at all."""


def snapshot(
    model: nn.Module,
    optimizer: Optimizer,
    generators: Mapping[str, torch.Generator],
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """Copies of all that a run changes, as `Checkpoint.tensors`; on another device for those not to be stored."""
    weights = {f"weights/{name}": _copy(tensor, device) for name, tensor in model.state_dict().items()}
    momentum = {
        f"momentum/{name}": _copy(buffer, device)
        for name, parameter in model.named_parameters()
        if (buffer := optimizer.state.get(parameter, {}).get("momentum_buffer")) is not None
    }
    states = {f"generator/{name}": generator.get_state() for name, generator in generators.items()}
    return weights | momentum | states


def restore(
    tensors: Mapping[str, Tensor],
    model: nn.Module,
    optimizer: Optimizer,
    generators: Mapping[str, torch.Generator],
    *,
    begun: bool = True,
) -> None:
    """Put back, in place, what `snapshot` copied; a generator of another kind of device keeps its state.

    With `begun` the tensors are of a run after its first step, when every parameter that is trained
    has momentum, unless the descent has none.

    Raises:
        Corrupt: if the tensors are not those of this model; it may then be partly overwritten.
    """
    momentum = _below("momentum/", tensors)
    _check_momentum(set(momentum), model, optimizer, begun)
    if "generator/batches" not in tensors:
        raise _misfit("no state of the generator of batches")
    try:
        model.load_state_dict(_below("weights/", tensors))
        optimizer.state.clear()
        for name, parameter in model.named_parameters():
            if name in momentum:
                buffer = torch.empty_like(parameter, requires_grad=False)
                optimizer.state[parameter]["momentum_buffer"] = buffer.copy_(momentum[name])
        for name, state in _below("generator/", tensors).items():
            if name in generators:
                generators[name].set_state(state)
    except (RuntimeError, TypeError) as error:
        raise _misfit(str(error)) from error


def _check_momentum(names: set[str], model: nn.Module, optimizer: Optimizer, begun: bool) -> None:
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    with_momentum = any(group["momentum"] > 0 for group in optimizer.param_groups)
    if names != (trained if with_momentum and (begun or names) else set()):
        raise _misfit(f"momentum of {len(names)} parameters, of {len(trained)} that are trained")


def _misfit(problem: str) -> Corrupt:
    return Corrupt(f"a checkpoint does not fit its run: {problem}", "delete it; training then begins anew")


def _copy(tensor: Tensor, device: torch.device | str) -> Tensor:
    return tensor.detach().to(device, copy=True, memory_format=torch.contiguous_format)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
