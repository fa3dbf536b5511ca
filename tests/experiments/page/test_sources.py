"""Where numbers come from, and what failed."""

from results_page import cells, modules, reused, section, trained, write

from experiments.document import page


def test_what_failed_is_said_and_leaves_its_cell_empty(tmp_path):
    failed = {"kind": "training", "approach": "MwT", "seed": 0, "spec": "aa", "error": "the loss is NaN in epoch 3"}
    write(tmp_path, "rq1-cifar10-mobilenet-e200.jsonl", [trained("ST", 0, 8900), failed])
    text = page(tmp_path, tmp_path, tmp_path)
    assert "- failed: MwT, seed 0: the loss is NaN in epoch 3" in section(text, "Full size")
    assert cells(section(text, "Not measured yet"), "mobilenet, cifar10, MwT")[1] == ""


def test_every_file_is_linked_with_its_command(tmp_path):
    results, place = tmp_path / "experiments" / "results", tmp_path / "docs"
    results.parent.mkdir()
    write(results, "rq1-digits-cnn-e3.jsonl", [trained("ST", 0, 300, n=359, epochs=3)], command="python -m one")
    write(
        results,
        "rq3-digits-cnn-w0.5-e4.jsonl",
        [reused("MODA", [0, 1], 9), modules("MODA", 0.1)],
        command="python -m two",
    )
    text = page(results, place)
    for file, command in (
        ("rq1-digits-cnn-e3.jsonl", "python -m one"),
        ("rq3-digits-cnn-w0.5-e4.jsonl", "python -m two"),
    ):
        assert f"[`{file}`](../experiments/results/{file})" in text
        assert f"`{command}`" in text
