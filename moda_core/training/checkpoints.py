"""What a training run leaves behind between epochs, so that another process can go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from moda_core.errors import Corrupt

__all__ = ["Checkpoint", "Checkpoints", "captured", "restore"]


@dataclass(frozen=True)
class Checkpoint:
    """A run after a whole epoch.

    Attributes:
        epoch: the epochs done, from 1.
        tensors: on the CPU; weights and buffers as ``weights/<name>``, momentum as
            ``momentum/<name>``, states of random generators (uint8) as ``generator/<name>``.
        state: plain JSON data: the spec's digest and the reports of the epochs done.
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


def captured(
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
) -> None:
    """Put back, in place, what `captured` copied; a generator of another kind of device keeps its state.

    Raises:
        Corrupt: if the tensors are not those of this model; it may then be partly overwritten.
    """
    try:
        model.load_state_dict(_below("weights/", tensors))
        momentum = _below("momentum/", tensors)
        optimizer.state.clear()
        for name, parameter in model.named_parameters():
            if name in momentum:
                buffer = torch.empty_like(parameter, requires_grad=False)
                optimizer.state[parameter]["momentum_buffer"] = buffer.copy_(momentum[name])
        for name, state in _below("generator/", tensors).items():
            if name in generators:
                generators[name].set_state(state)
    except (RuntimeError, TypeError) as error:
        raise Corrupt(
            f"a checkpoint does not fit its network: {error}", "delete it; training then begins anew"
        ) from error


def _copy(tensor: Tensor, device: torch.device | str) -> Tensor:
    return tensor.detach().to(device, copy=True, memory_format=torch.contiguous_format)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
