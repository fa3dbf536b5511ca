"""Train a classifier and store it; with a threshold, go on and decompose it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from moda_core.architectures.catalogue import complete
from moda_core.data.dataset import Dataset, subset
from moda_core.modularity.counts import check_epsilon
from moda_core.modularity.models import TrainedModel
from moda_core.specs import TrainingSpec
from moda_core.storage import artifacts
from moda_core.storage.manifests import Manifest
from moda_core.storage.registry import Registry
from moda_core.storage.workflows.control import Control
from moda_core.storage.workflows.decomposing import decompose
from moda_core.storage.workflows.execution import execution
from moda_core.storage.workflows.testing import tested
from moda_core.structure.unitgraph import UnitGraph, unit_graph
from moda_core.training.initial import initial_network
from moda_core.training.loop import train as run_training

__all__ = ["train"]


def train(
    registry: Registry, spec: TrainingSpec, *, threshold: Decimal | None, device: str, control: Control
) -> list[str]:
    """Train as a spec says, from its last checkpoint if it has one.

    Args:
        registry: where the data set, the checkpoints and the results lie.
        spec: with the data set as a digest.
        threshold: τ of the decomposition that follows; None for none.
        device: ``cpu`` or a CUDA device.
        control: hears of every epoch.

    Returns:
        The digests of the manifests: ``trained``, and ``modular`` with a threshold.

    Raises:
        NotFound, InvalidInput, Untraceable: before any step, for a spec that cannot be done.
        Cancelled, TrainingFailure: as `moda_core.training.loop.train`; the checkpoints stay.
        StorageFailure: if the result cannot be stored.
    """
    dataset = registry.dataset(spec.dataset)
    model, graph = _initial(spec, dataset, decomposes=threshold is not None)
    network = initial_network(model.architecture, spec.seed, pretrained=spec.pretrained)
    history = run_training(
        network,
        graph,
        subset(dataset.train, spec.fraction, spec.seed),
        spec,
        model.input,
        mirror=dataset.mirror,
        device=device,
        checkpoints=registry.checkpoints(spec.digest()),
        progress=lambda report: control.progress({"event": "epoch", **report.to_json()}),
        cancelled=control.cancelled,
    )
    weights = {name: state.detach().cpu() for name, state in network.state_dict().items()}
    trained = TrainedModel(model.architecture, model.labels, model.input, weights)
    metrics = {
        **tested(trained, dataset, device, control.cancelled),
        "history": [report.to_json() for report in history],
    }
    digest = _stored(registry, trained, spec, metrics, device)
    if threshold is None:
        return [digest]
    return [digest, *decompose(registry, digest, threshold, device=device, control=control)]


def _initial(spec: TrainingSpec, dataset: Dataset, *, decomposes: bool) -> tuple[TrainedModel, UnitGraph | None]:
    """The model without its weights, and its unit graph where the objective or τ needs one."""
    architecture = complete(
        spec.architecture,
        classes=len(dataset.classes),
        channels=dataset.train.pixels.shape[1],
        image_size=spec.image_size,
        width=spec.width,
    )
    rule = dataset.input_spec(architecture.image_size, architecture.channels)
    model = TrainedModel(architecture, dataset.classes, rule, {})
    if spec.objective == "standard" and not decomposes:
        return model, None
    graph = unit_graph(architecture)
    if decomposes:
        check_epsilon(graph, spec.epsilon)
    return model, graph


def _stored(
    registry: Registry,
    trained: TrainedModel,
    spec: TrainingSpec,
    metrics: dict[str, Any],
    device: str,
) -> str:
    weights = registry.put_blob(artifacts.encode(trained))
    return registry.put_manifest(
        Manifest(
            kind="trained",
            architecture=trained.architecture,
            labels=trained.labels,
            input=trained.input,
            blobs={"weights": weights},
            spec=spec.to_json(),
            spec_digest=spec.digest(),
            execution=execution(device),
            dataset={"digest": spec.dataset, "fraction": spec.fraction, "seed": spec.seed},
            metrics=metrics,
        )
    )
