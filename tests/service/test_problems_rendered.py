"""Errors as problem documents, on a small application with the service's own layers."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from typing import Annotated

import httpx
import pytest
import starlette.formparsers
from fastapi import Body, FastAPI, File, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from waiting import until

from moda_core import errors as core
from service import draining, errors, security, telemetry
from service.json_lines import JsonLines
from service.schemas import AliasRequest


class Lines:
    def __init__(self) -> None:
        self.written: list[tuple[str, dict]] = []

    def info(self, event: str, **members: object) -> None:
        self.written.append((event, members))

    exception = info


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def client(lines: Lines, serve) -> httpx.Client:
    app = FastAPI()
    errors.install(app)
    app.add_middleware(security.SameOrigin)
    app.add_middleware(security.BodyLimit, limit_bytes=100, uploads=dict.fromkeys(("/large", "/file", "/form"), 1000))
    app.add_middleware(security.KnownHosts, names=("moda.example",))
    app.add_middleware(
        telemetry.RequestTelemetry,
        metrics=telemetry.Metrics(),
        logger=lines,
        draining=draining.Draining(),
        siblings=telemetry.Siblings(),
    )
    app.add_middleware(security.SecurityHeaders)

    @app.post("/large")
    @app.post("/small")
    async def read(request: Request) -> int:
        return len(await request.body())

    @app.post("/json")
    def from_json(body: Annotated[AliasRequest, Body()]) -> None: ...

    @app.post("/file")
    def from_form(file: Annotated[UploadFile, File()]) -> int:
        return file.size or 0

    @app.post("/form")
    async def read_form(request: Request) -> int:
        async with request.form(max_files=1) as form:
            return len(form)

    @app.post("/parsed")
    def parsed(body: Annotated[dict, Body()]) -> None: ...

    @app.post("/long-field")
    async def long_field(request: Request) -> None:
        raise RequestValidationError([{"loc": ("body", "x" * 5000), "msg": "not known", "input": [1] * 10**6}])

    @app.get("/missing-file")
    def missing_file() -> None:
        raise FileNotFoundError(errno.ENOENT, "no such file")

    @app.get("/things/{name}")
    def thing(name: str, number: Annotated[int, Query(ge=1)] = 1) -> str:
        raise RuntimeError("the secret of the house")

    @app.get("/raise/{kind}")
    def raising(kind: str) -> None:
        raise ERRORS[kind]

    return serve(app)


ERRORS = {
    "invalid": core.InvalidInput("threshold", "x" * 1000, "not a number", "give 0.9"),
    "surrogate": core.InvalidInput("classes", "\ud800", "not a label", "give another"),
    "image": core.UnreadableImage("image", b"\x00" * 5000, "not an image", "send a PNG"),
    "class": core.NotFound("class", "cow", "known are cat, dog"),
    "untraceable": core.Untraceable("its forward pass depends on values", "serve it whole"),
    "conflict": core.Conflict("it was never decomposed", "decompose it first"),
    "redis": core.Unavailable("Redis does not answer", "try again"),
    "disk": core.StorageFailure("no space left", "make room"),
    "stale": core.PreconditionFailed("it has changed", "read it again"),
}


def problem(response: httpx.Response) -> dict:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:moda:problem:{body['code']}"
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    return body


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("untraceable", 422),
        ("invalid", 422),
        ("surrogate", 422),
        ("image", 400),
        ("class", 404),
        ("conflict", 409),
        ("redis", 503),
        ("disk", 503),
        ("stale", 412),
    ],
)
def test_each_error_has_its_status_and_says_what_to_do(client: httpx.Client, kind: str, status: int):
    response = client.get(f"/raise/{kind}")
    body = problem(response)
    assert response.status_code == status
    assert body["remedy"] == ERRORS[kind].remedy
    assert body["instance"] == f"/raise/{kind}"
    assert len(str(body.get("value", ""))) <= 120
    assert ("retry-after" in response.headers) == (status == 503)


def test_every_class_of_error_has_a_status():
    classes = [getattr(core, name) for name in core.__all__]
    assert len(classes) > 10
    assert {item.__name__ for item in classes if errors.status_of(item.__new__(item))[0] == 500} == {
        "ModaError",
        "Corrupt",
        "TrainingFailure",
    }


def test_a_bug_is_a_500_that_tells_nothing_but_its_request(client: httpx.Client, lines: Lines):
    response = client.get("/things/a")
    assert response.status_code == 500
    assert "secret" not in response.text
    assert problem(response)["code"] == "internal"
    assert response.headers["x-content-type-options"] == "nosniff"
    until(lambda: len(lines.written) >= 2, 5)  # the caller has its answer before the line is written
    assert [event for event, _ in lines.written] == ["request failed", "request"]
    assert lines.written[1][1]["route"] == "/things/{name}"
    assert lines.written[1][1]["status"] == 500


def test_an_unknown_path_a_wrong_method_and_a_bad_query_are_problems(client: httpx.Client):
    assert problem(client.get("/nothing"))["code"] == "no-such-route"
    response = client.put("/small")
    assert problem(response)["code"] == "method-not-allowed"
    assert response.headers["allow"] == "POST"
    body = problem(client.get("/things/a", params={"number": "zero"}))
    assert (body["status"], body["field"], body["value"]) == (422, "number", "zero")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100, b'{"version": NaN}'])
def test_a_body_that_is_no_json_is_a_422(client: httpx.Client, content: bytes):
    response = client.post("/json", content=content, headers={"content-type": "application/json"})
    assert problem(response)["status"] == 422


def test_every_wrong_member_is_listed(client: httpx.Client):
    response = client.post("/json", json={"version": "two", "unknown": 1, "digest": 5})
    body = problem(response)
    assert {item["field"] for item in body["errors"]} == {"version", "unknown", "digest"}


def test_a_body_above_the_limit_is_a_413_declared_or_not(client: httpx.Client):
    assert client.post("/small", content=b"x" * 100).json() == 100
    streamed = {"content": (b" " * 50 for _ in range(3))}
    for path, body in (("/small", {"content": b"x" * 101}), ("/small", streamed)):
        refused = problem(client.post(path, **body))
        assert (refused["status"], refused["field"]) == (413, "body")
        assert refused["remedy"] == "send at most 100 bytes"


def test_a_streamed_body_that_the_framework_parses_is_a_413_too(client: httpx.Client):
    pieces = (b" " * 50 for _ in range(3))
    refused = problem(client.post("/parsed", content=pieces, headers={"content-type": "application/json"}))
    assert (refused["status"], refused["code"], refused["remedy"]) == (413, "too-large", "send at most 100 bytes")


def test_only_a_form_that_is_posted_may_be_as_large_as_an_upload(client: httpx.Client):
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/large", content=b"x" * 999, headers=form).json() == 999
    assert problem(client.post("/large", content=b"x" * 1001, headers=form))["status"] == 413
    for headers in ({}, {"content-type": "application/json"}, {"content-type": "multipart/mixed"}):
        assert problem(client.post("/large", content=b"x" * 999, headers=headers))["status"] == 413
        assert problem(client.post("/large", content=iter([b"x" * 999]), headers=headers))["status"] == 413
    assert problem(client.post("/small", content=b"x" * 999, headers=form))["status"] == 413
    assert problem(client.put("/large", content=b"x" * 999, headers=form))["status"] == 413


class Full:
    """A temporary file on a disk that takes no more."""

    def __init__(self, max_size: int) -> None:
        self._max_size, self._rolled = max_size, False

    def tell(self) -> int:
        return 0

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None: ...


@pytest.mark.parametrize("path", ["/file", "/form"])
def test_a_full_disk_is_a_503_and_no_fault_of_the_sender(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, path: str
):
    monkeypatch.setattr(starlette.formparsers, "SpooledTemporaryFile", Full)
    response = client.post(path, files={"file": ("a", b"x")})
    body = problem(response)
    assert (response.status_code, body["code"]) == (503, "storage-failure")
    assert "No space left" in body["detail"]
    assert "make room" in body["remedy"]


def test_any_other_error_of_the_system_is_a_bug(client: httpx.Client):
    assert problem(client.get("/missing-file"))["code"] == "internal"


def test_another_sites_page_cannot_write(client: httpx.Client):
    refused = problem(client.post("/small", headers={"origin": "https://elsewhere.example"}))
    assert (refused["status"], refused["code"]) == (403, "foreign-origin")
    assert (refused["field"], refused["value"]) == ("Origin", "https://elsewhere.example")
    assert refused["remedy"]
    assert problem(client.post("/small", headers={"sec-fetch-site": "cross-site"}))["status"] == 403
    assert client.post("/small", headers={"origin": str(client.base_url).rstrip("/")}).status_code == 200


class TestHosts:
    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]", "[::1]:8000", "moda.example", "moda.example:80"]
    )
    def test_the_services_own_names_are_answered_with_any_port(self, client: httpx.Client, host: str):
        same = {"host": host, "origin": f"http://{host}"}
        assert client.post("/small", content=b"x", headers=same).json() == 1

    @pytest.mark.parametrize(
        "host",
        ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "moda.example.", "[", "",
         "user@127.0.0.1.evil.example", "127.0.0.1@evil.example", "evil.example#localhost"],
    )  # fmt: skip
    def test_a_name_that_was_pointed_here_by_others_is_refused_reading_and_writing(
        self, client: httpx.Client, host: str
    ):
        same = {"host": host, "origin": f"http://{host}"}
        for response in (client.get("/things/a", headers=same), client.post("/small", content=b"x", headers=same)):
            refused = problem(response)
            assert (refused["status"], refused["code"], refused["field"]) == (421, "unknown-host", "Host")
            assert "MODA_ALLOWED_HOSTS" in refused["remedy"]

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"])
    def test_probes_may_come_by_address(self, serve, path: str):
        app = FastAPI()
        app.add_middleware(security.KnownHosts, names=())
        app.add_api_route(path, lambda: "well")
        assert serve(app).get(path, headers={"host": "10.1.2.3:8000"}).json() == "well"

    def test_a_star_lets_every_name_in(self, serve):
        app = FastAPI()
        app.add_middleware(security.KnownHosts, names=("*",))
        assert serve(app).get("/openapi.json", headers={"host": "any.example"}).status_code == 200


def test_the_request_id_is_the_callers_when_it_is_a_plain_token(client: httpx.Client):
    assert client.get("/nothing", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    forged = client.get("/nothing", headers={"x-request-id": "a b\tc"}).headers["x-request-id"]
    assert len(forged) == 32


def test_the_log_is_one_json_object_per_line(capsys: pytest.CaptureFixture[str]):
    JsonLines().info("request", route="/jobs/{job_id}", status=200)
    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["route"], line["level"]) == ("request", "/jobs/{job_id}", "info")


@pytest.mark.parametrize("path", ["/small", "/json", "/file"])
def test_a_client_that_hangs_up_while_it_sends_is_logged_as_gone(client: httpx.Client, lines: Lines, path: str):
    types = {"/file": "multipart/form-data; boundary=b"}
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {types.get(path, 'application/json')}\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port)) as caller:
        caller.sendall(f"{head}Content-Length: 90\r\n\r\n--b".encode())
        time.sleep(0.1)
    until(lambda: lines.written, 5)
    assert [(event, members["status"]) for event, members in lines.written] == [("request", 499)]


def test_a_long_name_of_an_unknown_field_is_cut(client: httpx.Client):
    body = problem(client.post("/long-field"))
    assert max(len(one["field"]) for one in body["errors"]) <= 120
