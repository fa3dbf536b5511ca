from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from moda_core.specs import TrainingSpec
from service import schemas
from service.openapi import document

COMMITTED = Path(__file__).parents[2] / "openapi" / "openapi.json"


@pytest.fixture(scope="module")
def described() -> dict:
    return json.loads(document())


def test_the_committed_document_is_the_applications(described: dict):
    assert json.loads(COMMITTED.read_text()) == described, "run `make openapi`"


def test_every_operation_of_the_design_is_there(described: dict):
    operations = {f"{method.upper()} {path}" for path, item in described["paths"].items() for method in item}
    assert operations == {
        "POST /compose",
        "POST /predict",
        "POST /replace",
        "POST /train",
        "POST /decompose",
        "POST /evaluate",
        "GET /jobs",
        "GET /jobs/{job_id}",
        "DELETE /jobs/{job_id}",
        "GET /jobs/{job_id}/events",
        "GET /models",
        "POST /models",
        "GET /models/{ref}",
        "DELETE /models/{ref}",
        "GET /models/{ref}/modules",
        "GET /models/{ref}/weights",
        "GET /models/{name}/aliases",
        "GET /models/{name}/aliases/{alias}",
        "PUT /models/{name}/aliases/{alias}",
        "GET /compositions",
        "GET /compositions/{composition_id}",
        "GET /compositions/{composition_id}/weights",
        "GET /datasets",
        "POST /datasets",
        "GET /datasets/{ref}",
        "DELETE /datasets/{ref}",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /v2",
        "GET /v2/health/live",
        "GET /v2/health/ready",
        "GET /v2/models/{name}",
        "GET /v2/models/{name}/ready",
        "POST /v2/models/{name}/infer",
        "GET /v2/models/{name}/versions/{version}",
        "GET /v2/models/{name}/versions/{version}/ready",
        "POST /v2/models/{name}/versions/{version}/infer",
        "POST /v2/repository/index",
        "POST /v2/repository/models/{name}/load",
        "POST /v2/repository/models/{name}/unload",
    }


def test_every_operation_says_what_it_does_and_how_it_fails(described: dict):
    for path, item in described["paths"].items():
        for method, operation in item.items():
            assert operation["description"], f"{method} {path}"
            form = "application/json" if path.startswith("/v2") else "application/problem+json"
            assert form in operation["responses"]["default"]["content"]
            assert "422" not in operation["responses"]


def test_every_reference_leads_somewhere_and_every_schema_is_used(described: dict):
    text = json.dumps(described)
    known = described["components"]["schemas"]
    used = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used == set(known)


def test_what_clients_send_and_read_has_examples(described: dict):
    for name in ("ComposeRequest", "TrainRequest", "ReplaceRequest", "Composition", "Job", "Problem"):
        assert "examples" in json.dumps(described["components"]["schemas"][name]), name


def test_the_training_spec_over_http_has_the_librarys_fields_and_defaults():
    own = {field.name: field.default for field in dataclasses.fields(TrainingSpec)}
    over_http = {name: field.default for name, field in schemas.TrainingSpecBody.model_fields.items()}
    required = {name for name, field in schemas.TrainingSpecBody.model_fields.items() if field.is_required()}
    assert required == {name for name, default in own.items() if default is dataclasses.MISSING}
    assert list(own) == list(over_http)
    assert all(over_http[name] == own[name] for name in own if name not in required)
