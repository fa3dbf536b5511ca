"""Which device computes."""

from __future__ import annotations

import torch

__all__ = ["chosen_device"]


def chosen_device(asked: str) -> str:
    """The device to use: the one asked for, and for `auto` CUDA where it is there, else the CPU."""
    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"
