"""What long work takes from the process around it, and gives back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["borrowed_generators", "deterministic_algorithms", "full_float32", "never"]


def never() -> bool:
    """The answer of work that nobody cancels."""
    return False


class _FullFloat32:
    """Who computes in full float32 at the moment; what cuDNN may do is one setting for all threads."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, False

    def enter(self) -> None:
        """The first one in remembers the setting."""
        with self._lock:
            if not self._inside:
                self._before = torch.backends.cudnn.allow_tf32
                torch.backends.cudnn.allow_tf32 = False
            self._inside += 1

    def leave(self) -> None:
        """The last one out restores it."""
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.backends.cudnn.allow_tf32 = self._before


_FULL_FLOAT32 = _FullFloat32()


@contextmanager
def full_float32() -> Iterator[None]:
    """Convolutions on CUDA in float32 proper, not TF32, which keeps 10 bits of every factor.

    Whether a unit is active, and which of two logits is larger, must not hang on the rounding. As long
    as any thread is inside, no thread of the process gets TF32.
    """
    _FULL_FLOAT32.enter()
    try:
        yield
    finally:
        _FULL_FLOAT32.leave()


@contextmanager
def borrowed_generators(device: torch.device, seed: int) -> Iterator[dict[str, torch.Generator]]:
    """The random generators of a run, each seeded: ``batches``, its own, and the global ones of its devices.

    Dropout draws from the global ones (``cpu``, ``cuda``) and takes no other. They are as before
    at the end, and so is cuDNN's search for fast convolutions, which is on meanwhile.
    """
    devices = _cuda_devices(device)
    batches = torch.Generator().manual_seed(seed)
    searched = torch.backends.cudnn.benchmark
    with torch.random.fork_rng(devices):
        generators = {"cpu": torch.default_generator}
        if devices:
            generators["cuda"] = torch.cuda.default_generators[devices[0]]
        for generator in generators.values():
            generator.manual_seed(int(torch.randint(2**63 - 1, (), generator=batches)))
        torch.backends.cudnn.benchmark = True
        try:
            yield generators | {"batches": batches}
        finally:
            torch.backends.cudnn.benchmark = searched


@contextmanager
def deterministic_algorithms(wanted: bool = True) -> Iterator[None]:
    """Only algorithms that give one result to the bit; an operation that has none raises.

    On CUDA, matrix products need ``CUBLAS_WORKSPACE_CONFIG=:4096:8`` in the environment for it,
    before the process first uses the device; torch says so where it is missing.
    """
    now = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), now.deterministic, now.benchmark
    if wanted:
        torch.use_deterministic_algorithms(True)
        now.deterministic, now.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        now.deterministic, now.benchmark = before[1:]


def _cuda_devices(device: torch.device) -> list[int]:
    if device.type != "cuda":
        return []
    current = torch.cuda.current_device()  # starts CUDA, before which it has no generators
    return [current if device.index is None else device.index]
