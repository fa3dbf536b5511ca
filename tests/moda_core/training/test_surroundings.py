import pytest
import torch

from moda_core.training.surroundings import borrowed_generators


def test_every_stream_is_seeded_and_none_is_the_same():
    drawn = []
    for _ in range(2):
        with borrowed_generators(torch.device("cpu"), seed=4) as generators:
            assert generators["cpu"] is torch.default_generator
            drawn.append([torch.rand(3, generator=generators[name]).tolist() for name in ("cpu", "batches")])
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]


def fail_inside():
    with borrowed_generators(torch.device("cpu"), seed=0):
        torch.rand(8)
        raise ValueError("inside")


def test_an_error_inside_gives_everything_back():
    state, benchmark = torch.get_rng_state(), torch.backends.cudnn.benchmark
    with pytest.raises(ValueError, match="inside"):
        fail_inside()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.cudnn.benchmark is benchmark
