"""Requests of the protocol byte by byte: what is refused, in which words, and that nothing fails."""

from __future__ import annotations

import gzip
import json
import zlib

import httpx
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from serving import Running, png, running, trained_model

from moda_core.errors import StorageFailure
from moda_core.storage.registry import Registry

HEADER = "Inference-Header-Content-Length"
BOUNDED = hypothesis.settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
GREY = {"name": "images", "datatype": "UINT8", "shape": [1, 1, 2, 2], "data": [1, 2, 3, 4]}


def infer(service: Running, body: object, *, model: str = "plain", **headers: object) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return service.http.post(f"/v2/models/{model}/infer", content=content, headers=named)


def binary(head: dict, data: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + data, {HEADER: str(len(text))}


def error(response: httpx.Response, status: int) -> str:
    """The text of an error in the protocol's form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    return response.json()["error"]


class TestForms:
    def test_nested_and_flat_data_are_the_same(self, service: Running):
        nested = {**GREY, "data": [[[[1, 2], [3, 4]]]]}
        flat, deep = (infer(service, {"inputs": [one]}).json() for one in (GREY, nested))
        assert flat == deep
        assert [one["name"] for one in flat["outputs"]] == ["probabilities", "label"]
        assert "id" not in flat

    def test_a_header_length_of_zero_is_one_image_file(self, service: Running):
        raw = infer(service, png(9), **{HEADER: 0})
        sent = service.http.post("/predict?model=plain", content=png(9), headers={"content-type": "image/png"}).json()
        assert raw.json()["outputs"][1]["data"] == [sent["predictions"][0]["label"]]
        error(infer(service, b"", **{HEADER: 0}), 400)

    def test_json_and_binary_outputs_stand_in_one_answer(self, service: Running):
        outputs = [{"name": "label"}, {"name": "logits", "parameters": {"binary_data": True}}]
        answer = infer(service, {"inputs": [GREY], "outputs": outputs})
        length = int(answer.headers[HEADER])
        label, logits = json.loads(answer.content[:length])["outputs"]
        assert label["data"]
        assert (logits["parameters"], len(answer.content) - length) == ({"binary_data_size": 16}, 16)
        assert np.isfinite(np.frombuffer(answer.content[length:], "<f4")).all()

    def test_unknown_parameters_of_other_servers_are_passed_over(self, service: Running):
        parameters = {"sequence_id": 7, "priority": 1, "timeout": 30_000_000}
        assert infer(service, {"inputs": [GREY], "parameters": parameters, "more": 1}).status_code == 200

    def test_what_is_not_finite_is_null_in_json(self, service: Running):
        model = trained_model(8)
        for tensor in model.weights.values():
            if tensor.is_floating_point():
                tensor.fill_(3e38)
        service.upload(model, "vast")
        answer = infer(service, {"inputs": [GREY], "outputs": [{"name": "logits"}]}, model="vast")
        assert answer.json()["outputs"][0]["data"] == [None] * 4


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"shape": [1, 1, 2, 3]}, "4 elements for a shape of 6"),
            ({"shape": [0, 1, 2, 2]}, "inputs.0.shape.0"),
            ({"shape": [-1, 1, 2, 2]}, "inputs.0.shape.0"),
            ({"shape": [1, 2, 2, 1]}, "neither grey nor colour"),
            ({"shape": [4]}, "not 4 dimensions"),
            ({"shape": [1, 1, 2, 2, 1]}, "inputs.0.shape"),
            ({"shape": []}, "inputs.0.shape"),
            ({"shape": ["1", 1, 2, 2]}, "inputs.0.shape.0"),
            ({"shape": [10**4000, 1, 1, 1]}, "inputs.0.shape.0"),
            ({"datatype": "FP32"}, "inputs.0.datatype"),
            ({"datatype": "BYTES"}, "not the datatype of images"),
            ({"name": "encoded"}, "not the datatype of encoded"),
            ({"name": "pictures"}, "inputs.0.name"),
            ({"data": [1, 2, 3, 256]}, "whole numbers from 0 to 255"),
            ({"data": [1, 2, 3, -1]}, "whole numbers from 0 to 255"),
            ({"data": [1, 2, 3, 0.5]}, "whole numbers from 0 to 255"),
            ({"data": [1, 2, 3, "4"]}, "whole numbers from 0 to 255"),
            ({"data": [1, 2, 3, [4]]}, "whole numbers from 0 to 255"),
            ({"data": [[[[1, 2], [3]]]]}, "not nested as the shape"),
            ({"data": [[1, 2], [3, 4]]}, "not nested as the shape"),
            ({"data": []}, "0 elements for a shape of 4"),
            ({"data": None}, "not one form of data"),
            ({"parameters": {"binary_data_size": 4}}, "not one form of data"),
            ({"parameters": {"binary_data_size": -4}}, "binary_data_size"),
            ({"parameters": {"shared_memory_region": "r"}}, "shared memory is not supported"),
        ],
    )
    def test_an_input_that_does_not_fit(self, service: Running, change: dict, words: str):
        assert words in error(infer(service, {"inputs": [{**GREY, **change}]}), 400)

    @pytest.mark.parametrize(
        "shape", [[2**31 - 1, 1, 2**31 - 1, 2**31 - 1], [1, 1, 2**31 - 1, 2**31 - 1], [1025, 1, 1, 1]]
    )
    def test_a_shape_that_is_too_large(self, service: Running, shape: list[int]):
        refused = infer(service, {"inputs": [{**GREY, "shape": shape}]})
        error(refused, 413)

    @pytest.mark.parametrize(
        ("outputs", "words"),
        [
            ([{"name": "label"}, {"name": "label"}], "named twice"),
            ([{"name": "scores"}], "outputs.0.name"),
            ([{"name": "label", "parameters": {"classification": 1}}], "labels have no scores"),
            ([{"name": "logits", "parameters": {"classification": 0}}], "classification"),
            ([{"name": "logits", "parameters": {"shared_memory_region": "r"}}], "shared memory"),
        ],
    )
    def test_outputs_that_cannot_be_had(self, service: Running, outputs: list[dict], words: str):
        assert words in error(infer(service, {"inputs": [GREY], "outputs": outputs}), 400)

    @pytest.mark.parametrize("length", ["-1", "1e1", "0x10", "9" * 40, "", "²", "100000"])
    def test_a_header_length_that_lies(self, service: Running, length: str):
        body, _ = binary({"inputs": [GREY]}, b"")
        refused = service.http.post(
            "/v2/models/plain/infer", content=body, headers=[(HEADER.encode(), length.encode())]
        )
        assert HEADER in error(refused, 400)

    @pytest.mark.parametrize("size", [3, 5])
    def test_binary_data_that_is_cut_off_or_too_much(self, service: Running, size: int):
        tensor = {**GREY, "parameters": {"binary_data_size": 4}}
        del tensor["data"]
        body, headers = binary({"inputs": [tensor]}, bytes(size))
        assert f"4 bytes are declared behind the JSON, and there are {size}" in error(
            infer(service, body, **headers), 400
        )

    @pytest.mark.parametrize(
        "data", [b"\1", b"\5\0\0\0abcd", b"\xff\xff\xff\xff", b"\1\0\0\0a\1\0", b"\0\0\0\0" * 3, b""]
    )
    def test_byte_strings_that_are_cut_off_or_miscounted(self, service: Running, data: bytes):
        parameters = {"binary_data_size": len(data)}
        tensor = {"name": "encoded", "datatype": "BYTES", "shape": [2], "parameters": parameters}
        body, headers = binary({"inputs": [tensor]}, data)
        error(infer(service, body, **headers), 400)

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 10_000, b'{"inputs": []}'])
    def test_bodies_that_are_no_request(self, service: Running, body: bytes):
        error(infer(service, body), 400)

    def test_paths_methods_and_names_that_are_not_there(self, service: Running):
        error(service.http.get("/v2/nothing"), 404)
        error(service.http.delete("/v2"), 405)
        error(infer(service, {"inputs": [GREY]}, model="nobody"), 404)
        error(service.http.get("/v2/models/%ff%00/ready"), 400)
        foreign = service.http.post("/v2/repository/index", headers={"origin": "http://evil.example"})
        error(foreign, 403)

    def test_other_paths_keep_their_problem_documents(self, service: Running):
        assert service.http.get("/v2x").headers["content-type"] == "application/problem+json"


class TestPacking:
    def test_bytes_that_are_not_what_they_are_called_are_refused(self, service: Running):
        body = json.dumps({"inputs": [GREY]}).encode()
        packed = gzip.compress(body)
        assert infer(service, packed, content_encoding="gzip").status_code == 200
        assert infer(service, body, content_encoding="identity").status_code == 200
        for broken in (body, packed[:-9], packed + b"x", zlib.compress(body)):
            error(infer(service, broken, content_encoding="gzip"), 400)
        error(infer(service, body, content_encoding="br"), 415)

    def test_what_grows_beyond_the_limit_is_refused(self, tmp_path):
        with running(tmp_path, "redis://127.0.0.1:1/0", max_body_bytes=1_000_000) as service:
            bomb = gzip.compress(bytes(10**8))
            assert "once it is decompressed" in error(infer(service, bomb, content_encoding="gzip"), 413)
            error(infer(service, bytes(1_000_001)), 413)


def test_a_store_that_cannot_be_used_is_not_ready(service: Running, monkeypatch: pytest.MonkeyPatch):
    def broken(self: Registry) -> None:
        raise StorageFailure("the disk is gone", "bring it back")

    monkeypatch.setattr(Registry, "check", broken)
    response = service.http.get("/v2/health/ready")
    assert "the disk is gone" in error(response, 503)
    assert response.headers["retry-after"]
    assert service.http.get("/v2/health/live").json() == {"live": True}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.integers(-3, 300),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["images", "encoded"]) | st.text(max_size=5),
        "datatype": st.sampled_from(["UINT8", "BYTES", "FP32"]),
        "shape": st.lists(st.integers(1, 3) | st.integers(), min_size=1, max_size=4) | VALUES,
    },
    optional={
        "data": st.lists(st.integers(0, 255), max_size=9) | VALUES,
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data_size": st.integers(0, 9) | st.integers(), "more": VALUES}
        )
        | VALUES,
    },
)
OUTPUTS = st.fixed_dictionaries(
    {"name": st.sampled_from(["logits", "probabilities", "label"])},
    optional={
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data": st.booleans() | VALUES, "classification": st.integers(1, 5) | VALUES}
        )
    },
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=2) | VALUES},
    optional={"id": st.text(max_size=5) | VALUES, "outputs": st.lists(OUTPUTS, max_size=3), "parameters": VALUES},
)


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # threads of the service do, meanwhile
@BOUNDED
@hypothesis.given(
    request=REQUESTS, data=st.binary(max_size=12), length=st.none() | st.integers(-2, 400), lies=st.booleans()
)
def test_no_request_makes_the_service_fail(
    service: Running, request: dict, data: bytes, length: int | None, lies: bool
):
    body, headers = binary(request, data)
    if lies:
        headers = {} if length is None else {HEADER: str(length)}
    response = infer(service, body, **headers)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        error(response, response.status_code)
