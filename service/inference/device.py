"""Which device computes, and how tensors get there and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Transfers", "chosen_device", "transfers_of"]


def chosen_device(asked: str) -> str:
    """The device to use: the one asked for, and for `auto` CUDA where it is there, else the CPU."""
    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"


class Transfers(Protocol):
    """The way to a device and back; used by the one thread that owns it.

    Attributes:
        overlap: the device works on its own, so that the host may begin a batch before the last one is done.
    """

    overlap: bool

    def send(self, parts: Sequence[Tensor]) -> Tensor:
        """The parts, joined along their first axis, on the device."""

    def fetch(self, result: Tensor) -> Callable[[], Tensor]:
        """Begin to fetch a result; what is returned waits until it is in the host's memory."""


def transfers_of(device: str) -> Transfers:
    """The way to a device."""
    return _CudaTransfers(torch.device(device)) if device.startswith("cuda") else _SameMemory()


class _SameMemory:
    """The device is the host."""

    overlap = False

    def send(self, parts: Sequence[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))

    def fetch(self, result: Tensor) -> Callable[[], Tensor]:
        return lambda: result


class _CudaTransfers:
    """Copies from pinned memory, on a stream of their own, so that they run beside the batch that is computed.

    Results are copied on the stream that computes: a recorded step overwrites its output when it is replayed.
    """

    overlap = True

    def __init__(self, device: torch.device) -> None:
        self.device, self.copies = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, parts: Sequence[Tensor]) -> Tensor:
        joined = torch.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=parts[0].dtype, pin_memory=True)
        torch.cat(tuple(parts), out=joined)
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.copies):
            sent = joined.to(self.device, non_blocking=True)
        computing.wait_stream(self.copies)
        sent.record_stream(computing)
        return sent

    def fetch(self, result: Tensor) -> Callable[[], Tensor]:
        fetched = torch.empty(result.shape, dtype=result.dtype, pin_memory=True).copy_(result, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(self.device))

        def waited() -> Tensor:
            arrived.synchronize()
            return fetched

        return waited
