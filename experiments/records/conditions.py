"""What an experiment was run on: stored with every result."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

__all__ = ["COMMIT", "commit", "conditions", "hardware", "invocation", "portable"]

COMMIT = "MODA_COMMIT"
"""The environment variable that names the commit of a copy without its git history."""


def conditions(device: torch.device | str) -> dict[str, Any]:
    """Hardware, versions and commit."""
    return {
        "hardware": hardware(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": version("torchvision"),
        "commit": commit(),
    }


def hardware(device: torch.device | str) -> str:
    """The name of a CUDA device, the kind and number of processor cores of any other."""
    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {os.cpu_count()} cores"


def invocation(device: torch.device | str) -> dict[str, Any]:
    """The conditions of a program that measures: those of the place, its command and the moment."""
    program, *arguments = sys.argv
    words = ["python", "-m", f"experiments.{Path(program).stem}", *map(portable, arguments)]
    return {**conditions(device), "command": " ".join(words), "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}


def portable(argument: str) -> str:
    """An argument without the folders of this machine: of an absolute path only its last part."""
    name, equals, path = argument.rpartition("=")
    return name + equals + (Path(path).name if path.startswith("/") else path)


@lru_cache(maxsize=1)
def commit(root: Path = Path(__file__).parents[2]) -> str:
    """The commit that runs, with a ``+`` where a source file of the working tree differs from it or is not in it."""
    if named := os.environ.get(COMMIT):
        return named
    sources = [f":(glob){package}/**/*.py" for package in ("experiments", "moda_core", "benchmarks")]
    try:
        head = _git(root, "rev-parse", "--short", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=all", *sources) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
