"""How a training run is carried out, which is no part of what is asked for."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EAGER", "Execution"]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """The ways of running the same training; none of them enters a spec or its digest.

    The default runs step by step as written, and on the CPU gives one result to the bit for a seed.

    Attributes:
        compiled: forward and backward pass go through `torch.compile`. Rounding and what dropout draws
            differ from the default's, and the first step takes as long as the compilation.
        captured: whole steps are recorded once as a CUDA graph and replayed, so that the device never
            waits for Python; CUDA only.
        deterministic: cuDNN and torch use deterministic algorithms only, so that on CUDA too one seed
            gives one result to the bit.
    """

    compiled: bool = False
    captured: bool = False
    deterministic: bool = False


EAGER = Execution()
"""Step by step, as written."""
