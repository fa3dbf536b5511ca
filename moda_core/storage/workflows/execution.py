"""Where and with what something ran: stored beside what was asked, never part of its identity."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

__all__ = ["execution"]


def execution(device: str) -> dict[str, Any]:
    """Threads, device class and library versions of this process."""
    on_cuda = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_cuda else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),  # importing it takes as long as importing torch
    }
