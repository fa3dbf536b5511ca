import math

import pytest
import torch

from moda_core.errors import InvalidInput
from moda_core.training.execution import Execution

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("ways", "device", "processes", "named"),
    [
        (["captured"], CPU, 1, "captured"),
        (["captured"], CUDA, 2, "captured"),
        (["synced_batch_norm"], CPU, 1, "synced_batch_norm"),
        (["synced_batch_norm"], CPU, 2, "synced_batch_norm"),
        (["synced_batch_norm", "compiled"], CUDA, 2, "synced_batch_norm"),
        (["synced_batch_norm", "captured"], CUDA, 2, "captured"),
    ],
)
def test_ways_that_do_not_go_here_are_named_with_a_remedy(ways, device, processes, named):
    with pytest.raises(InvalidInput, match=rf"{named}: .* \(got True\); leave it off") as refused:
        Execution(**dict.fromkeys(ways, True)).check(device, processes)
    assert refused.value.field == named


@pytest.mark.parametrize(
    ("ways", "device", "processes"),
    [
        ([], CPU, 4),
        (["compiled", "deterministic"], CPU, 2),
        (["compiled", "captured", "deterministic", "synced_batch_norm"], CUDA, 1),
        (["synced_batch_norm", "deterministic"], CUDA, 8),
    ],
)
def test_others_pass(ways, device, processes):
    Execution(**dict.fromkeys(ways, True)).check(device, processes)


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_a_time_between_checkpoints_is_a_length_of_time(seconds):
    with pytest.raises(InvalidInput, match="seconds_between_checkpoints"):
        Execution(seconds_between_checkpoints=seconds)
