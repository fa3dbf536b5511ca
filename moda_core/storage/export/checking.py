"""Whether a file answers as the model does, asked before anyone gets it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from moda_core.errors import NotExportable
from moda_core.storage.export.programs import Entrance
from moda_core.training.surroundings import full_float32

__all__ = ["TOLERANCE", "Answer", "check_answers"]

TOLERANCE = 1e-4
"""Largest difference between two logits, as a part of the largest logit, or of 1 where that is smaller."""

Answer = Callable[[Sequence[UInt8[Tensor, "batch _ _ _"]]], Float[Tensor, "batch classes"]]

_BATCHES = (1, 2, 5)
_SEED = 0


def check_answers(entrance: Entrance, answer: Answer, runtime: str) -> None:
    """Compare a file's logits with the model's own, in float32, for batches of several sizes.

    Raises:
        NotExportable: when they differ by more than `TOLERANCE`, or are not finite.
    """
    generator = torch.Generator().manual_seed(_SEED)
    for count in _BATCHES:
        pixels = [_images(count, channels, size, generator) for channels, size in entrance.shapes]
        with torch.inference_mode(), full_float32():
            expected = entrance(*pixels)
        _compare(expected, answer(pixels), runtime)


def _compare(expected: Float[Tensor, "batch classes"], got: Tensor, runtime: str) -> None:
    remedy = "download it as safetensors"
    if got.shape != expected.shape:
        problem = f"{runtime} answers {tuple(got.shape)} where the model answers {tuple(expected.shape)}"
        raise NotExportable(problem, remedy)
    scale = max(1.0, float(expected.abs().max()))
    error = float((got - expected).abs().max()) / scale
    if not error <= TOLERANCE:  # a difference that is not a number is refused too
        problem = (
            f"{runtime} answers differently from the model: by {error:.1e} of the largest logit, not {TOLERANCE:.0e}"
        )
        raise NotExportable(problem, remedy)


def _images(count: int, channels: int, size: int, generator: torch.Generator) -> UInt8[Tensor, "batch _ _ _"]:
    """Noise, each image brighter than the one before it: pure noise looks too much alike to a network."""
    noise = torch.rand((count, channels, size, size), generator=generator)
    brightest = torch.linspace(255 / count, 255, count).view(-1, 1, 1, 1)
    return (noise * brightest).round().to(torch.uint8)
