"""Two processes of the service on one registry and one Redis are one service: same ids, same answers, same news."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from serving import dataset, modular_model, png, trained_model

from benchmarks.endurance.service import served
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Registry
from worker.embedded import EmbeddedRedis

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts processes that end with this one")

NEWS_S = 1.0
"""Within which what one process publishes is known to the others."""
ROUNDING = 1e-6
"""Each process measures which form of a model is fastest; forms differ by float32's rounding."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, redis: EmbeddedRedis) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Clients of two processes, which share a registry that holds `animals`, and a Redis."""
    store = tmp_path_factory.mktemp("store")
    Registry(store).put_dataset("pictures", dataset())
    shared = {"MODA_REGISTRY": str(store), "MODA_REDIS_URL": redis.url}
    with ExitStack() as stack:
        homes = (tmp_path_factory.mktemp("home") for _ in range(2))
        services = [stack.enter_context(served(home, threads=1, settings=shared)) for home in homes]
        one, other = (stack.enter_context(httpx.Client(base_url=each.url, timeout=60)) for each in services)
        published(one, modular_model(), "animals")
        yield one, other


def published(service: httpx.Client, model: object, name: str) -> dict:
    response = service.post("/models", data={"name": name}, files={"file": ("m.safetensors", encode(model))})
    assert response.status_code == 201, response.text
    return response.json()


def composed(service: httpx.Client, *classes: str) -> dict:
    response = service.post("/compose", json={"model": "animals", "classes": classes})
    assert response.status_code == 200, response.text
    return response.json()


def predicted(service: httpx.Client, **query: object) -> httpx.Response:
    return service.post("/predict", params=query, content=png(), headers={"Content-Type": "image/png"})


def answered_by(service: httpx.Client, reference: str) -> str | int:
    """The digest of the model that answers, or the status of the refusal."""
    answer = predicted(service, model=reference)
    return answer.json()["model"] if answer.status_code == 200 else answer.status_code


def becomes(expected: object, look: Callable[[], object]) -> None:
    """What `look` sees is as expected within the time that news may take."""
    ends_at = time.monotonic() + NEWS_S
    seen = look()
    while seen != expected and time.monotonic() < ends_at:
        time.sleep(0.02)
        seen = look()
    assert seen == expected


def test_the_same_request_has_the_same_id_and_the_same_bytes(pair: tuple[httpx.Client, httpx.Client]):
    one, other = pair
    ids = {composed(one, "cat", "dog")["id"], composed(other, "dog", "cat")["id"]}
    assert len(ids) == 1
    files = [service.get(f"/compositions/{next(iter(ids))}/weights") for service in pair]
    assert [file.status_code for file in files] == [200, 200]
    assert len({hashlib.sha256(file.content).hexdigest() for file in files}) == 1


def test_each_derives_the_same_bytes_by_itself(tmp_path: Path):
    """On registries of their own: nothing that one has derived is there for the other to read."""
    digests = set()
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        with served(tmp_path / place, threads=1) as service, httpx.Client(base_url=service.url, timeout=60) as client:
            published(client, modular_model(), "animals")
            made = composed(client, "cat", "ship")
            file = client.get(f"/compositions/{made['id']}/weights").content
            digests.add((made["id"], hashlib.sha256(file).hexdigest()))
    assert len(digests) == 1


@pytest.mark.parametrize("asked", [{"model": "animals"}, {"model": "animals", "classes": ["ship", "cat"]}])
def test_answers_are_equal(pair: tuple[httpx.Client, httpx.Client], asked: dict):
    first, second = (predicted(service, **asked).json() for service in pair)
    [here], [there] = first.pop("predictions"), second.pop("predictions")
    assert first == second
    assert here["label"] == there["label"]
    assert there["probabilities"] == pytest.approx(here["probabilities"], abs=ROUNDING)


def test_what_one_composed_the_other_answers_by_its_id(pair: tuple[httpx.Client, httpx.Client]):
    one, other = pair
    made = composed(one, "dog", "ship")
    assert other.get(f"/compositions/{made['id']}").json()["model"] == made["model"]
    here, there = (predicted(service, model=made["id"]).json()["predictions"][0] for service in pair)
    assert there["probabilities"] == pytest.approx(here["probabilities"], abs=ROUNDING)


def test_a_published_version_is_news_to_the_other_and_its_end_too(pair: tuple[httpx.Client, httpx.Client]):
    one, other = pair
    assert answered_by(other, "new") == 404
    first, second = (published(one, trained_model(seed), "new")["digest"] for seed in (1, 2))
    assert first != second
    becomes(second, lambda: answered_by(other, "new"))
    assert answered_by(other, "new@1") == first
    assert one.delete("/models/new@2").is_success
    becomes(first, lambda: answered_by(other, "new"))
    becomes(404, lambda: answered_by(other, "new@2"))
    assert other.delete("/models/new@1").is_success
    becomes(404, lambda: answered_by(one, "new"))


def test_an_alias_is_news_to_the_other_and_is_guarded_across_them(pair: tuple[httpx.Client, httpx.Client]):
    one, other = pair
    digests = [published(one, trained_model(seed), "aliased")["digest"] for seed in (3, 4)]
    at = "/models/aliased/aliases/prod"
    seen = one.put(at, json={"version": 1})
    assert seen.is_success
    becomes(digests[0], lambda: answered_by(other, "aliased@prod"))
    assert other.put(at, json={"version": 2}, headers={"If-Match": seen.json()["etag"]}).is_success
    becomes(digests[1], lambda: answered_by(one, "aliased@prod"))
    stale = one.put(at, json={"version": 1}, headers={"If-Match": seen.json()["etag"]})
    assert stale.status_code == 412


def test_a_job_is_the_same_through_both(pair: tuple[httpx.Client, httpx.Client]):
    one, other = pair
    spec = {"dataset": "pictures", "architecture": "cnn", "image_size": 16, "epochs": 1}
    first, again = (service.post("/train", json={"spec": spec}).json() for service in pair)
    assert first["id"] == again["id"]
    assert other.get(f"/jobs/{first['id']}").json()["state"] == "queued"
    assert other.delete(f"/jobs/{first['id']}").is_success
    assert one.get(f"/jobs/{first['id']}").json()["state"] == "cancelled"
