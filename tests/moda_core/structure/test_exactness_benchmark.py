"""A tenth of the proof of slicing, and the mutants that it must catch; the rest is `python -m benchmarks.exactness`."""

import pytest
import torch

from benchmarks.exactness import case_of, main
from benchmarks.mutants import MUTATIONS, mutant_errors
from benchmarks.proof import MOST_ERROR, NotAlive, agreement, draw_case, enliven
from moda_core.structure.masking import MaskedModel
from moda_core.structure.unitgraph import UnitGraph

CASES = [
    ("cnn", 0.05), ("cnn-gelu", 0.2), ("vit", 0.2), ("lenet5", 0.2), ("mobilenet", 0.05), ("resnet18", 0.2), ("torchvision/mobilenet_v3_small", 0.6),
    ("torchvision/shufflenet_v2_x0_5", 0.2), ("torchvision/squeezenet1_1", 0.2), ("torchvision/mnasnet0_5", 0.2),
    ("torchvision/regnet_x_400mf", 0.6),
]  # fmt: skip


@pytest.mark.parametrize(("name", "keep"), CASES)
def test_both_bounds_are_kept(name, keep):
    found = agreement(case_of(name, keep, batch=4))
    assert found.holds, found


OF_HEADS = ("one attention row swapped", "one projection column swapped")


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_mutant_is_caught(mutation):
    name = "vit" if mutation in OF_HEADS else "resnet18"
    errors = mutant_errors(case_of(name, 0.2, batch=4), mutation)
    assert errors
    assert min(errors) > MOST_ERROR


def test_a_case_whose_logits_do_not_depend_on_the_image_is_drawn_anew_and_then_fails():
    class Constant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(torch.relu(x.mean([2, 3]) * 0))

    def build():
        return UnitGraph.trace(Constant(), (3, 8, 8)), Constant()

    with pytest.raises(NotAlive, match="7 draws"):
        draw_case(build, 0.5, torch.randn(4, 3, 8, 8), torch.Generator().manual_seed(0), most=7)


def test_zero_heads_and_zero_biases_are_drawn_so_that_a_swap_shows():
    head = torch.nn.Linear(4, 2)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    enliven(head, torch.Generator().manual_seed(0))
    assert all((parameter != 0).all() for parameter in head.parameters())


def test_the_reference_is_the_full_network_with_masked_outputs():
    """By hand: two units, the second masked; the logit of row 1 alone."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
    network[1].weight.data, network[1].bias.data = torch.tensor([[1.0], [1.0]]), torch.tensor([1.0, 2.0])
    network[3].weight.data, network[3].bias.data = torch.tensor([[1.0, 1.0], [10.0, 100.0]]), torch.tensor([0.0, 5.0])
    graph = UnitGraph.trace(network, (1, 1, 1))
    masked = MaskedModel(graph, network, {graph.layers[0].name: torch.tensor([True, False])}, [1])
    assert masked(torch.full((1, 1, 1, 1), 3.0)).tolist() == [[45.0]]


def test_the_program_prints_its_tables_and_writes_them(tmp_path, capsys):
    threads = torch.get_num_threads()
    assert main(["--only", "cnn", "--threads", str(threads), "--json", str(tmp_path / "proof.json")]) == 0
    assert "stem zeroed" in capsys.readouterr().out
    assert '"holds": true' in (tmp_path / "proof.json").read_text()
