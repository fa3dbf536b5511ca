import threading

import pytest
import torch

from moda_core.training.surroundings import borrowed_generators, full_float32


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


def test_float32_stays_full_until_the_last_thread_is_out_and_then_is_as_before():
    entered, leave, before = threading.Event(), threading.Event(), torch.backends.cudnn.allow_tf32

    def other():
        with full_float32():
            entered.set()
            leave.wait(10)

    torch.backends.cudnn.allow_tf32 = True
    try:
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(10)
        with full_float32():
            leave.set()
            thread.join()
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


def fail_in_full_float32():
    with full_float32():
        raise ValueError("inside")


def test_float32_is_as_before_after_an_error():
    before = torch.backends.cudnn.allow_tf32
    with pytest.raises(ValueError, match="inside"):
        fail_in_full_float32()
    assert torch.backends.cudnn.allow_tf32 is before
