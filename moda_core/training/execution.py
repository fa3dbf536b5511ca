"""How a training run is carried out, which is no part of what is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from moda_core.errors import InvalidInput

__all__ = ["EAGER", "Execution"]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """The ways of running the same training; none of them enters a spec or its digest.

    The default runs step by step as written, and on the CPU gives one result to the bit for a seed.

    Attributes:
        compiled: forward and backward pass go through `torch.compile`. Rounding and what dropout draws
            differ from the default's, and the first step takes as long as the compilation. On one CPU a
            seed still gives one result to the bit, though the run be stopped and resumed.
        captured: whole steps are recorded once as a CUDA graph and replayed, so that the device never
            waits for Python; CUDA only.
        deterministic: cuDNN and torch use deterministic algorithms only, so that on CUDA too one seed
            gives one result to the bit.
        synced_batch_norm: of several processes on CUDA, batch norm sees the joint batch and not each its own
            share, at the price of two exchanges a layer and step; one process keeps its own. Not with `compiled`.
        seconds_between_checkpoints: an epoch that ends sooner after the last save is not saved, the
            run's last excepted; 0 saves every epoch. What a process that dies has done since is lost.
    """

    compiled: bool = False
    captured: bool = False
    deterministic: bool = False
    synced_batch_norm: bool = False
    seconds_between_checkpoints: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.seconds_between_checkpoints < math.inf:
            raise InvalidInput(
                "seconds_between_checkpoints",
                self.seconds_between_checkpoints,
                "not a length of time",
                "give a number of seconds of at least 0",
            )

    def check(self, device: torch.device, processes: int) -> None:
        """Whether so many processes can train like this on such a device.

        Raises:
            InvalidInput: naming what is in the way.
        """
        on_cuda, together = device.type == "cuda", processes > 1
        if self.captured and not on_cuda:
            raise InvalidInput("captured", True, f"there are no CUDA graphs on {device}", "leave it off")
        if self.captured and together:
            problem, remedy = "steps that wait for other processes are not recorded", "leave it off, or use one process"
            raise InvalidInput("captured", True, problem, remedy)
        if self.synced_batch_norm and not on_cuda:
            problem, remedy = f"torch has no such batch norm on {device}", "leave it off"
            raise InvalidInput("synced_batch_norm", True, problem, remedy)
        if self.synced_batch_norm and self.compiled and together:
            problem, remedy = "torch.compile stops at every norm of this kind", "leave it off, or compiled"
            raise InvalidInput("synced_batch_norm", True, problem, remedy)


EAGER = Execution()
"""Step by step, as written."""
