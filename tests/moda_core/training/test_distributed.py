"""Two real processes (gloo on the CPU, started once) against one that has the whole batch."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from two_processes import (
    CASES,
    DOOR,
    broken,
    counted,
    gradients,
    images,
    lenet,
    normed,
    normed_gradients,
    recipe,
    run_both,
    trained,
)

from moda_core.errors import InvalidInput
from moda_core.training.distributed import ALONE, STEPS_BETWEEN_AGREEMENTS, Ranks, joined
from moda_core.training.execution import Execution
from moda_core.training.loop import train

EXACT = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What both ranks wrote."""
    path = tmp_path_factory.mktemp("ranks")
    run_both(path)
    return path


@pytest.fixture(scope="module")
def tensors(folder):
    return [load_file(folder / f"{rank}.safetensors") for rank in (0, 1)]


@pytest.fixture(scope="module")
def facts(folder):
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def under(prefix, found):
    return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_are_those_of_the_joint_batch(case, tensors):
    joint = gradients(case)
    assert all(tensor.dtype == torch.float64 and tensor.isfinite().all() for tensor in joint.values())
    for rank in (0, 1):
        torch.testing.assert_close(under(f"exact/{case}/", tensors[rank]), joint, **EXACT)
    assert equal(under(f"exact/{case}/", tensors[0]), under(f"exact/{case}/", tensors[1]))


@pytest.mark.parametrize("case", CASES)
def test_losses_of_shares_that_are_merely_averaged_are_others(case, tensors):
    joint, averaged = gradients(case), under(f"mutant/{case}/", tensors[0])
    apart = max(float((averaged[name] - joint[name]).abs().max()) for name in joint if "network" in name)
    assert not apart < 1e-5  # NaN where a rank has no sample


def test_with_synced_batch_norm_too(tensors):
    joint = normed_gradients()
    for rank in (0, 1):
        torch.testing.assert_close(under("synced/", tensors[rank]), joint, **EXACT)
    assert not torch.allclose(under("unsynced/", tensors[0])["0.weight"], joint["0.weight"], rtol=1e-2)


def test_zero_vectors_are_among_the_cases():
    layers = []
    model, _ = lenet()
    nn.init.zeros_(model.network.features[0].bias)
    model.network.features[1].register_forward_hook(lambda _module, _inputs, output: layers.append(output))
    model(torch.zeros(1, 1, 16, 16))
    assert not layers[0].any()


def test_a_whole_training_is_that_of_one_process(tensors, facts):
    weights, reports = trained()
    for rank in (0, 1):
        torch.testing.assert_close(under("trained/", tensors[rank]), weights, rtol=1e-9, atol=1e-9)
        for found, report in zip(facts[rank]["reports"], reports, strict=True):
            assert found.pop("accuracy") == pytest.approx(report["accuracy"], rel=1e-6)  # a step's is in float32
            assert found == pytest.approx({name: report[name] for name in found}, rel=1e-9)
    start, _ = lenet()
    assert not torch.allclose(weights["network.classifier.4.weight"], start.state_dict()["network.classifier.4.weight"])


def test_counts_are_exact(tensors, facts):
    alone = counted()
    for rank in (0, 1):
        assert equal(under("counts/", tensors[rank]), dict(alone.counts))
        assert tuple(facts[rank]["samples"]) == alone.samples


def test_one_rank_that_is_told_to_stop_stops_all_within_a_few_steps(facts):
    first, second = (fact["stop"] for fact in facts)
    assert first == {"stopped": True, "asked": STEPS_BETWEEN_AGREEMENTS, "saved": 3}
    assert second == {"stopped": True, "asked": 14, "saved": 0}


def test_a_resumed_training_ends_as_the_one_that_was_never_stopped_batch_norm_and_dropout_included(tensors):
    for rank in (0, 1):
        assert equal(under("resumed/", tensors[rank]), under("whole/", tensors[rank]))
    assert equal(under("whole/", tensors[0]), under("whole/", tensors[1]))


def test_what_fails_on_the_first_rank_fails_everywhere(facts):
    assert [fact["heard"]["first"] for fact in facts] == ["ZeroDivisionError", "TrainingFailure"]


def test_all_ranks_name_what_broke_on_one_of_them(facts):
    first, second = (fact["broken"] for fact in facts)
    assert first == second
    found = r"in epoch 1 at learning rate 0\.05; first was the output of layer '0' on rank [01], in step (\d);"
    step = re.search(found, first)
    assert f"in step {step[1]};" in broken(ALONE)


def test_ranks_agree(facts):
    for fact in facts:
        assert fact["heard"]["agreed"] == "[True, False]"
        assert (fact["heard"]["same"], fact["heard"]["different"]) == ("None", "Conflict")


def test_a_rank_whose_partner_failed_does_not_wait(facts):
    assert [fact["left"]["error"] for fact in facts] == ["RuntimeError", "ZeroDivisionError"]
    assert max(fact["left"]["waited_s"] for fact in facts) < 100  # of the 200 until the timeout


@pytest.mark.parametrize(("size", "world"), [(8, 2), (7, 3), (2, 4), (0, 2), (128, 8)])
def test_shares_make_up_the_batch_and_differ_by_one_at_most(size, world):
    shares = [list(range(size))[Ranks(rank, world).share(size)] for rank in range(world)]
    assert [one for share in shares for one in share] == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_each_rank_but_the_first_draws_numbers_of_its_own_in_every_epoch():
    def drawn(rank, epoch, seed=3):
        generator = torch.Generator().manual_seed(1)
        Ranks(rank, 4).seed([generator], seed, epoch)
        return torch.rand(5, generator=generator).tolist()

    assert drawn(0, 2) == torch.rand(5, generator=torch.Generator().manual_seed(1)).tolist()
    assert drawn(2, 5) == drawn(2, 5)
    different = [drawn(0, 0), drawn(1, 0), drawn(2, 0), drawn(1, 1), drawn(1, 0, seed=4)]
    assert len({tuple(numbers) for numbers in different}) == len(different)


def test_a_world_of_one_meets_nobody():
    with joined(backend="gloo", rank=0, world=1, init_method="file:///nowhere") as ranks:
        assert ranks == ALONE
    with pytest.raises(InvalidInput, match="rank"), joined(backend="gloo", rank=2, world=2, init_method="file:///no"):
        pass


def test_steps_of_several_ranks_are_not_captured():
    model, graph = lenet()
    options = {"mirror": False, "device": "cpu", "ranks": Ranks(0, 2), "execution": Execution(captured=True)}
    with pytest.raises(InvalidInput, match="captured"):
        train(model, graph, images(9), recipe(), DOOR, **options)


def test_batch_norm_needs_two_samples_a_rank():
    model, graph = normed()
    options = {"mirror": False, "device": "cpu", "ranks": Ranks(0, 3)}
    with pytest.raises(InvalidInput, match="give 6 or more"):
        train(model, graph, images(9), recipe(batch_size=5), DOOR, **options)
