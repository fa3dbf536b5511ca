"""An unmodified `tritonclient` against the service: health, metadata, and inference in every form."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import tritonclient.http as triton
from serving import LABELS, Running, modular_model, patched_model, png, trained_model

from moda_core.data.images import decode
from moda_core.modularity.composition import compose
from moda_core.modularity.networks import logits, network
from service import __version__

FILES = [png(3), png(77, (40, 20)), png(5)]


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(service.http.base_url.netloc.decode()) as client:
        yield client


def encoded(*files: bytes, binary: bool = True, shape: tuple[int, ...] | None = None) -> triton.InferInput:
    """Image files as the client sends them: as they are, or in JSON as base64."""
    values = files if binary else [base64.b64encode(file).decode() for file in files]
    array = np.array(values, dtype=np.object_).reshape(shape or (len(files),))
    return triton.InferInput("encoded", array.shape, "BYTES").set_data_from_numpy(array, binary_data=binary)


def pixels(array: np.ndarray, *, binary: bool = True) -> triton.InferInput:
    return triton.InferInput("images", array.shape, "UINT8").set_data_from_numpy(array, binary_data=binary)


def predicted(service: Running, *files: bytes, model: str = "animals", **members: object) -> dict:
    """What /predict answers."""
    instances = [{"b64": base64.b64encode(file).decode()} for file in files]
    response = service.http.post("/predict", json={"model": model, "instances": instances, **members})
    assert response.status_code == 200, response.text
    return response.json()


def composed(service: Running, *classes: str) -> dict:
    return service.http.post("/compose", json={"model": "animals", "classes": classes}).json()


def refused(call) -> triton.InferenceServerException:
    with pytest.raises(triton.InferenceServerException) as caught:
        call()
    return caught.value


class TestServer:
    def test_it_lives_is_ready_and_says_what_it_can(self, client: triton.InferenceServerClient):
        assert client.is_server_live()
        assert client.is_server_ready()
        extensions = ["binary_tensor_data", "classification", "model_repository"]
        assert client.get_server_metadata() == {"name": "moda", "version": __version__, "extensions": extensions}


class TestMetadata:
    def test_it_names_tensors_versions_digest_and_labels(self, service: Running, client: triton.InferenceServerClient):
        described = client.get_model_metadata("animals")
        digest = service.registry.resolve("animals").digest
        assert (described["name"], described["versions"], described["platform"]) == ("animals", ["1"], "moda_torch")
        assert described["parameters"] == {
            "digest": digest, "version": "1", "labels": list(LABELS), "image_size": 16
        }  # fmt: skip
        assert [(one["name"], one["datatype"], one["shape"]) for one in described["inputs"]] == [
            ("images", "UINT8", [-1, 1, -1, -1]),
            ("encoded", "BYTES", [-1]),
        ]
        assert [(one["name"], one["datatype"], one["shape"]) for one in described["outputs"]] == [
            ("logits", "FP32", [-1, 4]),
            ("probabilities", "FP32", [-1, 4]),
            ("label", "BYTES", [-1]),
        ]

    def test_a_composition_has_the_digest_it_was_cut_from_as_its_version(
        self, service: Running, client: triton.InferenceServerClient
    ):
        made = composed(service, "ship", "cat")
        described = client.get_model_metadata(made["id"])
        assert described["versions"] == [made["model"]]
        assert described["parameters"]["composition"] == made["id"]
        assert described["parameters"]["labels"] == ["cat", "ship"]

    def test_models_and_versions_that_are_not_there_are_not_ready(self, client: triton.InferenceServerClient):
        assert client.is_model_ready("animals")
        assert client.is_model_ready("animals", "1")
        assert client.is_model_ready("animals@latest")
        assert not client.is_model_ready("animals", "2")
        assert not client.is_model_ready("nobody")
        assert not client.is_model_ready("No Name")
        assert refused(lambda: client.get_model_metadata("nobody")).status() == "404"
        assert refused(lambda: client.get_model_metadata("animals", "prod")).status() == "404"
        assert refused(lambda: client.get_model_metadata("animals@1", "2")).status() == "404"
        assert client.get_model_metadata("animals@1", "1")["parameters"]["version"] == "1"


class TestInference:
    @pytest.mark.parametrize("model", ["animals", "animals@1", "plain", "cut", "patched"])
    def test_it_answers_as_predict_does(self, service: Running, client: triton.InferenceServerClient, model: str):
        answer = client.infer(model, [encoded(*FILES)], request_id="seven")
        expected = predicted(service, *FILES, model=model)
        rows = [one["probabilities"] for one in expected["predictions"]]
        assert answer.as_numpy("probabilities") == pytest.approx(np.array(rows), abs=1e-6)
        labels = [label.decode() for label in answer.as_numpy("label")]
        assert labels == [one["label"] for one in expected["predictions"]]
        head = answer.get_response()
        assert (head["id"], head["model_name"], head["model_version"]) == ("seven", model, "1")
        assert head["parameters"] == {"digest": expected["model"]}
        assert answer.as_numpy("logits") is None

    def test_a_composition_and_one_made_by_parameters_are_the_same(
        self, service: Running, client: triton.InferenceServerClient
    ):
        made = composed(service, "cat", "ship")
        outputs = [triton.InferRequestedOutput("logits")]
        whole = client.infer(made["id"], [encoded(*FILES)], outputs=outputs)
        listed = client.infer("animals", [encoded(*FILES)], outputs=outputs, parameters={"classes": ["ship", "cat"]})
        text = client.infer("animals", [encoded(*FILES)], outputs=outputs, parameters={"classes": "ship, cat"})
        expected = logits(network(compose(modular_model(), ["cat", "ship"])), [decode(file) for file in FILES])
        assert whole.as_numpy("logits") == pytest.approx(expected.numpy(), abs=1e-5)
        for answer in (listed, text):
            assert answer.as_numpy("logits") == pytest.approx(expected[:, [1, 0]].numpy(), abs=1e-5)
            assert answer.get_response()["parameters"] == {"digest": made["model"], "composition": made["id"]}
        assert whole.get_response()["model_version"] == made["model"]
        assert text.get_response()["model_version"] == "1"

    @pytest.mark.parametrize("binary_in", [True, False])
    @pytest.mark.parametrize("binary_out", [True, False])
    @pytest.mark.parametrize("form", ["encoded", "column", "images"])
    def test_json_and_binary_say_the_same(
        self, client: triton.InferenceServerClient, form: str, binary_in: bool, binary_out: bool
    ):
        files = [FILES[0], FILES[2]]
        if form == "images":
            given = pixels(np.stack([decode(file).numpy() for file in files]), binary=binary_in)
        else:
            given = encoded(*files, binary=binary_in, shape=(2, 1) if form == "column" else None)
        names = ("label", "logits", "probabilities")
        outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
        answer = client.infer("plain", [given], outputs=outputs)
        expected = logits(network(trained_model()), [decode(file) for file in files])
        assert answer.as_numpy("logits") == pytest.approx(expected.numpy(), abs=1e-5)
        assert answer.as_numpy("probabilities") == pytest.approx(expected.softmax(1).numpy(), abs=1e-6)
        texts = [one.decode() if binary_out else one for one in answer.as_numpy("label").tolist()]
        assert texts == [LABELS[index] for index in expected.argmax(1)]
        assert [one["name"] for one in answer.get_response()["outputs"]] == list(names)

    @pytest.mark.parametrize("shape", [(1, 3, 16, 16), (2, 1, 9, 31), (1, 3, 200, 40)])
    def test_pixels_of_any_size_and_colour_are_fitted(
        self, client: triton.InferenceServerClient, shape: tuple[int, ...]
    ):
        array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        answer = client.infer("patched", [pixels(array)], outputs=[triton.InferRequestedOutput("logits")])
        expected = logits(network(patched_model()), list(torch.from_numpy(array)))
        assert answer.as_numpy("logits") == pytest.approx(expected.numpy(), abs=1e-5)

    @pytest.mark.parametrize(("asked", "given"), [(1, 1), (3, 3), (9, 4)])
    def test_a_classification_is_the_best_classes_by_score(
        self, client: triton.InferenceServerClient, asked: int, given: int
    ):
        outputs = [triton.InferRequestedOutput("probabilities", class_count=asked)]
        answer = client.infer("plain", [encoded(*FILES)], outputs=outputs).as_numpy("probabilities")
        scores = logits(network(trained_model()), [decode(file) for file in FILES]).softmax(1)
        assert answer.shape == (3, given)
        for row, known in zip(answer, scores, strict=True):
            best = known.argsort(descending=True)[:given]
            split = [text.decode().split(":", 2) for text in row]
            assert [(int(index), label) for _, index, label in split] == [(int(at), LABELS[at]) for at in best]
            assert [float(score) for score, _, _ in split] == pytest.approx(known[best].tolist(), abs=1e-5)

    @pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
    def test_packed_requests_are_read(self, client: triton.InferenceServerClient, algorithm: str):
        plain, packed = (
            client.infer("plain", [encoded(*FILES)], request_compression_algorithm=one) for one in (None, algorithm)
        )
        assert packed.get_response() == plain.get_response()
        assert (packed.as_numpy("probabilities") == plain.as_numpy("probabilities")).all()

    def test_what_cannot_be_answered_says_why(self, client: triton.InferenceServerClient):
        broken = refused(lambda: client.infer("plain", [encoded(b"no image")]))
        assert (broken.status(), "not an image" in broken.message()) == ("400", True)
        unknown = refused(lambda: client.infer("plain", [encoded(FILES[0])], parameters={"classes": "cat"}))
        assert (unknown.status(), "cannot be composed" in unknown.message()) == ("409", True)
        shared = triton.InferInput("images", [1, 1, 16, 16], "UINT8")
        shared.set_shared_memory("region", 256)
        assert "shared memory" in refused(lambda: client.infer("plain", [shared])).message()
