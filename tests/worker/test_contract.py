"""Requests as data: the same work has the same identity."""

from __future__ import annotations

import subprocess
import sys

import pytest

from moda_core.errors import InvalidInput
from moda_core.specs import AdaptationSpec, TrainingSpec
from worker.contract import (
    KINDS,
    DecomposeRequest,
    EvaluateRequest,
    ImportRequest,
    ReplaceRequest,
    TrainRequest,
    iso_utc,
    kind_of_request,
    parse_request,
    request_digest,
)

SPEC = TrainingSpec(dataset="d" * 64, architecture="cnn", epochs=3)
REQUESTS = [
    TrainRequest(name="digits-cnn", spec=SPEC, threshold="0.9"),
    DecomposeRequest(name=None, model="m", threshold="0.5"),
    ReplaceRequest(name="patched", weak="w", strong="s", label="cat", spec=AdaptationSpec(epochs=2)),
    EvaluateRequest(model="m", dataset="d", labels=("cat", "dog"), threshold="0.9"),
    ImportRequest(name="digits", source="digits", seed=3),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=KINDS)
def test_a_request_survives_json(request_):
    kind = kind_of_request(request_)
    parsed = parse_request(kind, request_.to_json())
    assert parsed == request_
    assert request_digest(kind, parsed) == request_digest(kind, request_)


def test_every_kind_has_its_request():
    assert tuple(kind_of_request(request) for request in REQUESTS) == KINDS
    assert len({request_digest(kind_of_request(request), request) for request in REQUESTS}) == len(KINDS)


def test_equal_thresholds_are_equal_work():
    digests = {request_digest("decompose", DecomposeRequest(name="a", model="m", threshold=t)) for t in ("0.9", "0.90")}
    assert len(digests) == 1
    assert DecomposeRequest(name="a", model="m", threshold="0.900").threshold == "0.9"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: DecomposeRequest(name="a", model="m", threshold="1.1"), "threshold"),
        (lambda: DecomposeRequest(name="../a", model="m", threshold="1"), "name"),
        (lambda: EvaluateRequest(model="m", dataset="d", labels=("a", "a")), "classes"),
        (lambda: parse_request("train", {"name": None, "spec": {"dataset": "d", "epochs": 0}}), "TrainingSpec"),
        (lambda: parse_request("train", {"name": None, "spec": SPEC.to_json(), "colour": 1}), "colour"),
        (lambda: parse_request("dance", {}), "kind"),
    ],
)
def test_bad_requests_name_their_field(make, field):
    with pytest.raises(InvalidInput) as error:
        make()
    assert error.value.field == field


def test_times_are_utc():
    assert iso_utc(1_763_800_000_123) == "2025-11-22T08:26:40.123Z"


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("worker.contract", ("torch", "celery", "redis", "pydantic")),
        ("worker.jobs, worker.reaper, worker.embedded, worker.process", ("torch",)),
    ],
)
def test_what_the_service_imports_stays_light(modules, unwanted):
    program = f"import sys, {modules}; print(*sorted(set(sys.modules) & set({unwanted!r})))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert loaded.split() == []
