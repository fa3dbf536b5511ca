"""Loading and unloading through an unmodified `tritonclient`: which version answers, and what stays when that fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.http as triton
from serving import Running, modular_model, running, trained_model

from moda_core.modularity.networks import logits, network
from service.inference.engine import Engine, Prediction
from service.inference.servables import Servable

IMAGE = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[triton.InferenceServerClient]:
    with connected(service) as client:
        yield client


def connected(service: Running) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(service.http.base_url.netloc.decode())


def asked(client: triton.InferenceServerClient, name: str, version: str = "") -> tuple[str, str, np.ndarray]:
    """The digest and version that answer for a name now, and their logits of `IMAGE`."""
    given = triton.InferInput("images", [1, 1, 16, 16], "UINT8").set_data_from_numpy(IMAGE[None].numpy())
    outputs = [triton.InferRequestedOutput("logits")]
    answer = client.infer(name, [given], model_version=version, outputs=outputs)
    head = answer.get_response()
    return head["parameters"]["digest"], head["model_version"], answer.as_numpy("logits")[0]


def states(client: triton.InferenceServerClient, name: str) -> list[tuple[str, str, str]]:
    rows = client.get_model_repository_index()
    return [(row["version"], row["state"], row["reason"]) for row in rows if row["name"] == name]


def damage(service: Running, name: str) -> None:
    """Publish a version of `name` whose weights are not what they were."""
    service.upload(trained_model(99), name)
    weights = service.registry.resolve(name).manifest.blobs["weights"]
    path = service.registry.blob_path(weights)
    path.chmod(0o600)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def expected(seed: int) -> np.ndarray:
    return logits(network(trained_model(seed)), [IMAGE])[0].numpy()


def test_the_index_has_every_live_version(service: Running, client: triton.InferenceServerClient):
    for seed in (11, 12, 13):
        service.upload(trained_model(seed), "indexed")
    service.http.delete("/models/indexed@2")
    assert states(client, "indexed") == [("1", "READY", ""), ("3", "READY", "")]
    assert states(client, "animals") == [("1", "READY", "")]


def test_a_name_that_was_never_loaded_answers_by_its_latest_version(
    service: Running, client: triton.InferenceServerClient
):
    first, second = (service.upload(trained_model(seed), "fresh")["digest"] for seed in (21, 22))
    assert asked(client, "fresh")[:2] == (second, "2")
    assert asked(client, "fresh", "1")[:2] == (first, "1")
    assert asked(client, first)[:2] == (first, first)


def test_a_loaded_name_keeps_its_version_until_it_is_loaded_again(
    service: Running, client: triton.InferenceServerClient
):
    old = service.upload(trained_model(31), "kept")["digest"]
    client.load_model("kept")
    new = service.upload(trained_model(32), "kept")["digest"]
    assert asked(client, "kept")[:2] == (old, "1")
    assert asked(client, "kept")[2] == pytest.approx(expected(31), abs=1e-5)
    assert asked(client, "kept", "2")[:2] == (new, "2")
    assert client.get_model_metadata("kept")["parameters"]["version"] == "1"
    assert client.get_model_metadata("kept")["versions"] == ["1", "2"]
    client.load_model("kept")
    assert asked(client, "kept")[:2] == (new, "2")
    assert asked(client, "kept")[2] == pytest.approx(expected(32), abs=1e-5)


def test_a_loaded_alias_keeps_what_it_meant(service: Running, client: triton.InferenceServerClient):
    first, second = (service.upload(trained_model(seed), "aliased")["digest"] for seed in (41, 42))
    service.http.put("/models/aliased/aliases/prod", json={"version": 1}).raise_for_status()
    client.load_model("aliased@prod")
    service.http.put("/models/aliased/aliases/prod", json={"version": 2}).raise_for_status()
    assert asked(client, "aliased@prod")[:2] == (first, "1")
    assert states(client, "aliased@prod") == [("1", "READY", "")]
    client.load_model("aliased@prod")
    assert asked(client, "aliased@prod")[:2] == (second, "2")


def test_what_is_unloaded_does_not_answer_until_it_is_loaded_again(
    service: Running, client: triton.InferenceServerClient
):
    digest = service.upload(trained_model(51), "away")["digest"]
    for loaded in (False, True):
        if loaded:
            client.load_model("away")
        client.unload_model("away")
        client.unload_model("away")
        assert not client.is_model_ready("away")
        assert not client.is_model_ready("away", "1")
        assert not client.is_model_ready("away@latest")
        assert states(client, "away") == [("1", "UNAVAILABLE", "unloaded")]
        with pytest.raises(triton.InferenceServerException, match="unloaded") as caught:
            asked(client, "away")
        assert caught.value.status() == "404"
    ready = service.http.post("/v2/repository/index", json={"ready": True}).json()
    assert "away" not in {row["name"] for row in ready}
    assert asked(client, digest)[0] == digest
    client.load_model("away")
    assert asked(client, "away")[:2] == (digest, "1")


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_answering(
    service: Running, client: triton.InferenceServerClient
):
    old = service.upload(trained_model(61), "broken")["digest"]
    client.load_model("broken")
    damage(service, "broken")
    with pytest.raises(triton.InferenceServerException, match="have the digest") as caught:
        client.load_model("broken")
    assert caught.value.status() == "500"
    assert asked(client, "broken")[:2] == (old, "1")
    assert client.is_model_ready("broken")
    assert not client.is_model_ready("broken", "2")
    (first, second) = states(client, "broken")
    assert first == ("1", "READY", "")
    assert second[:2] == ("2", "UNAVAILABLE")
    assert "have the digest" in second[2]
    new = service.upload(trained_model(62), "broken")["digest"]
    client.load_model("broken")
    assert asked(client, "broken")[:2] == (new, "3")


def test_a_loaded_version_answers_although_it_was_deleted(service: Running, client: triton.InferenceServerClient):
    old = service.upload(modular_model(71), "gone")["digest"]
    client.load_model("gone")
    service.http.delete("/models/gone@1").raise_for_status()
    assert asked(client, "gone")[:2] == (old, "1")
    assert states(client, "gone") == [("1", "READY", "")]
    with pytest.raises(triton.InferenceServerException) as caught:
        client.load_model("gone")
    assert caught.value.status() == "404"
    client.unload_model("gone")
    assert not client.is_model_ready("gone")


def test_a_composition_is_loaded_and_unloaded_by_its_id(service: Running, client: triton.InferenceServerClient):
    made = service.http.post("/compose", json={"model": "animals", "classes": ["cat", "dog"]}).json()
    client.load_model(made["id"])
    assert states(client, made["id"]) == [(made["model"], "READY", "")]
    client.unload_model(made["id"])
    assert not client.is_model_ready(made["id"])
    assert client.is_model_ready("animals")


def test_names_that_are_not_there_and_overrides_are_refused(service: Running, client: triton.InferenceServerClient):
    before = client.get_model_repository_index()
    for call in (client.load_model, client.unload_model):
        with pytest.raises(triton.InferenceServerException) as caught:
            call("nobody")
        assert caught.value.status() == "404"
    with pytest.raises(triton.InferenceServerException, match="as they are stored") as caught:
        client.load_model("plain", config="{}")
    assert caught.value.status() == "400"
    assert client.get_model_repository_index() == before
    assert service.http.post("/v2/repository/index", content=b'{"ready": 1}').status_code == 400


def test_a_request_finishes_on_the_version_that_it_began_with(service: Running, monkeypatch: pytest.MonkeyPatch):
    old = service.upload(trained_model(91), "overtaken")["digest"]
    predict, began, may_go_on = Engine.predict, threading.Event(), threading.Event()

    async def slow(self: Engine, servable: Servable, images: Sequence[torch.Tensor], **options: object) -> Prediction:
        if servable.model == old:
            began.set()
            await asyncio.to_thread(may_go_on.wait, 30)
        return await predict(self, servable, images, **options)

    def ask() -> tuple[str, str, np.ndarray]:
        with connected(service) as own:
            return asked(own, "overtaken")

    with connected(service) as client, ThreadPoolExecutor(1) as threads:
        client.load_model("overtaken")
        monkeypatch.setattr(Engine, "predict", slow)
        overtaken = threads.submit(ask)
        assert began.wait(30)
        new = service.upload(trained_model(92), "overtaken")["digest"]
        client.load_model("overtaken")
        assert asked(client, "overtaken")[:2] == (new, "2")
        client.unload_model("overtaken")
        may_go_on.set()
        digest, version, numbers = overtaken.result(30)
    assert (digest, version) == (old, "1")
    assert numbers == pytest.approx(expected(91), abs=1e-5)


def test_answers_during_a_switch_are_of_the_digest_that_they_name(service: Running):
    seeds = range(80, 84)
    known = {service.upload(trained_model(seed), "switched")["digest"]: expected(seed) for seed in seeds[:1]}
    seen, failures, done = set(), [], threading.Event()

    def ask() -> None:
        with connected(service) as own:
            while not done.is_set():
                digest, _, numbers = asked(own, "switched")
                seen.add(digest)
                if not np.allclose(numbers, known[digest], atol=1e-5):
                    failures.append(digest)

    with connected(service) as client:
        client.load_model("switched")
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for seed in seeds[1:]:
                digest = service.upload(trained_model(seed), "switched")["digest"]
                known[digest] = expected(seed)
                client.load_model("switched")
                seen.add(asked(client, "switched")[0])
                assert digest in seen
        finally:
            done.set()
            for thread in threads:
                thread.join(30)
    assert not failures
    assert seen == set(known)


def test_a_loaded_model_stays_in_memory_however_small_the_cache(tmp_path: Path):
    with running(tmp_path, "redis://127.0.0.1:1/0", cache_bytes=0) as service, connected(service) as client:
        client.load_model("plain")
        service.registry.blob_path(service.registry.resolve("plain").manifest.blobs["weights"]).unlink()
        assert asked(client, "plain")[2] == pytest.approx(expected(0), abs=1e-5)
        client.unload_model("plain")
        with pytest.raises(triton.InferenceServerException, match="the store has lost it"):
            client.load_model("plain")
        assert not client.is_model_ready("plain")
