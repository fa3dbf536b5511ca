"""Model files from outside: checked, taken apart as the registry keeps them, and stored."""

from __future__ import annotations

from pathlib import Path

from moda_core.errors import Corrupt, UnreadableFile
from moda_core.modularity.models import Model, ModularModel, PatchedModel, TrainedModel, kind_of
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.storage import artifacts
from moda_core.storage.manifests import BlobRef, Manifest
from moda_core.storage.registry import Registry

__all__ = ["admit"]


def admit(registry: Registry, path: Path) -> str:
    """Store the model of a file; the digest of its manifest. The same file always gives the same one.

    Raises:
        UnreadableFile: for a file that is no model of ours, or whose bytes were altered.
    """
    try:
        model = artifacts.decode(path)
    except Corrupt as error:  # ours to answer for when it is stored, the sender's when it is sent
        raise UnreadableFile("file", "the upload", error.problem, "send the file as it was downloaded") from error
    architecture, rule = _door(model)
    modular = model if isinstance(model, ModularModel) else None
    manifest = Manifest(
        kind=kind_of(model),
        architecture=architecture,
        labels=tuple(model.labels),
        input=rule,
        blobs=_blobs(registry, model, path),
        rows=modular.rows if modular and modular.composed else None,
        threshold=modular.threshold if modular else None,
    )
    return registry.put_manifest(manifest)


def _blobs(registry: Registry, model: Model, path: Path) -> dict[str, BlobRef]:
    """A modular model's weights lie apart from its counts, where the trained model may share them."""
    if not isinstance(model, ModularModel) or model.composed:
        return {"weights": registry.put_blob(path.read_bytes())}
    trained = TrainedModel(model.architecture, model.labels, model.input, model.weights)
    return {
        "weights": registry.put_blob(artifacts.encode(trained)),
        "counts": registry.put_blob(artifacts.encode_counts(model)),
    }


def _door(model: Model) -> tuple[ArchitectureSpec, InputSpec]:
    """Architecture and input of a model; of a patched one, the weak model's."""
    while isinstance(model, PatchedModel):
        model = model.weak
    return model.architecture, model.input
