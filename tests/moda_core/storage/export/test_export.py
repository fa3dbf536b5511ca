from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import onnx
import onnxruntime
import pytest
import torch
from exportable_models import modular_model, patched_model, trained_model
from sources import ROOT
from torch import Tensor, nn

from moda_core.errors import NotExportable
from moda_core.modularity.composition import compose
from moda_core.modularity.models import Model, kind_of
from moda_core.modularity.networks import Network, network
from moda_core.specs import InputSpec
from moda_core.storage import artifacts
from moda_core.storage.export import OPSET, encode_as, to_onnx, to_pt2
from moda_core.storage.export import onnx as onnx_exporter
from moda_core.storage.export import pt2 as pt2_exporter
from moda_core.storage.export.checking import check_answers
from moda_core.storage.export.programs import Entrance, exporting
from moda_core.storage.manifests import FORMAT

MODELS: dict[str, Callable[[], Model]] = {
    "trained": lambda: trained_model(width=0.25),
    "two classes": lambda: compose(modular_model(width=0.25), ["bee", "dög"]),
    "one class": lambda: compose(modular_model(width=0.25), ["cow"]),
    "resnet18": lambda: compose(modular_model("resnet18", width=0.0625), ["ant", "bee"]),
    "vit": lambda: compose(modular_model("vit", width=0.25), ["ant", "cow"]),
    "patched": lambda: patched_model(trained_model("lenet5", channels=3)),
}
SEVERAL_INPUTS = {"patched": [("pixels", 3, 32), ("pixels_2", 1, 16)]}


@cache
def onnx_file(name: str) -> bytes:
    return to_onnx(MODELS[name]())


@cache
def pt2_file(name: str) -> bytes:
    return to_pt2(MODELS[name]())


def images(model: Model, count: int) -> list[Tensor]:
    """One batch for each input of the exported file, told by its shape."""
    generator = torch.Generator().manual_seed(count)
    shapes = dict.fromkeys((rule.channels, rule.image_size) for rule in network(model).inputs)
    return [torch.randint(0, 256, (count, c, s, s), generator=generator, dtype=torch.uint8) for c, s in shapes]


def expected(model: Model, pixels: list[Tensor]) -> Tensor:
    asked = network(model)
    by_shape = {tuple(images.shape[1:3]): images for images in pixels}
    with torch.inference_mode():
        return asked(*(by_shape[rule.channels, rule.image_size] for rule in asked.inputs))


@pytest.mark.parametrize("name", MODELS)
class TestOnnx:
    @pytest.mark.parametrize("count", [1, 3, 8])
    def test_onnxruntime_answers_as_the_model_for_any_number_of_images(self, name: str, count: int):
        model = MODELS[name]()
        session = onnxruntime.InferenceSession(onnx_file(name), providers=["CPUExecutionProvider"])
        pixels = images(model, count)
        given = dict(zip([one.name for one in session.get_inputs()], [one.numpy() for one in pixels], strict=True))
        (logits,) = session.run(["logits"], given)
        torch.testing.assert_close(torch.from_numpy(logits), expected(model, pixels), rtol=0, atol=1e-5)

    def test_the_file_says_what_goes_in_and_what_comes_out(self, name: str):
        model, file = MODELS[name](), onnx.load_from_string(onnx_file(name))
        onnx.checker.check_model(file)
        wanted = SEVERAL_INPUTS.get(name, [("pixels", *images(model, 1)[0].shape[1:3])])
        assert shapes(file.graph.input) == {
            each: (onnx.TensorProto.UINT8, ["batch", channels, size, size]) for each, channels, size in wanted
        }
        assert shapes(file.graph.output) == {"logits": (onnx.TensorProto.FLOAT, ["batch", len(model.labels)])}
        assert {one.domain: one.version for one in file.opset_import} == {"": OPSET}
        assert described(file) == {
            "format": FORMAT,
            "kind": kind_of(model),
            "labels": list(model.labels),
            "inputs": [{"name": each, "channels": channels, "image_size": size} for each, channels, size in wanted],
            "output": "logits",
            "safetensors": hashlib.sha256(artifacts.encode(model)).hexdigest(),
        }

    def test_the_file_tells_nothing_of_where_it_was_made(self, name: str):
        data = onnx_file(name)
        assert not [word for word in (str(ROOT), sys.prefix, torch.__version__, "File ") if word.encode() in data]


def shapes(values: object) -> dict[str, tuple[int, list[str | int]]]:
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


def described(file: onnx.ModelProto) -> dict:
    [entry] = file.metadata_props
    assert entry.key == "moda"
    return json.loads(entry.value)


@pytest.mark.parametrize("name", ["one class", "patched"])
class TestPt2:
    @pytest.mark.parametrize("count", [1, 3, 8])
    def test_torch_answers_as_the_model_for_any_number_of_images(self, name: str, count: int):
        model = MODELS[name]()
        pixels = images(model, count)
        logits = read(pt2_file(name)).module()(*pixels)
        torch.testing.assert_close(logits, expected(model, pixels), rtol=0, atol=1e-5)

    def test_the_file_names_its_classes_and_holds_no_pickle_and_no_path(self, name: str):
        extra = {"moda": ""}
        data = pt2_file(name)
        read(data, extra)
        assert json.loads(extra["moda"])["labels"] == list(MODELS[name]().labels)
        assert not [word for word in (str(ROOT), sys.prefix, "data.pkl") if word.encode() in data]


def read(data: bytes, extra: dict[str, str] | None = None) -> torch.export.ExportedProgram:
    return torch.export.load(io.BytesIO(data), extra_files=extra)


def test_safetensors_is_the_models_own_file():
    model = MODELS["two classes"]()
    assert encode_as(model, "safetensors") == artifacts.encode(model)


class TestTheSameBytes:
    SHOW = """
from hashlib import sha256
from test_export import MODELS
from moda_core.storage.export import to_onnx, to_pt2
print(*[sha256(write(MODELS["one class"]())).hexdigest() for write in (to_onnx, to_pt2)])
"""

    def test_come_from_another_process_with_other_hashes_and_threads(self):
        folders = (".", "tests/networks", "tests/reading", "tests/moda_core/storage/export")
        path = os.pathsep.join(str(ROOT / folder) for folder in folders)
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "2"}
        shown = subprocess.run(
            [sys.executable, "-c", self.SHOW], env=environment, check=True, capture_output=True, text=True, timeout=250
        ).stdout
        assert shown.split() == [hashlib.sha256(file("one class")).hexdigest() for file in (onnx_file, pt2_file)]

    def test_come_by_every_way_of_composing_and_no_library_says_a_word(self, capfd: pytest.CaptureFixture[str]):
        detour = compose(compose(modular_model(width=0.25), ["dög", "cow", "bee"]), ["cow"])
        assert (to_onnx(detour), to_pt2(detour)) == (onnx_file("one class"), pt2_file("one class"))
        assert capfd.readouterr() == ("", "")


class Brightness(Network):
    """Two logits up to about 50 in size."""

    def __init__(self) -> None:
        rule = InputSpec(image_size=4, channels=1, mean=(0.0,), std=(1.0,))
        super().__init__(("bright", "dark"), (rule,))

    def forward(self, *pixels: Tensor) -> Tensor:
        mean = pixels[0].float().mean((1, 2, 3)) / 5
        return torch.stack((mean, -mean), 1)


class TestRefusal:
    @pytest.mark.parametrize(
        ("wrong", "refused"),
        [
            (lambda logits: logits * (1 + 0.9e-4), False),
            (lambda logits: logits * (1 + 1.1e-4), True),
            (lambda logits: logits.flip(1), True),
            (lambda logits: logits[:1].expand_as(logits) if len(logits) == 5 else logits, True),
            (lambda logits: logits[:, :1], True),
            (lambda logits: logits * float("nan"), True),
        ],
    )
    def test_answers_may_differ_by_a_ten_thousandth_of_the_largest_logit(self, wrong: Callable, refused: bool):
        entrance = Entrance(Brightness())
        with pytest.raises(NotExportable, match="it answers") if refused else nullcontext():
            check_answers(entrance, lambda pixels: wrong(entrance(*pixels)), "it")

    @pytest.mark.parametrize(("exporter", "file"), [(onnx_exporter, onnx_file), (pt2_exporter, pt2_file)])
    def test_an_exporter_that_writes_another_network_is_found_out(self, monkeypatch, exporter, file: Callable):
        other = file("one class")  # written before the exporter is another
        monkeypatch.setattr(exporter, "_written", lambda _: other)
        write = {onnx_exporter: to_onnx, pt2_exporter: to_pt2}[exporter]
        with pytest.raises(NotExportable, match="answers differently from the model"):
            write(compose(modular_model(width=0.25), ["ant"]))

    def test_a_network_that_cannot_be_traced_is_refused_with_the_reason(self):
        class Branching(nn.Module):
            def forward(self, pixels: Tensor) -> Tensor:
                return pixels if pixels.sum() > 0 else -pixels

        with pytest.raises(NotExportable, match="cannot be traced"), exporting("traced"):
            torch.export.export(Branching(), (torch.zeros(2, 2),), strict=False)


def test_one_input_serves_components_that_take_images_of_one_shape():
    patched = patched_model(trained_model(width=0.25, mean=0.6))
    entrance, pixels = Entrance(network(patched)), images(patched, 3)
    assert (len(entrance.network.inputs), len(pixels)) == (2, 1)
    with torch.inference_mode():
        assert torch.equal(entrance(*pixels), expected(patched, pixels))
