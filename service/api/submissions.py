"""Long work: each request is checked against what is stored, its references are resolved, and a job begins."""

from __future__ import annotations

from fastapi import APIRouter, Response

from moda_core.architectures import catalogue
from moda_core.errors import Conflict, NotFound
from moda_core.specs import AdaptationSpec, TrainingSpec, parse_threshold
from moda_core.storage.manifests import Manifest, canonical_threshold
from moda_core.storage.references import check_stored_name, derived_name
from moda_core.storage.registry import Registry
from service.api.dependencies import Parts
from service.api.jobs import accepted
from service.inference.servables import servable
from service.schemas import DecomposeRequest, EvaluateRequest, Job, ReplaceRequest, TrainRequest
from worker import contract

__all__ = ["router"]

router = APIRouter(tags=["jobs"])

_DEFAULT_THRESHOLD = "0.9"


@router.post("/train", status_code=202)
def train(body: TrainRequest, parts: Parts, response: Response) -> Job:
    """Train a model, modular or standard; with a threshold the same job goes on to decompose it.

    The same work, asked for again while it is queued, running or done, is the same job.
    """
    dataset = parts.registry.resolve_dataset(body.spec.dataset)
    spec = TrainingSpec(**{**body.spec.model_dump(), "dataset": dataset.digest})
    catalogue.complete(
        spec.architecture,
        classes=len(dataset.manifest.classes),
        channels=dataset.manifest.shape[0],
        image_size=spec.image_size,
        width=spec.width,
    )
    threshold = body.threshold
    if threshold is None and spec.objective == "modular":
        threshold = _DEFAULT_THRESHOLD
    architecture = spec.architecture.rpartition("/")[2]
    name = body.name or (derived_name(dataset.name, architecture) if dataset.name else architecture)
    check_stored_name("name", name)
    canonical = None if threshold is None else canonical_threshold(parse_threshold(threshold))
    return accepted(parts, response, contract.TrainRequest(name=name, spec=spec, threshold=canonical))


@router.post("/decompose", status_code=202)
def decompose(body: DecomposeRequest, parts: Parts, response: Response) -> Job:
    """Cut a model into one module per class, published as the next version of its name."""
    threshold = canonical_threshold(parse_threshold(body.threshold))
    model = parts.registry.resolve(body.model)
    if model.manifest.kind not in {"trained", "modular"}:
        problem = f"a {model.manifest.kind} model cannot be decomposed"
        raise Conflict(problem, "decompose the trained model that it was made from")
    if model.manifest.kind == "trained":
        _training_data(parts.registry, model.manifest)
    name = _checked(body.name) or model.name
    request = contract.DecomposeRequest(name=name, model=model.digest, threshold=threshold)
    return accepted(parts, response, request)


@router.post("/replace", status_code=202)
def replace(body: ReplaceRequest, parts: Parts, response: Response) -> Job:
    """Patch one class of a weak model with a strong model's module; the result is a new, patched model."""
    weak, strong = parts.registry.resolve(body.weak), parts.registry.resolve(body.strong)
    for field, labels in (("weak", weak.manifest.labels), ("strong", strong.manifest.labels)):
        if body.label not in labels:
            raise NotFound("class", body.label, f"the {field} model has {', '.join(labels[:20])}")
    if strong.manifest.kind not in {"modular", "composed"}:
        problem = f"a {strong.manifest.kind} model has no modules to take"
        raise Conflict(problem, "decompose it first, and name the modular version as the strong model")
    if body.dataset is None:
        _training_data(parts.registry, weak.manifest)
    name = _checked(body.name) or (derived_name(weak.name, "patched") if weak.name else None)
    request = contract.ReplaceRequest(
        name=name,
        weak=weak.digest,
        strong=strong.digest,
        label=body.label,
        dataset=_with_class(parts.registry, body.dataset, body.label) if body.dataset else None,
        spec=AdaptationSpec(epochs=body.epochs),
    )
    return accepted(parts, response, request)


def _checked(name: str | None) -> str | None:
    """A name that a version can be published under, if one was asked for."""
    return None if name is None else check_stored_name("name", name)


def _training_data(registry: Registry, manifest: Manifest) -> None:
    """Make sure that the data a model was trained on is known, and there.

    Raises:
        Conflict: the model does not name it.
        NotFound: the store has lost it.
    """
    if manifest.dataset is None:
        remedy = "train the model here, or name a data set where the request has a field for one"
        raise Conflict("it is not known on what data the model was trained", remedy)
    registry.dataset_manifest(manifest.dataset["digest"])


def _with_class(registry: Registry, reference: str, label: str) -> str:
    """The digest of a data set that has the class."""
    dataset = registry.resolve_dataset(reference)
    if label not in dataset.manifest.classes:
        raise NotFound("class", label, f"the data set has {', '.join(dataset.manifest.classes[:20])}")
    return dataset.digest


@router.post("/evaluate", status_code=202)
def evaluate(body: EvaluateRequest, parts: Parts, response: Response) -> Job:
    """Measure a model, or a composition of it, on a data set's test images."""
    meant = servable(parts.registry, body.model, body.classes, body.threshold)
    dataset = parts.registry.resolve_dataset(body.dataset)
    request = contract.EvaluateRequest(
        model=meant.model,
        dataset=dataset.digest,
        labels=meant.labels if meant.recipe else None,
        threshold=canonical_threshold(meant.recipe.threshold) if meant.recipe else None,
    )
    return accepted(parts, response, request)
