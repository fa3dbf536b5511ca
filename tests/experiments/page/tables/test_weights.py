"""Weights of the loss, worked by hand."""

from results_page import cells, section, write

from experiments.document import page


def test_weights_of_the_loss_at_full_size_have_a_section(tmp_path):
    row = {"kind": "weights", "approach": "MODA", "seed": 0, "alpha": 1.0, "beta": 1.0, "gamma": 0.3}
    row |= {"losses": {"affinity": 0.1, "dispersion": 0.2, "compactness": 0.3}, "size": 0.1, "overlap": 0.05}
    rows = [row | {"seed": seed, "accuracy": {"correct": 9000 + 100 * seed, "n": 10000}} for seed in (0, 1)]
    write(tmp_path, "rq4-weights-cifar10-resnet18-e200.jsonl", rows)
    text = section(page(tmp_path, tmp_path, tmp_path), "RQ4: the weights of the loss")
    assert cells(text, "1, 1, 0.3") == ["90.50", "0.1000", "0.2000", "0.3000", "10.00", "5.00", "10,000", "2"]
