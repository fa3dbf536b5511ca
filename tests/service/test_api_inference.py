from __future__ import annotations

import asyncio
import base64
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
import torch
from image_files import png_chunk
from serving import LABELS, Running, modular_model, patched_model, png, problem, running

from moda_core.data.images import decode
from moda_core.modularity.composition import compose
from moda_core.modularity.networks import network, predict
from service.api import predictions


def composed(service: Running, *classes: str, model: str = "animals", **members: object) -> dict:
    response = service.http.post("/compose", json={"model": model, "classes": classes, **members})
    assert response.status_code == 200, response.text
    return response.json()


def expected(model: object, *images: bytes) -> torch.Tensor:
    return predict(network(model), [decode(image) for image in images])


def huge_png(width: int, height: int) -> bytes:
    """A valid file of a few hundred bytes that claims to be an image of this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND")


class TestCompose:
    def test_answers_what_the_library_composes_in_the_callers_order(self, service: Running):
        answer = composed(service, "ship", "cat")
        weights = compose(modular_model(), ["ship", "cat"]).weights
        assert answer["classes"] == ["ship", "cat"]
        assert answer["threshold"] == "0.5"
        assert answer["kept_parameters"] < answer["original_parameters"]
        assert 0 < answer["kept_flops"] < answer["original_flops"]
        assert answer["compose_ms"] > 0
        assert sum(tensor.numel() for tensor in weights.values()) >= answer["kept_parameters"]

    def test_the_same_request_in_any_order_and_any_spelling_of_the_threshold_has_one_id(self, service: Running):
        ids = {
            composed(service, *classes, threshold=threshold)["id"]
            for classes in (("cat", "dog"), ("dog", "cat"))
            for threshold in (0.6, "0.6", "0.60")
        }
        assert len(ids) == 1

    def test_a_composition_is_listed_and_found_again(self, service: Running):
        answer = composed(service, "dog", "ship", threshold="0.7")
        listed = service.http.get("/compositions").json()["compositions"]
        found = service.http.get(answer["links"]["self"]).json()
        assert answer["id"] in {one["id"] for one in listed}
        assert found == {**answer, "classes": ["dog", "ship"], "compose_ms": None}

    def test_a_composition_is_composed_again_as_from_its_root(self, service: Running):
        whole, part = composed(service, "cat", "dog", "ship"), composed(service, "dog")
        again = composed(service, "dog", model=whole["id"])
        assert again["id"] == part["id"]
        problem(service.http.post("/compose", json={"model": part["id"], "classes": ["cat"]}), 404)
        lower = {"model": whole["id"], "classes": ["cat"], "threshold": "0.4"}
        problem(service.http.post("/compose", json=lower), 409)

    def test_the_file_comes_whole_with_its_digest_and_can_be_uploaded_and_composed(self, service: Running):
        answer = composed(service, "cat", "ship")
        first, second = (service.http.get(answer["links"]["weights"]) for _ in range(2))
        assert first.content == second.content
        assert int(first.headers["content-length"]) == len(first.content)
        again = service.http.get(answer["links"]["weights"], headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        files = {"file": ("part.safetensors", first.content)}
        stored = service.http.post("/models", data={"name": "part"}, files=files).json()
        assert (stored["kind"], stored["classes"]) == ("composed", ["cat", "ship"])
        image = png(3)
        original = service.http.post(answer["links"]["predict"], content=image, headers={"content-type": "image/png"})
        copy = service.http.post("/predict?model=part", content=image, headers={"content-type": "image/png"})
        assert copy.json()["predictions"] == original.json()["predictions"]

    @pytest.mark.parametrize(
        ("body", "status", "field"),
        [
            ({"model": "animals", "classes": ["cow"]}, 404, "class"),
            ({"model": "nobody", "classes": ["cat"]}, 404, "model"),
            ({"model": "animals@9", "classes": ["cat"]}, 404, "model"),
            ({"model": "animals@prod", "classes": ["cat"]}, 404, "alias"),
            ({"model": "0" * 64, "classes": ["cat"]}, 404, "model"),
            ({"model": "No Name", "classes": ["cat"]}, 422, "model"),
            ({"model": "animals", "classes": ["cat", "cat"]}, 422, "classes"),
            ({"model": "animals", "classes": []}, 422, "classes"),
            ({"model": "animals", "classes": "cat"}, 422, "classes"),
            ({"model": "animals"}, 422, "classes"),
            ({"model": "animals", "classes": ["cat"], "threshold": 1.5}, 422, "threshold"),
            ({"model": "animals", "classes": ["cat"], "threshold": "-0.1"}, 422, "threshold"),
            ({"model": "animals", "classes": ["cat"], "threshold": "0.12345"}, 422, "threshold"),
            ({"model": "animals", "classes": ["cat"], "threshold": "high"}, 422, "threshold"),
            ({"model": "animals", "classes": ["cat"], "extra": 1}, 422, "extra"),
            ({"model": "cut", "classes": ["cat"], "threshold": "0.4"}, 409, None),
            ({"model": "plain", "classes": ["cat"]}, 409, None),
            ({"model": "patched", "classes": ["cat"]}, 409, None),
        ],
    )
    def test_a_bad_request_is_refused_and_changes_nothing(
        self, service: Running, body: dict, status: int, field: str | None
    ):
        before = service.http.get("/compositions").json()
        document = problem(service.http.post("/compose", json=body), status)
        assert document.get("field") == field
        assert document["remedy"]
        assert service.http.get("/compositions").json() == before


class TestPredict:
    def test_the_three_forms_of_a_request_have_one_answer_and_it_is_the_librarys(self, service: Running):
        image = png(7)
        raw = service.http.post("/predict?model=animals", content=image, headers={"content-type": "image/png"})
        form = service.http.post("/predict", data={"model": "animals"}, files=[("image", ("a.png", image))])
        instance = {"b64": base64.b64encode(image).decode()}
        from_json = service.http.post("/predict", json={"model": "animals", "instances": [instance]})
        assert raw.status_code == 200, raw.text
        assert raw.json() == form.json() == from_json.json()
        probabilities = raw.json()["predictions"][0]["probabilities"]
        assert torch.allclose(torch.tensor(probabilities), expected(modular_model(), image)[0], atol=1e-6)

    def test_probabilities_stand_in_the_order_of_the_request(self, service: Running):
        image = png(9)
        instances = [{"b64": base64.b64encode(image).decode()}]
        order = ["ship", LABELS[3], "cat"]
        body = {"model": "animals", "classes": order, "threshold": 0.4, "instances": instances}
        answer = service.http.post("/predict", json=body).json()
        model = compose(modular_model(), order, Decimal("0.4"))
        reference = dict(zip(model.labels, expected(model, image)[0].tolist(), strict=True))
        assert answer["classes"] == order
        [one] = answer["predictions"]
        assert one["probabilities"] == pytest.approx([reference[label] for label in order], abs=1e-6)
        assert one["probability"] == max(one["probabilities"])
        assert one["label"] == max(reference, key=reference.__getitem__)

    def test_images_of_other_sizes_and_colours_are_fitted(self, service: Running):
        images = [png(1), png(2, (40, 30)), png(3, (7, 5))]
        files = [("image", (f"{index}.png", image)) for index, image in enumerate(images)]
        answer = service.http.post("/predict", data={"model": "patched"}, files=files).json()
        rows = torch.tensor([one["probabilities"] for one in answer["predictions"]])
        assert torch.allclose(rows, expected(patched_model(), *images), atol=1e-6)

    def test_every_kind_of_model_predicts(self, service: Running):
        for name in ("plain", "animals", "cut", "patched", composed(service, "dog")["id"]):
            response = service.http.post(f"/predict?model={name}", content=png(), headers={"content-type": "image/png"})
            assert response.status_code == 200, response.text
            assert sum(response.json()["predictions"][0]["probabilities"]) == pytest.approx(1, abs=1e-5)

    @pytest.mark.parametrize(
        ("content", "status", "code"),
        [
            (b"", 400, "unreadable-image"),
            (b"just some text", 400, "unreadable-image"),
            (png()[:60], 400, "unreadable-image"),
            (png(size=(64, 64))[:-40], 400, "unreadable-image"),
            (huge_png(60_000, 60_000), 413, "too-large"),
        ],
        ids=["empty", "text", "header only", "truncated", "60000 x 60000"],
    )
    def test_what_is_no_image_is_refused_in_every_form(self, service: Running, content: bytes, status: int, code: str):
        raw = service.http.post("/predict?model=animals", content=content, headers={"content-type": "image/png"})
        form = service.http.post("/predict", data={"model": "animals"}, files=[("image", ("a.png", content))])
        body = {"model": "animals", "instances": [{"b64": base64.b64encode(content).decode()}]}
        from_json = service.http.post("/predict", json=body)
        for response, field in ((raw, "image"), (form, "image[0]"), (from_json, "instances.0.b64")):
            document = problem(response, status)
            assert (document["code"], document["field"]) == (code, field)

    @pytest.mark.parametrize(
        ("options", "status"),
        [
            ({"content": png(), "headers": {"content-type": "image/png"}}, 422),
            ({"content": png(), "headers": {"content-type": "text/plain"}}, 415),
            ({"content": png()}, 415),
            ({"data": {"model": "animals"}, "files": [("picture", ("a.png", png()))]}, 422),
            ({"data": {"image": "text"}, "files": [("image", ("a.png", png()))]}, 422),
            ({"json": {"model": "animals", "instances": []}}, 422),
            ({"json": {"model": "animals", "instances": [{"b64": "***"}]}}, 400),
            ({"json": {"model": "animals", "threshold": 0.5, "instances": [{"b64": ""}]}}, 422),
            ({"json": {"model": "animals", "classes": ["cow"], "instances": [{"b64": ""}]}}, 404),
            ({"content": b"{", "headers": {"content-type": "application/json"}}, 422),
            ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 422),
        ],
    )
    def test_other_bad_requests_say_what_is_wrong(self, service: Running, options: dict, status: int):
        assert problem(service.http.post("/predict", **options), status)["detail"]

    def test_more_images_than_one_request_may_have_are_refused_with_what_it_may(self, service: Running):
        files = [("image", (f"{index}.png", b"x")) for index in range(1025)]
        document = problem(service.http.post("/predict", data={"model": "animals"}, files=files), 422)
        assert document["field"] == "body"
        assert "1024 images" in document["remedy"]
        body = {"model": "animals", "instances": [{"b64": ""}] * 1025}
        assert problem(service.http.post("/predict", json=body), 422)["field"] == "instances"

    def test_json_is_read_beside_the_event_loop(self, service: Running, monkeypatch: pytest.MonkeyPatch):
        read_on: list[str] = []
        from_base64 = predictions.from_base64

        def noted(field: str, text: str):
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                read_on.append("a thread")
            else:
                read_on.append("the event loop")
            return from_base64(field, text)

        monkeypatch.setattr(predictions, "from_base64", noted)
        body = {"model": "animals", "instances": [{"b64": base64.b64encode(png()).decode()}]}
        assert service.http.post("/predict", json=body).status_code == 200
        assert read_on == ["a thread"]


def test_concurrent_first_requests_compose_once(service: Running):
    def loads() -> float:
        lines = service.http.get("/metrics").text.splitlines()
        counts = [line for line in lines if line.startswith("moda_model_load_seconds_count")]
        return sum(float(line.split()[1]) for line in counts)

    before = loads()
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda _: composed(service, "cat", threshold="0.83"), range(8)))
    assert len({answer["id"] for answer in answers}) == 1
    assert loads() == before + 1


def test_without_redis_everything_but_jobs_goes_on(without_redis: Running):
    http = without_redis.http
    answer = composed(without_redis, "cat", "dog")
    response = http.post(f"/predict?model={answer['id']}", content=png(), headers={"content-type": "image/png"})
    assert response.status_code == 200
    for path in ("/models", "/models/animals", "/datasets", "/compositions", "/healthz", "/metrics"):
        assert http.get(path).status_code == 200
    ready = http.get("/readyz")
    assert (ready.status_code, ready.json()["registry"]) == (200, "ok")
    assert "does not answer" in ready.json()["redis"]
    refused = http.post("/evaluate", json={"model": "animals", "dataset": "pictures"})
    document = problem(refused, 503)
    assert "Redis" in document["detail"]
    assert refused.headers["retry-after"]
    problem(http.get("/jobs"), 503)


def test_a_cache_without_room_still_answers(tmp_path, redis):
    with running(tmp_path, redis.url, cache_bytes=0) as service:
        for _ in range(2):
            answer = composed(service, "cat", "dog")
            response = service.http.post(
                answer["links"]["predict"], content=png(), headers={"content-type": "image/png"}
            )
            assert response.json()["classes"] == ["cat", "dog"]
        assert "moda_cached_models 0.0" in service.http.get("/metrics").text
