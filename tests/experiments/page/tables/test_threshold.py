"""The threshold, worked by hand."""

from results_page import cells, modules, reused, section, write

from experiments.document import page


def test_thresholds_name_the_best(tmp_path):
    points = {"0.1": (950, 0.6), "0.8": (955, 0.2), "0.9": (950, 0.1), "0.95": (900, 0.09)}
    rows = [reused("MODA", [0, 1], correct, threshold=tau) for tau, (correct, _) in points.items()]
    rows += [modules("MODA", size, threshold=tau) for tau, (_, size) in points.items()]
    write(tmp_path, "rq4-threshold-cifar10-resnet18-e200.jsonl", rows)
    text = page(tmp_path, tmp_path, tmp_path)
    said = "MODA is most accurate at τ = 0.8 and its modules, as the paper counts, are smallest at 0.95; the"
    assert f"{said} difference of the two is largest at 0.9." in text
    assert cells(text, "0.8, MODA") == ["95.50", "20.00", "21.00", "50.00", "1", "1,000", "1"]
    assert "resnet18 on cifar10 (τ = 0.5)" in section(text, "Not measured yet")
