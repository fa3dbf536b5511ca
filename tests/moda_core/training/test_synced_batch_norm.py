import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from two_processes import DOOR, images, normed, normed_gradients, recipe, run_both

from moda_core.errors import InvalidInput
from moda_core.training import loop
from moda_core.training.criteria import Modular
from moda_core.training.distributed import ALONE, Ranks
from moda_core.training.execution import Execution
from moda_core.training.loop import train
from moda_core.training.run import has_batch_norm
from moda_core.training.synced_batch_norm import synced_batch_norm


def network():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), nn.BatchNorm2d(3))


def kinds(model):
    return [type(module) for module in model.modules()]


@pytest.mark.parametrize(("ranks", "wanted"), [(ALONE, True), (Ranks(0, 2), False)])
def test_a_single_process_and_those_that_want_none_keep_their_own(ranks, wanted):
    model = network()
    before = kinds(model)
    with synced_batch_norm(model, ranks, wanted):
        assert kinds(model) == before


@pytest.mark.parametrize("failing", [False, True])
def test_others_take_their_places_and_share_their_states(failing):
    model = network()
    originals = kinds(model)
    before = {name: state.clone() for name, state in model.state_dict().items()}
    try:
        with synced_batch_norm(model, Ranks(0, 2)):
            assert [type(model[1][0]), type(model[2])] == [nn.SyncBatchNorm] * 2
            assert before.keys() == model.state_dict().keys()
            assert has_batch_norm(model)
            model.double().eval()
            model[2].running_mean += 1
            if failing:
                raise KeyError
    except KeyError:
        assert failing
    assert kinds(model) == originals
    assert not any(module.training for module in model.modules())
    assert model(torch.zeros(2, 1, 5, 5, dtype=torch.float64)).dtype == torch.float64
    assert torch.equal(model[2].running_mean, before["2.running_mean"].double() + 1)


def test_a_norm_with_two_names_stays_one():
    model = network()
    model[2] = norm = model[1][0]
    with synced_batch_norm(model, Ranks(0, 2)):
        assert isinstance(model[2], nn.SyncBatchNorm)
        assert model[1][0] is model[2]
    assert model[1][0] is model[2] is norm


def test_a_criterion_made_meanwhile_calls_them():
    model, graph = normed()
    with synced_batch_norm(model, Ranks(0, 2)):
        called = Modular(model, graph).network
        assert called.get_submodule("1") is model[1]
        assert isinstance(model[1], nn.SyncBatchNorm)


@pytest.mark.parametrize("objective", ["standard", "modular"])
def test_training_makes_its_criterion_meanwhile(objective, monkeypatch):
    seen = []

    def criterion_of(spec, model, graph, ranks):
        seen.append([type(module) for module in model.modules() if isinstance(module, nn.SyncBatchNorm)])
        raise ZeroDivisionError

    monkeypatch.setattr(loop, "criterion_of", criterion_of)
    for synced in (False, True):
        model, graph = normed()
        way = {"execution": Execution(synced_batch_norm=synced), "ranks": Ranks(0, 2), "device": "cpu"}
        with pytest.raises(ZeroDivisionError):
            train(model, graph, images(9), recipe(objective=objective), DOOR, mirror=False, **way)
        assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    assert seen == [[], [nn.SyncBatchNorm]]


@pytest.mark.parametrize("ranks", [ALONE, Ranks(0, 2)], ids=["one", "two"])
def test_training_on_a_cpu_refuses_it_and_leaves_the_model_its_norms(ranks):
    model, graph = normed()
    before = kinds(model)
    way = {"execution": Execution(synced_batch_norm=True), "ranks": ranks, "device": "cpu"}
    with pytest.raises(InvalidInput, match=r"synced_batch_norm: .* on cpu .*; leave it off"):
        train(model, graph, images(9), recipe(), DOOR, mirror=False, **way)
    assert kinds(model) == before


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two CUDA devices")
def test_two_devices_have_loss_statistics_and_gradients_of_the_joint_batch(tmp_path):
    run_both(tmp_path, "--cuda")
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    for name, joint in normed_gradients().items():
        torch.testing.assert_close(first[f"synced/{name}"], joint, rtol=1e-8, atol=1e-8)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first if name.startswith("trained/"))
