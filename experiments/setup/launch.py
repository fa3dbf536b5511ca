"""One process or several: what ``torchrun`` tells each of its processes by the environment.

torchrun --nproc-per-node 8 -m experiments.rq1 ...     eight processes, each with a device of its own
python -m experiments.rq1 ...                          one process, on the device that it was told
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from moda_core.errors import InvalidInput
from moda_core.training.distributed import ALONE, Ranks, joined

__all__ = ["Place", "place", "ranks"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process stands among those that were started with it.

    Attributes:
        local_rank: among the processes of this host, which is the number of its CUDA device.
        init_method: where all of them meet.
    """

    rank: int
    local_rank: int
    world: int
    init_method: str


def place(environment: Mapping[str, str]) -> Place | None:
    """What torchrun said; None without it.

    Raises:
        InvalidInput: for an environment that says only a part of it.
    """
    if "WORLD_SIZE" not in environment:
        return None
    try:
        return Place(
            rank=int(environment["RANK"]),
            local_rank=int(environment["LOCAL_RANK"]),
            world=int(environment["WORLD_SIZE"]),
            init_method=f"tcp://{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}",
        )
    except (KeyError, ValueError) as error:
        raise InvalidInput(
            "WORLD_SIZE",
            environment["WORLD_SIZE"],
            f"the rest of what torchrun says is missing or broken: {error}",
            "start the program with torchrun, or unset WORLD_SIZE",
        ) from error


@contextmanager
def ranks(device: str = "cpu") -> Iterator[tuple[Ranks, torch.device]]:
    """This process among those that torchrun started, and its own device of the kind that was asked for."""
    found = place(os.environ)
    if found is None or found.world == 1:
        yield ALONE, torch.device(device)
        return
    own, backend = torch.device("cpu"), "gloo"
    if torch.device(device).type == "cuda":
        own, backend = torch.device("cuda", found.local_rank), "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(own)
    with joined(backend=backend, rank=found.rank, world=found.world, init_method=found.init_method) as together:
        yield together, own
