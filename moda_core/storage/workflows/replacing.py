"""Patch a stored weak model with a stored strong model's module, and measure what that changed."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any

import torch

from moda_core.data.dataset import Images
from moda_core.errors import InvalidInput
from moda_core.modularity.composition import compose
from moda_core.modularity.models import Model
from moda_core.modularity.networks import network
from moda_core.modularity.replacement import replace as patch
from moda_core.specs import AdaptationSpec, canonical_json, sha256
from moda_core.storage import artifacts
from moda_core.storage.registry import Registry
from moda_core.storage.workflows.control import Control
from moda_core.storage.workflows.decomposing import training_images
from moda_core.storage.workflows.execution import execution
from moda_core.storage.workflows.testing import images_of_labels, metrics_of
from moda_core.training.evaluation import Accuracy, accuracy, logits

__all__ = ["replace"]


def replace(
    registry: Registry,
    weak: str,
    strong: str,
    label: str,
    dataset: str | None,
    spec: AdaptationSpec,
    *,
    device: str,
    control: Control,
) -> tuple[list[str], dict[str, Any]]:
    """Let the strong model's module answer for one class of the weak model.

    Args:
        registry: where models and data sets lie.
        weak: digest of any model.
        strong: digest of a modular or composed one.
        label: the class, which both have.
        dataset: the adaptation layer learns on its training images; None for the very images that
            the weak model was trained on, as in the paper.
        spec: of the adaptation layer.
        device: ``cpu`` or a CUDA device.
        control: hears of every epoch.

    Returns:
        The digest of the patched model's manifest, and what changed on the test images: accuracy of
        the target class and of all others, before and after, n beside each.

    Raises:
        Conflict: if the strong model has no modules, or the weak one's training data is not known.
        NotFound: if either lacks the class.
        InvalidInput: if the data set lacks it.
    """
    manifest, weak_model = registry.manifest(weak), registry.model(weak)
    module = compose(registry.model(strong), [label])
    images, test = _images(registry, weak, dataset)
    patched = patch(
        weak_model,
        module,
        label,
        images,
        spec,
        device=device,
        progress=lambda report: control.progress({"event": "epoch", **report.to_json()}),
        cancelled=control.cancelled,
    )
    before, after = (_measured(model, test, label, device, control) for model in (weak_model, patched))
    asked = {"adaptation": spec.to_json(), "class": label, "dataset": dataset, "strong": strong, "weak": weak}
    digest = registry.put_manifest(
        changed(
            manifest,
            kind="patched",
            rows=None,
            threshold=None,
            blobs={"weights": registry.put_blob(artifacts.encode(patched))},
            spec=asked,
            spec_digest=sha256(canonical_json(asked)),
            execution=execution(device),
            metrics=after["metrics"],
            sizes={},
            overlaps={},
            lineage={"parents": [weak, strong]},
        )
    )
    return [digest], {
        "class": label,
        **{part: _change(before[part], after[part]) for part in ("target", "non_target", "all")},
    }


def _images(registry: Registry, weak: str, dataset: str | None) -> tuple[Images, Images]:
    """Training and test images, labelled by the weak model's classes."""
    manifest = registry.manifest(weak)
    learned = training_images(registry, manifest) if dataset is None else None
    source = registry.dataset(dataset or str((manifest.dataset or {})["digest"]))
    train, test = (images_of_labels(part, source.classes, manifest.labels) for part in (source.train, source.test))
    return train if learned is None else learned, test


def _measured(model: Model, images: Images, label: str, device: str, control: Control) -> dict[str, Any]:
    asked = network(model, device)
    answers = logits(asked, images, asked.inputs, device=device, cancelled=control.cancelled)
    target = images.labels == model.labels.index(label)
    if not target.any():
        raise InvalidInput("dataset", label, "no test image of the class", f"give a data set with images of {label!r}")
    parts = {"target": target, "non_target": ~target, "all": torch.ones_like(target)}
    found = {part: accuracy(answers[chosen], images.labels[chosen]) for part, chosen in parts.items()}
    return {**found, "metrics": metrics_of(answers, images, model.labels)}


def _change(before: Accuracy, after: Accuracy) -> dict[str, Any]:
    return {"before": before.share, "after": after.share, "n": before.samples}
