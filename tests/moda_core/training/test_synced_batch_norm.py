import pytest
import torch
from torch import nn

from moda_core.errors import InvalidInput
from moda_core.training.distributed import ALONE, Ranks
from moda_core.training.synced_batch_norm import synced_batch_norm


def network():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), nn.BatchNorm2d(3))


def test_it_is_refused_on_a_cpu():
    with pytest.raises(InvalidInput, match="CUDA"), synced_batch_norm(network(), Ranks(0, 2), "cpu"):
        pass


def test_a_single_process_keeps_its_own():
    model = network()
    kinds = [type(module) for module in model.modules()]
    with synced_batch_norm(model, ALONE, "cuda"):
        assert [type(module) for module in model.modules()] == kinds


@pytest.mark.parametrize("failing", [False, True])
def test_others_take_their_places_and_share_their_states(failing):
    model = network()
    kinds = [type(module) for module in model.modules()]
    before = {name: state.clone() for name, state in model.state_dict().items()}
    try:
        with synced_batch_norm(model, Ranks(0, 2), "cuda"):  # nothing runs, so no CUDA is needed
            assert [type(model[1][0]), type(model[2])] == [nn.SyncBatchNorm] * 2
            assert before.keys() == model.state_dict().keys()
            model.double().eval()
            model[2].running_mean += 1
            if failing:
                raise KeyError
    except KeyError:
        assert failing
    assert [type(module) for module in model.modules()] == kinds
    assert not any(module.training for module in model.modules())
    assert model(torch.zeros(2, 1, 5, 5, dtype=torch.float64)).dtype == torch.float64
    assert torch.equal(model[2].running_mean, before["2.running_mean"].double() + 1)
