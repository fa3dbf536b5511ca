"""What an experiment was run on: stored with every result."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torchvision

__all__ = ["COMMIT", "commit", "conditions"]

COMMIT = "MODA_COMMIT"
"""The environment variable that names the commit of a copy without its git history."""


def conditions(device: torch.device | str) -> dict[str, Any]:
    """Hardware, versions and commit."""
    on_cuda = torch.device(device).type == "cuda"
    return {
        "hardware": torch.cuda.get_device_name(device) if on_cuda else f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "commit": commit(),
    }


@lru_cache(maxsize=1)
def commit() -> str:
    """The commit that runs, with a ``+`` where the working tree differs from it."""
    if named := os.environ.get(COMMIT):
        return named
    folder = Path(__file__).parent
    try:
        head = _git(folder, "rev-parse", "--short", "HEAD")
        return head + ("+" if _git(folder, "status", "--porcelain", "../moda_core", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
