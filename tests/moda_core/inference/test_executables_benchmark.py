"""The benchmark of executables: what it draws, and what it says."""

import json
from decimal import Decimal

import pytest
import torch

from benchmarks import executables
from benchmarks.drawn import REPORTED, drawn_model
from moda_core.inference.forms import candidates
from moda_core.modularity.measures import module_measures
from moda_core.modularity.models import ActivationCounts, TrainedModel
from moda_core.modularity.modules import decomposed
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.storage.artifacts import encode
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.initial import initial_network


def test_drawn_modules_have_the_reported_size_and_overlap():
    measures = module_measures(drawn_model("mobilenet", seed=0))
    size, overlap = REPORTED["mobilenet"]
    assert measures.mean_size == pytest.approx(size, rel=0.1)
    assert measures.mean_overlap == pytest.approx(overlap, rel=0.1)


def test_drawn_modules_share_the_first_layers_and_part_in_the_last():
    model = drawn_model("mobilenet", seed=0)
    first, *_, last = (counts > 0 for counts in model.counts.counts.values())
    assert first.all(0).sum() > 0.9 * first.any(0).sum()
    assert last.all(0).sum() < 0.1 * last.any(0).sum()


def test_speeds_stand_beside_operations_and_parameters(tmp_path):
    architecture = ArchitectureSpec(name="cnn", classes=4, channels=3, image_size=16)
    draw = torch.Generator().manual_seed(4)
    counts = {
        layer.name: (torch.rand(4, layer.units, generator=draw) < 0.4).to(torch.int32)
        for layer in unit_graph(architecture).layers
    }
    units = {name: torch.arange(count.shape[1]) for name, count in counts.items()}
    rule = InputSpec(image_size=16, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    trained = TrainedModel(architecture, tuple("abcd"), rule, initial_network(architecture, 1).state_dict())
    held = ActivationCounts(counts=counts, units=units, samples=(1,) * 4)
    file, found = tmp_path / "model.safetensors", tmp_path / "found.json"
    file.write_bytes(encode(decomposed(trained, held, Decimal("0.9"))))
    threads, forms = torch.get_num_threads(), [form for form in candidates("cpu") if form != "plain"]
    arguments = ["--model-file", str(file), "--classes", "1", "3", "--rounds", "3", "--json", str(found)]
    assert executables.main([*arguments, "--threads", str(threads)]) == 0
    content = json.loads(found.read_text())
    assert len(content["tables"]["cnn"]) == 3 * (1 + 3 * len(forms))
    assert all(line["images/s"] > 0 and line["1 / FLOPs"] >= 1 for line in content["tables"]["cnn"])
    assert any("3 classes" in key for key in content["summary"])
