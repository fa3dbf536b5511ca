"""Whatever is sent, the answer is the service's: never a failure of its own, always an error in its path's form."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis
import pytest
import schemathesis
from serving import Running

DOCUMENT = json.loads((Path(__file__).parents[2] / "openapi" / "openapi.json").read_text())
OPERATIONS = [(path, method) for path, item in DOCUMENT["paths"].items() for method in item]
CASES = [(*operation, schemathesis.GenerationMode.POSITIVE) for operation in OPERATIONS]
CASES += [
    (*operation, schemathesis.GenerationMode.NEGATIVE) for operation in OPERATIONS if operation[1] in {"post", "put"}
]
BOUNDED = hypothesis.settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


@pytest.fixture(scope="module")
def interface() -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_dict(DOCUMENT)


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_no_input_makes_the_service_fail(
    service: Running, interface: schemathesis.BaseSchema, path: str, method: str, mode: schemathesis.GenerationMode
):
    @BOUNDED
    @hypothesis.given(case=interface[path][method].as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        response = case.call(base_url=str(service.http.base_url).rstrip("/"), timeout=20)
        assert response.status_code < 500, response.text
        if response.status_code >= 400:
            form = "application/json" if path.startswith("/v2") else "application/problem+json"
            assert response.headers["content-type"] == [form]

    send()
