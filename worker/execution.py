"""From a job's request to the workflow that does it: the one place that knows both."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from pathlib import Path

import torch

from moda_core.errors import Unavailable
from moda_core.storage import workflows
from moda_core.storage.registry import Registry
from worker.attempt import Control, Outcome
from worker.contract import (
    DecomposeRequest,
    EvaluateRequest,
    ImportRequest,
    JobRecord,
    ReplaceRequest,
    TrainRequest,
    parse_request,
)

__all__ = ["Execution"]


class Execution:
    """Runs requests on one device, with results in one registry.

    Args:
        registry: where models and data sets lie.
        device: ``auto``, ``cpu`` or ``cuda``; CUDA is not touched before the first job.
        downloads: a folder for official data sets that a user asked to have fetched.
    """

    def __init__(self, registry: Registry, device: str, downloads: Path) -> None:
        self._registry, self._wanted, self._downloads = registry, device, downloads

    def __call__(self, record: JobRecord, control: Control) -> Outcome:
        """Do what a job asks for."""
        match parse_request(record.kind, record.request):
            case TrainRequest() as request:
                return self._train(request, control)
            case DecomposeRequest() as request:
                return self._decompose(request, control)
            case ReplaceRequest() as request:
                return self._replace(request, control)
            case EvaluateRequest() as request:
                return self._evaluate(request, control)
            case ImportRequest() as request:
                return self._import(request, control)

    @cached_property
    def _device(self) -> str:
        there = self._wanted != "cpu" and torch.cuda.is_available()
        if self._wanted == "cuda" and not there:
            raise Unavailable("this worker has no CUDA device", "set MODA_DEVICE to auto or cpu")
        return "cuda" if there else "cpu"

    def _train(self, request: TrainRequest, control: Control) -> Outcome:
        threshold = _decimal(request.threshold)
        digests = workflows.train(
            self._registry, request.spec, threshold=threshold, device=self._device, control=control
        )
        return Outcome(digests=digests)

    def _decompose(self, request: DecomposeRequest, control: Control) -> Outcome:
        threshold = Decimal(request.threshold)
        digests = workflows.decompose(self._registry, request.model, threshold, device=self._device, control=control)
        return Outcome(digests=digests)

    def _replace(self, request: ReplaceRequest, control: Control) -> Outcome:
        digests, result = workflows.replace(
            self._registry,
            request.weak,
            request.strong,
            request.label,
            request.dataset,
            request.spec,
            device=self._device,
            control=control,
        )
        return Outcome(digests=digests, result=result)

    def _evaluate(self, request: EvaluateRequest, control: Control) -> Outcome:
        result = workflows.evaluate(
            self._registry,
            request.model,
            request.labels,
            request.dataset,
            threshold=_decimal(request.threshold),
            device=self._device,
            control=control,
        )
        return Outcome(result=result)

    def _import(self, request: ImportRequest, control: Control) -> Outcome:
        scheme, colon, path = request.source.partition(":")
        ours = request.download and colon and not path
        result = workflows.store_dataset(
            self._registry,
            f"{scheme}:{self._downloads / scheme}" if ours else request.source,
            image_size=request.image_size,
            seed=request.seed,
            download=request.download,
            control=control,
        )
        return Outcome(digests=[result["digest"]], result=result)


def _decimal(threshold: str | None) -> Decimal | None:
    return None if threshold is None else Decimal(threshold)
