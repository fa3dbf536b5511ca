from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from serving import LABELS, dataset, modular_model, patched_model, running, trained_model

from moda_core.inference.forms import choose
from moda_core.modularity.composition import compose
from moda_core.modularity.models import Model
from moda_core.storage.registry import Registry
from service.inference import forms as serving_forms
from service.inference.forms import Forms, real_images


def measured(forms: Forms, digest: str = "d") -> dict:
    until = time.monotonic() + 60
    while (choice := forms.choice(digest)) is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    return choice


def asked(model: Model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 1, 16, 16), generator=generator).to(torch.uint8)


def test_a_model_is_folded_until_it_was_measured_and_then_in_the_form_that_was_fastest(tmp_path: Path):
    root, forms = modular_model(), Forms(tmp_path, "cpu")
    assert forms.executable("d", root, root).form == "folded"
    choice = measured(forms)
    assert forms.executable("d", root, compose(root, ["cat"])).form == choice["form"]
    assert {report["form"] for report in choice["reports"]} == {"plain", "folded"}
    forms.close()


def test_a_choice_is_remembered_for_the_same_host_and_not_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root, first = modular_model(), Forms(tmp_path, "cpu")
    first.executable("d", root, root)
    choice = measured(first)
    first.close()

    def never(*_: object, **__: object):
        raise AssertionError("measured again")

    monkeypatch.setattr(serving_forms, "choose", never)
    second = Forms(tmp_path, "cpu")
    second.executable("d", root, root)
    assert second.choice("d")["form"] == choice["form"]
    monkeypatch.setattr(serving_forms, "choose", choose)
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    third = Forms(tmp_path, "cpu")
    third.executable("d", root, root)
    assert third.choice("d") is None
    measured(third)
    for forms in (second, third):
        forms.close()


def test_closing_does_not_wait_for_a_long_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def long(*given: object, **options: object):
        return choose(*given, **options | {"rounds": 10_000_000})

    monkeypatch.setattr(serving_forms, "choose", long)
    forms = Forms(tmp_path, "cpu")
    forms.executable("d", trained_model(), trained_model())
    time.sleep(0.2)
    begun = time.monotonic()
    forms.close()
    assert time.monotonic() - begun < 5
    assert forms.choice("d") is None


def test_real_images_are_those_of_the_data_set_that_the_model_names(tmp_path: Path):
    with running(tmp_path, "redis://127.0.0.1:1/0") as service:
        registry: Registry = service.registry
        digest = registry.resolve("animals").digest
        assert real_images(registry, digest, [modular_model().input]) is None
        manifest = registry.manifest(digest)
        named = {"digest": registry.resolve_dataset("pictures").digest, "fraction": 1.0, "seed": 0}
        known = registry.put_manifest(type(manifest)(**{**vars(manifest), "dataset": named}))
        [pixels] = real_images(registry, known, [modular_model().input])
        assert torch.equal(pixels, dataset().test.pixels)


def test_the_model_says_in_which_form_it_runs(tmp_path: Path):
    with running(tmp_path, "redis://127.0.0.1:1/0") as service:
        assert service.http.get("/models/animals").json()["serving"] is None
        service.http.post("/compose", json={"model": "animals", "classes": list(LABELS[:2])})
        until = time.monotonic() + 60
        while (serving := service.http.get("/models/animals").json()["serving"]) is None:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert serving["form"] in {"plain", "folded"}
        assert all(report["held"] for report in serving["reports"])


def test_a_patched_model_is_measured_too(tmp_path: Path):
    forms = Forms(tmp_path, "cpu", allow=["bf16"])
    forms.executable("d", patched_model(), patched_model())
    [half] = [report for report in measured(forms)["reports"] if report["form"] == "bf16"]
    assert (half["held"], half["changed"]) == (False, None)
    assert half["reason"]
    forms.close()
