"""``--local``: the same commands on the registry itself, by the functions that worker and service call."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moda_core.data.images import decode
from moda_core.files import write_atomically
from moda_core.modularity.composition import compose
from moda_core.modularity.measures import composition_size
from moda_core.modularity.models import Model
from moda_core.modularity.networks import network, predict
from moda_core.specs import TrainingSpec, parse_threshold
from moda_core.storage import artifacts, workflows
from moda_core.storage.formats import FileFormat
from moda_core.storage.registry import Registry
from service.answers import composition_answer, prediction_members
from service.client import as_plain
from service.commands.following import Watcher, watching
from service.commands.terminal import show, table
from service.commands.using import composition_table, prediction_table
from service.inference.device import chosen_device
from service.inference.servables import Servable, servable
from service.schemas import PredictionList

__all__ = ["Control", "compose_here", "import_here", "predict_here", "train_here"]

MODULAR_THRESHOLD = "0.9"


class Control:
    """What a workflow reports to, in this process: Ctrl-C ends it, so nothing is ever cancelled."""

    def __init__(self, watch: Watcher) -> None:
        self._watch = watch

    def progress(self, event: Mapping[str, Any]) -> None:
        """Show an event."""
        data = dict(event)
        self._watch(str(data.pop("event", "progress")), data)

    def cancelled(self) -> bool:
        """Never."""
        return False


def import_here(home: Path, name: str, source: str, *, image_size: int | None, seed: int, as_json: bool) -> None:
    """Import a data set into the registry below `home`."""
    with watching(f"import {name}", quiet=as_json) as watch:
        result = workflows.import_dataset(
            _registry(home), name, source, image_size=image_size, seed=seed, control=Control(watch)
        )
    show(result, as_json=as_json, people=lambda: table("", "", rows=result.items()))


def train_here(
    home: Path, spec: TrainingSpec, *, name: str | None, threshold: str | None, device: str, as_json: bool
) -> None:
    """Train in this process, and publish as a job would."""
    registry = _registry(home)
    dataset = registry.resolve_dataset(spec.dataset)
    resolved = TrainingSpec.from_json({**spec.to_json(), "dataset": dataset.digest})
    if threshold is None and spec.objective == "modular":
        threshold = MODULAR_THRESHOLD
    tau = None if threshold is None else parse_threshold(threshold)
    name = name or "-".join(part for part in (dataset.name, spec.architecture.rpartition("/")[2]) if part)
    with watching(f"train {name}", quiet=as_json) as watch:
        digests = workflows.train(
            registry, resolved, threshold=tau, device=chosen_device(device), control=Control(watch)
        )
    models = [f"{name}@{registry.publish_version(name, digest)}" for digest in digests]
    result = {"models": models, "digests": digests}
    show(result, as_json=as_json, people=lambda: table("Model", "Digest", rows=zip(models, digests, strict=True)))


def compose_here(
    home: Path,
    model: str,
    classes: Sequence[str],
    *,
    threshold: str | None,
    out: Path | None,
    file_format: FileFormat,
    as_json: bool,
) -> None:
    """Compose in this process, and keep the recipe as the service would."""
    registry, started = _registry(home), time.perf_counter()
    meant = servable(registry, model, classes, threshold)
    assert meant.recipe is not None
    composed = compose(registry.model(meant.model), meant.labels, meant.recipe.threshold)
    size = composition_size(composed)
    elapsed_ms = round((time.perf_counter() - started) * 1e3, 3)
    registry.put_composition(meant.recipe)
    if out is not None:
        write_atomically(out, _encoded(composed, file_format))
    made = composition_answer(meant, size, links={}, compose_ms=elapsed_ms)
    show(as_plain(made), as_json=as_json, people=lambda: composition_table(made, out))


def predict_here(
    home: Path, model: str, files: Sequence[Path], contents: Sequence[bytes], *, device: str, as_json: bool
) -> None:
    """Classify image files in this process."""
    registry = _registry(home)
    meant = servable(registry, model)
    images = [decode(content, field=str(file)) for file, content in zip(files, contents, strict=True)]
    answering = network(_loaded(registry, meant), chosen_device(device))
    probabilities = predict(answering, images)
    answer = PredictionList.model_validate(prediction_members(meant, answering.labels, probabilities.tolist()))
    show(as_plain(answer), as_json=as_json, people=lambda: prediction_table(files, answer))


def _encoded(model: Model, file_format: FileFormat) -> bytes:
    if file_format == "safetensors":
        return artifacts.encode(model)
    from moda_core.storage.export import encode_as  # seconds, which the other commands need not wait

    return encode_as(model, file_format)


def _loaded(registry: Registry, meant: Servable) -> Model:
    stored = registry.model(meant.model)
    return stored if meant.recipe is None else compose(stored, meant.labels, meant.recipe.threshold)


def _registry(home: Path) -> Registry:
    """The registry of this home, or the one that MODA_REGISTRY names."""
    return Registry(os.environ.get("MODA_REGISTRY") or home.expanduser() / "registry")
