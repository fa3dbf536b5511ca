from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from serving import LABELS, dataset, modular_model, patched_model, running, trained_model
from waiting import until

from moda_core.errors import InvalidInput
from moda_core.inference.forms import candidates, choose
from moda_core.modularity.composition import compose
from moda_core.modularity.models import Model
from moda_core.storage.registry import Registry
from service.inference import forms as serving_forms
from service.inference.forms import Forms, real_images


def measured(forms: Forms, digest: str = "d") -> dict:
    until(lambda: forms.choice(digest) is not None, 60)
    return forms.choice(digest)


def fixed(form: str):
    """A choice that always falls on one form."""
    made = {"composed": None, "mixed": None}
    return lambda *given, **options: replace(choose(*given, **options | {"rounds": 1}), form=form, **made)


def without_form(kept: dict) -> dict:
    del kept["choice"]["form"]
    return kept


def with_an_unknown_form(kept: dict) -> dict:
    kept["choice"]["mixed"] = {"form": "quick", "times": []}
    return kept


def of_an_earlier_release(kept: dict) -> dict:
    del kept["choice"]["composed"], kept["choice"]["mixed"]
    return kept


def asked(model: Model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 1, 16, 16), generator=generator).to(torch.uint8)


def test_a_model_is_folded_until_it_was_measured_and_then_in_the_form_that_was_fastest(tmp_path: Path):
    root, forms = modular_model(), Forms(tmp_path, "cpu")
    assert forms.executable("d", root, root).form == "folded"
    choice = measured(forms)
    assert forms.executable("d", root, root).form == choice["form"]
    assert forms.executable("d", root, compose(root, ["cat"])).form == choice["composed"]["form"]
    assert forms.mixed("d", root).form == choice["mixed"]["form"]
    assert {report["form"] for report in choice["reports"]} == set(candidates("cpu"))
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


def test_after_a_restart_the_choice_is_known_before_anything_is_loaded_and_names_no_host(tmp_path: Path):
    root, first = modular_model(), Forms(tmp_path, "cpu")
    first.executable("d", root, root)
    choice = measured(first)
    first.close()
    second = Forms(tmp_path, "cpu")
    assert second.choice("d") == json.loads(json.dumps(choice))
    assert set(choice) == {"form", "device", "images", "reports", "composed", "mixed"}
    second.close()


SPOILED = [
    lambda _: [], lambda kept: {"place": kept["place"]}, lambda _: "x", without_form, with_an_unknown_form,
    of_an_earlier_release,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_file_that_is_no_choice_is_as_none(tmp_path: Path, spoil: Callable[[dict], object]):
    root, first = modular_model(), Forms(tmp_path, "cpu")
    first.executable("d", root, root)
    measured(first)
    first.close()
    file = tmp_path / "d.json"
    file.write_text(json.dumps(spoil(json.loads(file.read_text()))))
    second = Forms(tmp_path, "cpu")
    assert second.choice("d") is None
    assert second.executable("d", root, root).form == "folded"
    second.close()


def test_a_measurement_that_fails_is_logged_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def failing(*_: object, **__: object):
        raise RuntimeError("no memory")

    monkeypatch.setattr(serving_forms, "choose", failing)
    root, forms = modular_model(), Forms(tmp_path, "cpu")
    forms.executable("d", root, root)
    until(lambda: "no memory" in caplog.text, 60)
    monkeypatch.setattr(serving_forms, "choose", choose)
    until(lambda: forms.executable("d", root, root) and forms.choice("d") is not None, 60)
    forms.close()


def test_two_processes_of_one_home_measure_a_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root, counted, both = modular_model(), list[object](), threading.Event()

    def counting(*given: object, **options: object) -> object:
        counted.append(given)
        assert both.wait(60)
        return choose(*given, **options | {"rounds": 1})

    monkeypatch.setattr(serving_forms, "choose", counting)
    one, other = Forms(tmp_path, "cpu"), Forms(tmp_path, "cpu")
    for forms in (one, other):
        forms.executable("d", root, root)
    until(lambda: counted)
    both.set()
    assert json.loads(json.dumps(measured(one))) == json.loads(json.dumps(measured(other)))
    assert len(counted) == 1
    for forms in (one, other):
        forms.close()


def test_bfloat16_is_measured_again_once_there_are_real_images(tmp_path: Path):
    root, found = modular_model(), []
    forms = Forms(tmp_path, "cpu", allow=["bf16"], images=lambda *_: tuple(found) or None)
    forms.executable("d", root, root)
    assert measured(forms)["images"] == 0
    found.append(asked(root))
    until(lambda: forms.executable("d", root, root) and forms.choice("d")["images"] == 3, 60)
    forms.close()


def test_without_real_images_nothing_is_measured_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    measurements, looks = [], []

    def counting(*given: object, **options: object):
        measurements.append(1)
        return choose(*given, **options)

    monkeypatch.setattr(serving_forms, "choose", counting)
    root, forms = modular_model(), Forms(tmp_path, "cpu", allow=["bf16"], images=lambda *_: looks.append(1))
    until(lambda: forms.executable("d", root, root) and len(looks) > 2, 60)
    forms.close()
    assert len(measurements) == 1


@pytest.mark.parametrize("form", candidates("cpu"))
def test_it_is_told_when_another_form_is_chosen_than_was_made_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
):
    told: list[str] = []
    monkeypatch.setattr(serving_forms, "choose", fixed(form))
    root, forms = modular_model(), Forms(tmp_path, "cpu", chosen=told.append)
    made = forms.executable("d", root, root).form
    measured(forms)
    forms.close()  # waits for the thread
    assert told == ["d"] * (made != form)


@pytest.mark.parametrize("what", ["composed", "mixed"])
def test_it_is_told_when_only_what_is_made_of_a_root_has_another_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    told: list[str] = []

    def choosing(*given: object, **options: object):
        found = choose(*given, **options | {"rounds": 1})
        made = {name: replace(getattr(found, name), form="folded") for name in ("composed", "mixed")}
        return replace(found, form="folded", **made | {what: replace(made[what], form="plain")})

    monkeypatch.setattr(serving_forms, "choose", choosing)
    root, forms = modular_model(), Forms(tmp_path, "cpu", chosen=told.append)
    forms.executable("d", root, root)
    measured(forms)
    forms.close()
    assert told == ["d"]
    assert forms.executable("d", root, compose(root, ["cat"])).form == ("plain" if what == "composed" else "folded")


def test_what_does_not_have_the_chosen_form_is_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(serving_forms, "choose", fixed("onnxruntime"))
    root, forms = modular_model(), Forms(tmp_path, "cpu")
    forms.executable("d", root, root)
    assert measured(forms)["form"] == "onnxruntime"

    def refused(*_: object):
        raise InvalidInput("form", "onnxruntime", "no operator is known for unfold", "choose folded")

    monkeypatch.setattr("moda_core.inference.executables.lowered_component", refused)
    monkeypatch.setattr("moda_core.inference.mixing.lowered_component", refused)
    assert forms.executable("d", root, compose(root, ["cat"])).form == "folded"
    assert forms.mixed("d", root).form == "folded"
    forms.close()


def test_a_model_that_nobody_holds_is_not_kept_to_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    begun, go_on = threading.Event(), threading.Event()

    def waiting(*given: object, **options: object):
        begun.set()
        go_on.wait(60)
        return choose(*given, **options)

    monkeypatch.setattr(serving_forms, "choose", waiting)
    first, second, forms = modular_model(), modular_model(), Forms(tmp_path, "cpu")
    forms.executable("first", first, first)
    assert begun.wait(60)
    forms.executable("second", second, second)
    gone = weakref.ref(second)
    del second
    gc.collect()
    assert gone() is None
    go_on.set()
    measured(forms, "first")
    forms.close()
    assert forms.choice("second") is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_the_thread_that_measures_gives_way_and_no_other_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    priorities, before = [], os.getpriority(os.PRIO_PROCESS, 0)

    def looking(*given: object, **options: object):
        priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return choose(*given, **options)

    monkeypatch.setattr(serving_forms, "choose", looking)
    root, forms = modular_model(), Forms(tmp_path, "cpu")
    forms.executable("d", root, root)
    measured(forms)
    forms.close()
    assert priorities[0] > before
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_closing_does_not_wait_for_a_long_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def long(*given: object, **options: object):
        return choose(*given, **options | {"rounds": 10_000_000})

    monkeypatch.setattr(serving_forms, "choose", long)
    forms = Forms(tmp_path, "cpu")
    root = trained_model()
    forms.executable("d", root, root)
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
        until(lambda: service.http.get("/models/animals").json()["serving"] is not None, 60)
        serving = service.http.get("/models/animals").json()["serving"]
        assert serving["form"] in candidates("cpu")
        assert all(report["held"] for report in serving["reports"])


def test_a_patched_model_is_measured_too(tmp_path: Path):
    forms = Forms(tmp_path, "cpu", allow=["bf16"])
    root = patched_model()
    forms.executable("d", root, root)
    [half] = [report for report in measured(forms)["reports"] if report["form"] == "bf16"]
    assert (half["held"], half["changed"]) == (False, None)
    assert half["reason"]
    forms.close()
