"""Networks without ReLU, worked by hand."""

from results_page import at_epsilon, cells, write

from experiments.document import page


def test_networks_without_relu_show_accuracy_size_and_error_by_epsilon(tmp_path):
    whole = {"kind": "training", "approach": "MODA", "seed": 0, "width": 0.5, "epochs": 40, "parameters": 12345}
    rows = [whole | {"accuracy": {"correct": 350, "n": 359}}]
    rows += at_epsilon("MODA", 0.2, (5, 30), 1e-14) + at_epsilon("MODA", 0.2, (7, 30), 3e-14, seed=1)
    rows += at_epsilon("MODA", 0.1, (10, 30), 0.0)
    write(tmp_path, "beyond-relu-digits-vit.jsonl", rows)
    text = page(tmp_path, tmp_path, tmp_path)
    assert "(width 0.5, 40 epochs, 12,345 parameters): MODA 97.49 % (n = 359, 1 seed)." in text
    # the mean over compositions, (0.5 + 1 + 0.7 + 1) / 4, where all images together have 72 of 80
    row = ["80.00", "100.00", "30.00", "20.00", "10.00", "3.0e-14", "2", "10 to 30", "2"]
    assert cells(text, "0.2, MODA") == row
    assert "MODA stays within 1 point of its uncut model up to ε = 0.1: from 30.00 % of the weights at 0.1" in text
    assert "; at 0.2 its reuse accuracy is 80.00 %." in text
    assert cells(text, "digits, vit")[:3] == ["0.5", "40", "beyond-relu"]
    assert "## Narrowed" not in text
