import json

import torch

from experiments.models.ways import WAYS, fastest, tried
from experiments.records.conditions import hardware


def test_the_fastest_way_is_that_of_the_modular_step(tmp_path):
    path = tmp_path / "overhead.jsonl"
    assert fastest(path, "cpu") == ""
    here = {"hardware": hardware("cpu"), "torch": torch.__version__}
    rows = [
        {"kind": "conditions", "id": "here", **here},
        {"kind": "conditions", "id": "elsewhere", **here, "hardware": "a faster chip"},
        {"kind": "conditions", "id": "before", **here, "torch": "1.0"},
        {"conditions": "here", "kind": "speed", "execution": "captured", "approach": "ST", "images_per_s": 900},
        {"conditions": "here", "kind": "speed", "execution": "captured", "approach": "MODA", "images_per_s": 310},
        {"conditions": "here", "kind": "speed", "execution": "compiled", "approach": "ST", "images_per_s": 320},
        {"conditions": "here", "kind": "speed", "execution": "compiled", "approach": "MODA", "images_per_s": 320},
        {"conditions": "here", "kind": "speed", "execution": "compiled,captured", "error": "no compiler"},
        {"conditions": "elsewhere", "kind": "speed", "execution": "", "approach": "MODA", "images_per_s": 9000},
        {"conditions": "before", "kind": "speed", "execution": "", "approach": "MODA", "images_per_s": 9000},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert fastest(path, "cpu") == "compiled"
    assert [tried(path, way, "cpu") for way in WAYS] == [False, True, True, True]
