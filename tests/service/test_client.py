"""The client against answers made by hand, and its errors against those that the service renders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from moda_core import errors
from service import errors as service_errors
from service.client import Client
from service.event_stream import StreamedEvent, parsed_events, streamed_events
from service.problems import error_from_response

DIGEST = "ab" * 32


def job(state: str = "succeeded", **more: object) -> dict[str, object]:
    record = {"id": "1f", "kind": "train", "state": state, "request": {}, "created_at": "2026-11-22T12:00:00Z"}
    return {**record, "links": {}, **more}


def client(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client("http://moda.test", transport=httpx.MockTransport(answer))


ERRORS = [
    errors.InvalidInput("epochs", 0, "out of range", "give a whole number from 1"),
    errors.UnreadableImage("image", b"text", "not an image", "send a PNG"),
    errors.UnreadableFile("file", "x.npz", "object arrays", "save plain arrays"),
    errors.TooLarge("image", "9 GiB", "too many pixels", "send a smaller one"),
    errors.UnsupportedType("content-type", "text/plain", "not understood", "send an image"),
    errors.NotFound("class", "cow", "known are cat, dog"),
    errors.Conflict("a patched model cannot be composed", "compose its parts"),
    errors.PreconditionFailed("the alias has changed", "read it again"),
    errors.Unavailable("Redis does not answer", "try again"),
    errors.StorageFailure("the disk is full", "make room"),
    errors.Corrupt("the bytes were altered", "import it again"),
    errors.Untraceable("it branches on its input", "serve it masked"),
    errors.NotExportable("onnxruntime answers differently", "download it as safetensors"),
    errors.TrainingFailure("the loss is not finite", "lower the learning rate"),
    errors.Cancelled("job 1f"),
    errors.ModaError("something"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_arrives_as_it_was_raised(error: errors.ModaError, serve: Callable[[object], httpx.Client]) -> None:
    app = FastAPI()
    service_errors.install(app)

    @app.get("/")
    def fails() -> None:
        raise error

    answer = serve(app).get("/")
    arrived = error_from_response(answer.status_code, answer.content)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert getattr(arrived, "remedy", None) == getattr(error, "remedy", None)


def test_an_error_keeps_field_and_value() -> None:
    body = {"code": "not-found", "detail": "there is no model 'x'; see /models", "field": "model", "value": "x"}
    error = error_from_response(404, json.dumps(body).encode())
    assert isinstance(error, errors.NotFound)
    assert (error.kind, error.name) == ("model", "x")


def test_an_error_lists_all_wrong_members() -> None:
    items = [{"field": "spec.epochs", "detail": "not a number"}, {"field": "name", "detail": "too long"}]
    error = error_from_response(422, json.dumps({"detail": "two are wrong", "errors": items}).encode())
    assert str(error) == "two are wrong\n  spec.epochs: not a number\n  name: too long"


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"{}", b'{"detail": null}'])
def test_what_is_no_problem_document_still_is_an_error_of_its_status(content: bytes) -> None:
    assert isinstance(error_from_response(503, content), errors.Unavailable)
    assert str(error_from_response(418, content)) == "the service answered with status 418"


def test_nothing_listening_is_unavailable_and_says_what_to_do() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with pytest.raises(errors.Unavailable, match="moda up"):
        client(refuse).models()


def test_an_answer_of_another_program_is_named_as_such() -> None:
    with pytest.raises(errors.ModaError, match="is it a MODA service"):
        client(lambda _request: httpx.Response(200, html="<p>hello</p>")).models()


def test_readiness_says_what_is_missing() -> None:
    answer = {"status": "not ready", "registry": "the folder is gone", "redis": "ok", "device": "cpu"}
    with pytest.raises(errors.Unavailable, match="the folder is gone"):
        client(lambda _request: httpx.Response(503, json=answer)).ready()


def test_requests_hold_only_what_was_given() -> None:
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request.method, request.url.path, json.loads(request.content)))
        return httpx.Response(202, json=job())

    with client(answer) as moda:
        moda.train({"dataset": "digits", "architecture": "cnn"}, name="n")
        moda.replace("weak", "strong", "3", epochs=0)
        moda.evaluate("m", "digits", classes=["1", "2"])
    assert sent == [
        ("POST", "/train", {"name": "n", "spec": {"dataset": "digits", "architecture": "cnn"}}),
        ("POST", "/replace", {"weak": "weak", "strong": "strong", "class": "3", "epochs": 0}),
        ("POST", "/evaluate", {"model": "m", "dataset": "digits", "classes": ["1", "2"]}),
    ]


def test_images_go_as_one_form_and_one_image_as_a_body() -> None:
    prediction = {"label": "a", "probability": 1.0, "probabilities": [1.0]}
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        sent.append(request)
        return httpx.Response(200, json={"model": DIGEST, "classes": ["a"], "predictions": [prediction]})

    with client(answer) as moda:
        moda.predict("m@1", [b"first", b"second"])
        moda.predict_raw("m@1", b"third")
    form, body = sent
    assert form.headers["content-type"].startswith("multipart/form-data")
    assert form.content.count(b'name="image"; filename=') == 2
    assert b"first" in form.content
    assert (body.content, body.headers["content-type"], body.url.params["model"]) == (b"third", "image/png", "m@1")


def test_references_are_one_segment_of_the_path() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path)
        return httpx.Response(404, json={"code": "not-found"})

    for reference in ("digits@prod", "../jobs?x=1"):
        with pytest.raises(errors.NotFound):
            client(answer).model(reference)
    assert asked == [b"/models/digits@prod", b"/models/..%2Fjobs%3Fx%3D1"]


def test_a_download_is_whole_or_not_there(tmp_path: Path) -> None:
    def broken(_request: httpx.Request) -> httpx.Response:
        def chunks() -> Iterator[bytes]:
            yield b"half"
            raise httpx.ReadError("the connection broke")

        return httpx.Response(200, content=chunks())

    to = tmp_path / "model.safetensors"
    with pytest.raises(errors.Unavailable):
        client(broken).download_weights("m", to)
    assert list(tmp_path.iterdir()) == []
    assert client(lambda _request: httpx.Response(200, content=b"whole")).download_weights("m", to) == 5
    assert to.read_bytes() == b"whole"


# Events


def test_a_stream_is_read_as_the_standard_says() -> None:
    lines = [
        ": ping",
        "",
        "id: 7",
        "event: epoch",
        'data: {"epoch":',
        "data:1}",
        "",
        "event: lost",
        "",
        'data: {"a": 2}',
        "",
    ]
    assert list(parsed_events(lines)) == [
        StreamedEvent("7", "epoch", {"epoch": 1}),
        StreamedEvent("7", "message", {"a": 2}),
    ]


def test_a_broken_stream_is_taken_up_after_the_last_event() -> None:
    connections: list[str | None] = []

    @contextmanager
    def connect(last_id: str | None) -> Iterator[Iterator[str]]:
        connections.append(last_id)

        def lines() -> Iterator[str]:
            for number in range(len(connections) * 2 - 1, len(connections) * 2 + 1):
                yield from (f"id: {number}", "data: {}", "")
            if len(connections) == 1:
                raise errors.Unavailable("the connection broke", "try again")

        yield lines()

    found = streamed_events(connect, finished=lambda: len(connections) == 2, pause_s=0)
    assert [event.id for event in found] == ["1", "2", "3", "4"]
    assert connections == [None, "2"]


def test_a_stream_that_never_brings_anything_is_given_up() -> None:
    @contextmanager
    def connect(_last_id: str | None) -> Iterator[Iterator[str]]:
        yield iter(())

    with pytest.raises(errors.Unavailable):
        list(streamed_events(connect, finished=lambda: False, attempts=3, pause_s=0))


@pytest.mark.parametrize(
    ("record", "raised"),
    [(job("failed", error="the loss is nan"), errors.TrainingFailure), (job("cancelled"), errors.Cancelled)],
)
def test_waiting_for_a_job_raises_unless_it_succeeds(record: dict[str, object], raised: type[Exception]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(200, text='id: 1\nevent: state\ndata: {"state": "running"}\n\n')
        return httpx.Response(200, json=record)

    seen: list[StreamedEvent] = []
    with pytest.raises(raised):
        client(answer).wait("1f", seen.append)
    assert [event.data for event in seen] == [{"state": "running"}]
