import pytest
import torch
from torch import nn

from moda_core.errors import InvalidInput
from moda_core.training.criteria import Standard
from moda_core.training.execution import Execution
from moda_core.training.steps import LAYOUT, Step, lay_out

CPU = torch.device("cpu")


def step(model, execution):
    return Step(Standard(model), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), CPU, execution)


def batches(*sizes):
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(size, 1, 2, 2, generator=draw), torch.arange(size) % 3) for size in sizes]


def network():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    draw = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=draw)
    return model


def test_only_parameters_of_four_dimensions_are_laid_out():
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Conv3d(2, 3, 2), nn.Linear(2, 2))
    before = {name: state.clone() for name, state in model.state_dict().items()}
    parameters = list(model.parameters())
    assert lay_out(model, LAYOUT) is model
    assert model[0].weight.is_contiguous(memory_format=LAYOUT)
    assert not model[0].weight.is_contiguous()
    assert model[1].weight.is_contiguous()
    assert all(torch.equal(state, before[name]) for name, state in model.state_dict().items())
    assert all(now is then for now, then in zip(model.parameters(), parameters, strict=True))


def test_captured_steps_need_cuda():
    with pytest.raises(InvalidInput, match="captured"):
        step(network(), Execution(captured=True))


def test_batches_of_the_first_size_are_compiled_and_others_eager(monkeypatch):
    compiled = []

    def compiling(criterion, dynamic):
        assert dynamic is False

        def call(pixels, labels):
            compiled.append(len(labels))
            return criterion(pixels, labels)

        return call

    monkeypatch.setattr(torch, "compile", compiling)
    eager, mixed = step(network(), Execution()), step(network(), Execution(compiled=True))
    for pixels, labels in batches(6, 6, 4, 6):
        assert torch.equal(mixed(pixels, labels), eager(pixels, labels))
    assert compiled == [6, 6, 6]


def test_a_compiler_that_fails_is_named_with_its_remedy(monkeypatch):
    def failing(pixels, labels):
        raise torch._dynamo.exc.BackendCompilerFailed(compiler, RuntimeError("no g++ here"), None)

    def compiler():
        """A backend by its name."""

    monkeypatch.setattr(torch, "compile", lambda criterion, dynamic: failing)
    with pytest.raises(InvalidInput, match=r"(?s)compiled.*no g\+\+ here.*C\+\+ compiler"):
        step(network(), Execution(compiled=True))(*batches(6)[0])


def test_the_rate_is_written_in_place_where_it_is_a_tensor():
    model = network()
    rate = torch.tensor(0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    Step(Standard(model), optimizer, CPU).set_rate(0.25)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.25
    plain = step(network(), Execution())
    plain.set_rate(0.25)
    assert plain.optimizer.param_groups[0]["lr"] == 0.25
