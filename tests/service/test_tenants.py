"""Compositions that share the whole model's batches, and when they get a model of their own."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from serving import LABELS, Running, modular_model, png, running

from moda_core.data.images import decode
from moda_core.modularity.composition import compose
from moda_core.modularity.networks import network, predict
from service.inference.tenants import LOOK_EVERY, WINDOW, Tenants

SUBSETS = [subset for size in (1, 2, 3) for subset in itertools.combinations(LABELS, size)]


@pytest.fixture
def fresh(tmp_path) -> Iterator[Running]:
    with running(tmp_path, "redis://127.0.0.1:1/0") as service:
        yield service


def ask(service: Running, classes: tuple[str, ...], image: bytes) -> dict:
    query = [("model", "animals"), *(("classes", label) for label in classes)]
    answer = service.http.post("/predict", params=query, content=image, headers={"content-type": "image/png"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def metric(service: Running, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", service.http.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def composed(service: Running) -> float:
    return metric(service, 'moda_model_load_seconds_count{kind="composed"}')


def test_mixed_answers_are_those_of_the_composed_models_whatever_shares_their_batch(fresh: Running):
    images = [png(number) for number in range(len(SUBSETS))]
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(ask, itertools.repeat(fresh), SUBSETS, images))
    for classes, image, answer in zip(SUBSETS, images, answers, strict=True):
        model = compose(modular_model(), classes)
        expected = dict(zip(model.labels, predict(network(model), [decode(image)])[0].tolist(), strict=True))
        found = dict(zip(answer["classes"], answer["predictions"][0]["probabilities"], strict=True))
        assert found == pytest.approx(expected, abs=1e-5)
        assert answer["composition"]
    assert composed(fresh) == 0
    assert metric(fresh, 'moda_images_predicted_total{lane="mixed"}') == len(SUBSETS)


def test_what_was_composed_on_purpose_answers_by_its_own_model(fresh: Running):
    fresh.http.post("/compose", json={"model": "animals", "classes": ["dog", "cat"]})
    ask(fresh, ("cat", "dog"), png())
    assert metric(fresh, 'moda_images_predicted_total{lane="own"}') == 1
    assert metric(fresh, 'moda_images_predicted_total{lane="mixed"}') == 0


def test_a_subset_that_is_asked_for_again_and_again_gets_its_own_model_beside_the_traffic(
    fresh: Running, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.inference.tenants.Tenants.would_pay", lambda *_: True)
    before = ask(fresh, ("cat", "ship"), png(5))
    until = time.monotonic() + 30
    while not metric(fresh, 'moda_images_predicted_total{lane="own"}'):
        after = ask(fresh, ("cat", "ship"), png(5))
        assert time.monotonic() < until
    assert composed(fresh) == 1
    assert metric(fresh, 'moda_images_predicted_total{lane="mixed"}') >= LOOK_EVERY
    [first], [second] = before["predictions"], after["predictions"]
    assert torch.allclose(torch.tensor(first["probabilities"]), torch.tensor(second["probabilities"]), atol=1e-5)


def tenants(images: int, ms: float) -> Tenants:
    known = Tenants()
    for _ in range(50):
        known.ran("root", images, ms / 1e3)
    return known


def test_the_only_subset_of_its_root_is_worth_its_own_model():
    known = tenants(1, 20.0)
    for _ in range(100):
        known.asked("root", "only", 1)
    assert known.would_pay("root", "only", 0.3, 50.0)
    assert not known.would_pay("root", "only", 0.3, 1e6)
    assert not known.would_pay("root", "only", 1.0, 50.0)


def test_one_of_a_thousand_is_not():
    known = tenants(32, 370.0)
    known.ran("root", 1, 0.02)
    for number in range(WINDOW):
        known.asked("root", f"subset {number % 1000}", 1)
    assert not known.would_pay("root", "subset 3", 0.3, 50.0)


def test_what_was_asked_long_ago_is_forgotten():
    known = tenants(1, 20.0)
    for _ in range(100):
        known.asked("root", "once", 1)
    assert known.would_pay("root", "once", 0.3, 50.0)
    for _ in range(WINDOW):
        known.asked("root", "now", 1)
    assert not known.would_pay("root", "once", 0.3, 50.0)


def test_before_anything_ran_nothing_is_known():
    known = Tenants()
    looks = [known.asked("root", "one", 1) for _ in range(3 * LOOK_EVERY)]
    assert [number + 1 for number, look in enumerate(looks) if look] == [LOOK_EVERY, 2 * LOOK_EVERY, 3 * LOOK_EVERY]
    assert not known.would_pay("root", "one", 0.1, 1.0)
