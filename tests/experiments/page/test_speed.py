"""Speed of training: our ways, and the benchmark as it was kept."""

import json

from results_page import GPU, cells, section, timed, write

from experiments.document import page


def test_ways_of_training_stand_beside_the_fastest_standard_one(tmp_path):
    rows = [timed("", "ST", 10000, 1.0), timed("", "MODA", 8000, 1.25), timed("", "MODA-naive", 5000, 2.0)]
    rows += [timed("captured", "ST", 20000, 1.0), timed("captured", "MODA", 18000, 1.11)]
    rows += [{"kind": "speed", "execution": "compiled", "error": "no compiler"}]
    write(tmp_path, "overhead-cifar10-resnet18-e2.jsonl", rows, place=GPU)
    text = section(page(tmp_path, tmp_path, tmp_path), "Speed of training")
    # beside the fastest ST 20,000; ten million images in minutes
    assert cells(text, "captured") == ["20,000", "18,000", "1.110", "1.100 to 1.120", "1.111", "", "5.5", "9.3"]
    assert cells(text, "step by step")[2:] == ["1.250", "1.240 to 1.260", "2.500", "2.000", "5.5", "20.8"]
    assert cells(text, "compiled: does not work here") == [""] * 8
    assert "## Narrowed" not in page(tmp_path, tmp_path, tmp_path)


def test_the_benchmark_of_training_is_shown_as_it_was_kept(tmp_path):
    said = {
        "machine": "x86_64",
        "cores": 2,
        "commit": "abc1234",
        "date": "2026-11-22",
        "command": "python -m some.benchmark",
    }
    tables = {
        "ResNet18": [{"way": "standard", "ms": 412.345, "ratio": 1.0}, {"way": "modular", "ms": 440.1, "ratio": 1.0673}]
    }
    report = {"benchmark": "overhead", "conditions": said, "tables": tables, "summary": {"goal": "1.10"}}
    (tmp_path / "training-overhead-cpu.json").write_text(json.dumps(report))
    text = section(page(tmp_path, tmp_path, tmp_path), "Speed of training")
    assert cells(text, "modular") == ["440.10", "1.07"]
    assert (
        "[`training-overhead-cpu.json`](training-overhead-cpu.json): machine x86_64, cores 2, commit `abc1234`" in text
    )
    assert "`python -m some.benchmark`" in text
