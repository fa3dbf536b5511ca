"""Decompose a trained model: count on its own training set, cut one module per class, store both."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from moda_core.data.dataset import Images, subset
from moda_core.errors import Cancelled, Conflict
from moda_core.modularity.composition import compose
from moda_core.modularity.counts import count_activations
from moda_core.modularity.measures import module_measures
from moda_core.modularity.models import ActivationCounts, Model, ModularModel, TrainedModel
from moda_core.modularity.modules import decomposed
from moda_core.storage import artifacts
from moda_core.storage.manifests import BlobRef, Manifest
from moda_core.storage.registry import Registry
from moda_core.storage.workflows.control import Control
from moda_core.storage.workflows.execution import execution
from moda_core.storage.workflows.testing import images_of_labels

__all__ = ["decompose", "training_images"]


def decompose(registry: Registry, digest: str, threshold: Decimal, *, device: str, control: Control) -> list[str]:
    """Cut a model into one module per class at τ.

    A model that has counts already is only cut anew; the weights' blob is shared with the original.

    Returns:
        The digest of one manifest of kind ``modular``.

    Raises:
        Conflict: for a composed or patched model, or one whose training data is not known.
        InvalidInput: for activations that never reach zero, when the model was trained without an epsilon.
        Cancelled: between batches and modules.
    """
    manifest, model = registry.manifest(digest), registry.model(digest)
    trained = _whole(model)
    modular = decomposed(trained, _counts(registry, manifest, model, trained, device, control), threshold)
    measured = module_measures(modular)
    blobs = {
        "weights": manifest.blobs["weights"],
        "counts": registry.put_blob(artifacts.encode_counts(modular)),
        **_modules(registry, modular, control),
    }
    return [
        registry.put_manifest(
            replace(
                manifest,
                kind="modular",
                threshold=threshold,
                blobs=blobs,
                execution=execution(device),
                sizes=dict(measured.sizes),
                overlaps={first: dict(others) for first, others in measured.overlaps.items()},
                lineage={"parents": [digest]},
            )
        )
    ]


def training_images(registry: Registry, manifest: Manifest) -> Images:
    """The images a model was trained on, labelled by the model's classes.

    Raises:
        Conflict: if its manifest names no data set, as for a file from elsewhere.
        NotFound: if the data set is gone.
    """
    if manifest.dataset is None:
        raise Conflict(
            "the model does not name the data set it was trained on",
            "train it here, or name a data set where the request has a field for one",
        )
    dataset = registry.dataset(manifest.dataset["digest"])
    images = subset(dataset.train, manifest.dataset["fraction"], manifest.dataset["seed"])
    return images_of_labels(images, dataset.classes, manifest.labels)


def _whole(model: Model) -> TrainedModel:
    if isinstance(model, TrainedModel):
        return model
    if isinstance(model, ModularModel) and not model.composed:
        return TrainedModel(model.architecture, model.labels, model.input, model.weights)
    kind = "composed" if isinstance(model, ModularModel) else "patched"
    raise Conflict(f"a {kind} model cannot be decomposed", "decompose the trained model it was made from")


def _counts(
    registry: Registry, manifest: Manifest, model: Model, trained: TrainedModel, device: str, control: Control
) -> ActivationCounts:
    if isinstance(model, ModularModel):
        return model.counts
    control.progress({"event": "stage", "stage": "counting activations"})
    return count_activations(
        trained,
        training_images(registry, manifest),
        epsilon=(manifest.spec or {}).get("epsilon", 0.0),
        device=device,
        cancelled=control.cancelled,
    )


def _modules(registry: Registry, modular: ModularModel, control: Control) -> dict[str, BlobRef]:
    """One file per class: the model composed of this class alone."""
    control.progress({"event": "stage", "stage": "cutting modules"})
    blobs = {}
    for label in modular.labels:
        if control.cancelled():
            raise Cancelled("the decomposition")
        blobs[f"modules/{label}"] = registry.put_blob(artifacts.encode(compose(modular, [label])))
    return blobs
