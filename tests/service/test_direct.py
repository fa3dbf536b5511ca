"""`POST /predict` answers alike with and without the short way to it."""

from __future__ import annotations

import asyncio
import base64
import socket
import time
from collections.abc import Iterator

import pytest
from fastapi.exceptions import RequestValidationError
from serving import Running, png, problem, running

from service import app
from service.api import forms, predictions
from worker.embedded import free_port


class Through:
    """A middleware that does nothing."""

    def __init__(self, app: object) -> None:
        self.app = app

    async def __call__(self, *given: object) -> None:
        await self.app(*given)


@pytest.fixture(scope="module", params=["direct", "routed"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "routed":
            patch.setattr(app, "DirectPredictions", Through)
        with running(tmp_path_factory.mktemp("home"), f"redis://127.0.0.1:{free_port()}/0") as service:
            yield service


def raw(service: Running, **query: object):
    return service.http.post("/predict", params=query, content=png(), headers={"content-type": "image/png"})


def form(service: Running, **data: object):
    return service.http.post("/predict", data=data, files=[("image", ("a.png", png()))])


def in_json(service: Running, **members: object):
    body = members | {"instances": [{"b64": base64.b64encode(png()).decode()}]}
    return service.http.post("/predict", json=body)


def test_the_three_forms_have_one_answer(either: Running):
    answers = [ask(either, model="animals", classes=["ship", "cat"]) for ask in (raw, form, in_json)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert answers[0].json()["classes"] == ["ship", "cat"]


@pytest.mark.parametrize("ask", [raw, form, in_json])
@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"model": "x" * 201}, "model"),
        ({"model": ""}, "model"),
        ({"model": "animals", "classes": ["x" * 501]}, "classes"),
        ({"model": "animals", "classes": ["cat", ""]}, "classes"),
        ({"model": "animals", "classes": ["cat"], "threshold": "high"}, "threshold"),
    ],
)
def test_what_is_beyond_the_limits_is_refused_in_every_form(either: Running, ask, asked: dict, field: str):
    assert problem(ask(either, **asked), 422)["field"].partition(".")[0] == field


@pytest.mark.parametrize("ask", [raw, form, in_json])
def test_more_classes_than_may_be_named_are_refused_in_every_form(either: Running, ask, monkeypatch):
    monkeypatch.setattr(predictions, "MAX_CLASSES", 1)
    status = 200 if ask is in_json else 422  # JSON's limit is part of its schema
    assert ask(either, model="animals", classes=["cat", "dog"]).status_code == status


def test_large_forms_are_read_beside_the_event_loop(either: Running, monkeypatch):
    read_on: list[str] = []
    parts_of = predictions.parts_of

    def noted(*given: object, **named: object):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            read_on.append("a thread")
        else:
            read_on.append("the event loop")
        return parts_of(*given, **named)

    monkeypatch.setattr(predictions, "parts_of", noted)
    assert form(either, model="animals").status_code == 200
    assert form(either, model="animals", padding="x" * 300_000).status_code == 200
    assert read_on == ["the event loop", "a thread"]


def test_parts_are_the_bytes_that_were_sent():
    data = b"\r\n--b\r\n--bound\r\n\r" * 1000
    head = b'--boundary\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    body = head + data + b"\r\n--boundary--\r\n"
    (part,) = forms.parts_of(body, "multipart/form-data; boundary=boundary", most=1, remedy="")
    assert (part.name, part.file_name, part.data) == ("image", "a", data)


@pytest.mark.parametrize("path", ["/predict?model=animals", "/v2/models/animals/infer"])
@pytest.mark.parametrize("media_type", ["image/png", "application/json"])
def test_a_caller_that_hangs_up_while_it_sends_is_gone_and_no_bug(either: Running, path: str, media_type: str):
    def count(sample: str) -> float:
        lines = either.http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if sample in line)

    gone = count('rejected_total{reason="gone"}')
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media_type}\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection((either.http.base_url.host, either.http.base_url.port)) as caller:
        caller.sendall(head.encode() + b"some")
        time.sleep(0.1)
    until = time.monotonic() + 5
    while count('rejected_total{reason="gone"}') == gone and time.monotonic() < until:
        time.sleep(0.02)
    assert count('rejected_total{reason="gone"}') == gone + 1
    assert count('status="500"') == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "animals", "threshold": [' + b"1," * 2**21 + b'1], "instances": [{"b64": ""}]}',
        b'{"model": "animals", "instances": [{"b64": ""}], ' + b",".join(b'"%d": 1' % i for i in range(99_999)) + b"}",
    ],
    ids=["one large value", "many faults"],
)
def test_of_malformed_json_only_what_is_shown_leaves_its_thread(body: bytes):
    with pytest.raises(RequestValidationError) as caught:
        predictions._from_json(body)
    faults = caught.value.errors()
    assert len(faults) <= 50
    assert not any("input" in one or "ctx" in one for one in faults)
