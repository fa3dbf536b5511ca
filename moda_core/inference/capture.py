"""CUDA graphs: a network's kernels recorded once per batch size and started together."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moda_core.training.surroundings import full_float32

__all__ = ["BATCH_SIZES", "Captured", "repeated"]

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
_WARM_UPS = 3
_ONE_CAPTURE = threading.Lock()
"""A capture begins by waiting for the whole device, which no other capture of the process survives."""


@dataclass(frozen=True)
class _Recording:
    """A graph with the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    given: tuple[Tensor, ...]
    logits: Tensor


class Captured:
    """A module's forward pass for a few batch sizes, recorded when it is made.

    A batch is padded up to the next recorded size; a larger one runs unrecorded. One call at a time
    uses the recorded memory.

    Args:
        module: on `device`, called with tensors whose first axis is the batch.
        samples: what it is called with, for a batch of one.

    Attributes:
        size_bytes: of the memory that recorded passes read and write, as the device's free memory shrank meanwhile.
    """

    def __init__(
        self,
        module: nn.Module,
        samples: Sequence[Tensor],
        device: torch.device,
        sizes: Sequence[int] = BATCH_SIZES,
    ) -> None:
        self._module, self._samples, self._device = module, tuple(samples), device
        self._one_at_a_time = threading.Lock()
        with _ONE_CAPTURE, torch.inference_mode(), full_float32(), torch.cuda.device(device):
            self._recordings, self.size_bytes = self._recorded(sorted(sizes, reverse=True))

    def __call__(self, *given: Tensor) -> Float[Tensor, "batch classes"]:
        """Logits of the batch."""
        count = len(given[0])
        size = next((size for size in sorted(self._recordings) if size >= count), None)
        if size is None:
            logits: Tensor = self._module(*given)
            return logits
        with self._one_at_a_time, torch.cuda.device(self._device):
            return self._replayed(self._recordings[size], given, count)

    def _replayed(self, recording: _Recording, given: Sequence[Tensor], count: int) -> Tensor:
        for memory, one in zip(recording.given, given, strict=True):
            memory[:count].copy_(one)
        recording.graph.replay()
        logits = recording.logits[:count].clone()
        torch.cuda.current_stream().synchronize()  # the next caller may be on another stream
        return logits

    def _recorded(self, sizes: Sequence[int]) -> tuple[dict[int, _Recording], int]:
        """By size, the largest first, whose memory the others share; and how many bytes they take."""
        given = {size: tuple(repeated(one, size).to(self._device) for one in self._samples) for size in sizes}
        stream = self._warmed_up(given.values())
        torch.cuda.empty_cache()  # as every capture does, which would hide what it takes
        before = torch.cuda.memory_reserved()
        pool: Any = torch.cuda.graph_pool_handle()
        recordings = {size: self._recording(one, pool, stream) for size, one in given.items()}
        taken = max(0, torch.cuda.memory_reserved() - before)  # less than nothing where others gave memory back
        return recordings, taken + sum(one.nbytes for batch in given.values() for one in batch)

    def _warmed_up(self, batches: Iterable[Sequence[Tensor]]) -> torch.cuda.Stream:
        """A stream of this recording's own, on which the module has run."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for given in batches:
                for _ in range(_WARM_UPS):
                    self._module(*given)
        torch.cuda.current_stream().wait_stream(stream)
        return stream

    def _recording(self, given: tuple[Tensor, ...], pool: Any, stream: torch.cuda.Stream) -> _Recording:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            logits = self._module(*given)
        return _Recording(graph, given, logits)


def repeated(sample: Tensor, count: int) -> Tensor:
    """A batch of one, so many times."""
    return sample.repeat(count, *[1] * (sample.dim() - 1))
