"""What modules share."""

from results_page import modules, reused, section, write

from experiments.document import page


def test_overlap_of_the_first_and_last_layers_and_mwts_own_measures_are_shown(tmp_path):
    layers = {f"features.{place}": 1 - place / 10 for place in range(8)} | {"classifier.0": 0.0}
    own = {"kernel_retention": {"a": 0.4, "b": 0.6}, "cohesion": {"a": 0.8, "b": 0.9}, "coupling": 0.25}
    rows = [reused("MwT", [0, 1], 900), modules("MwT", 0.2) | {"layers_undropped": layers, **own}]
    write(tmp_path, "rq2-reuse-cifar10-vgg16-e200.jsonl", rows)
    text = section(page(tmp_path, tmp_path, tmp_path), "RQ2: reuse")
    found = [line.split("|")[2:-1] for line in text.splitlines() if line.startswith("| MwT")]
    assert [cell.strip() for cell in found[2]] == ["100.00", "90.00", "80.00", "50.00", "40.00", "30.00"]
    assert [cell.strip() for cell in found[3]] == ["50.00", "0.850", "0.250"]
    assert "more than 99 % in the first three, less than 0.15 % in the last" in text
