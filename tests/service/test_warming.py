from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest
from serving import modular_model, trained_model

from moda_core.errors import StorageFailure
from moda_core.modularity.models import TrainedModel
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Registry, Resolved
from moda_core.structure.unitgraph import unit_graph
from service.admission import admit
from service.warming import WarmUp, architectures

PATIENCE_S = 60


def stored(folder: Path, *models: object) -> Registry:
    registry = Registry(folder / "registry")
    for index, model in enumerate(models):
        (folder / "file").write_bytes(encode(model))
        registry.publish_version(f"model-{index}", admit(registry, folder / "file"))
    return registry


def warmed(registry: Registry) -> None:
    unit_graph.cache_clear()
    warm_up = WarmUp(registry)
    warm_up.start()
    warm_up.join(PATIENCE_S)


@pytest.mark.parametrize("model", [modular_model(), trained_model()], ids=["modular", "trained"])
def test_the_networks_of_stored_models_are_traced(tmp_path: Path, model: TrainedModel):
    warmed(stored(tmp_path, model))
    before = unit_graph.cache_info()
    unit_graph(model.architecture)
    assert unit_graph.cache_info().misses == before.misses


def test_of_an_empty_registry_nothing_is_traced(tmp_path: Path):
    warmed(stored(tmp_path))
    assert unit_graph.cache_info().misses == 0


def test_the_newest_eight_architectures_are_chosen_once_each(tmp_path: Path):
    [modular] = stored(tmp_path, modular_model()).models()

    def made(day: int, size: int) -> Resolved:
        architecture = dataclasses.replace(modular.manifest.architecture, image_size=size)
        manifest = dataclasses.replace(modular.manifest, architecture=architecture)
        return dataclasses.replace(modular, manifest=manifest, created_at=f"2026-01-{day:02d}T00:00:00.000+00:00")

    models = [made(day, 16 + day // 2) for day in range(1, 31)]
    assert [one.image_size for one in architectures(models)] == [31, 30, 29, 28, 27, 26, 25, 24]


class Closed:
    """A registry whose store cannot be read."""

    def models(self) -> list:
        raise StorageFailure("the store does not answer", "check it")


class Slow:
    """A registry that answers when it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()

    def models(self) -> list:
        self.let.wait(PATIENCE_S)
        return []


def test_a_store_that_cannot_be_read_is_left_to_who_asks_for_it():
    warmed(Closed())  # type: ignore[arg-type]


def test_nothing_waits_for_it_and_it_ends_when_told():
    slow = Slow()
    unit_graph.cache_clear()
    warm_up = WarmUp(slow)  # type: ignore[arg-type]
    warm_up.start()
    stopping = threading.Thread(target=warm_up.stop)
    stopping.start()
    slow.let.set()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()


def test_nothing_is_traced_while_somebody_is_being_answered(tmp_path: Path):
    quiet = threading.Event()
    registry = stored(tmp_path, modular_model())
    unit_graph.cache_clear()
    warm_up = WarmUp(registry, quiet.is_set)
    warm_up.start()
    warm_up.join(1.0)
    assert unit_graph.cache_info().misses == 0
    quiet.set()
    warm_up.join(PATIENCE_S)
    assert unit_graph.cache_info().misses == 1
