import torch

from moda_core.specs import ArchitectureSpec
from moda_core.training.initial import initial_network

CNN = ArchitectureSpec(name="cnn", classes=3, channels=1, image_size=16)


def test_a_seed_gives_the_weights_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    first, same, other = (initial_network(CNN, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
