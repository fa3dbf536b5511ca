import torch

from experiments.reuse.epsilons import pairs_and_triples, spread_error


def test_sub_tasks_are_all_pairs_and_the_same_triples_every_time():
    chosen = pairs_and_triples(10)
    assert chosen == pairs_and_triples(10)
    assert [len(task) for task in chosen] == [2] * 45 + [3] * 10
    assert len(set(chosen)) == 55
    assert all(list(task) == sorted(set(task)) for task in chosen)


def test_an_error_is_told_in_units_of_the_logits_spread():
    """By hand: deviations 1 and 10, a difference of 5."""
    reference = torch.tensor([[0.0, -10.0], [1.0, 0.0], [2.0, 10.0]])
    found = reference + torch.tensor([[0.0, 5.0], [0.0, 0.0], [1.0, 0.0]])
    assert spread_error(found, reference) == 0.5
    assert spread_error(torch.ones(3, 2), torch.zeros(3, 2)) == 1.0
