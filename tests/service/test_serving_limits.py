"""What happens when more is asked than can be answered, by a service on a real server."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from serving import encode as encoded
from serving import modular_model, png, problem, serving
from waiting import until

from moda_core.data.images import decode
from moda_core.modularity.networks import network, predict
from service.app import create_app
from service.inference.tickets import Ticket
from service.settings import Settings
from worker.embedded import free_port


class Gate:
    """A lane whose only batch holds the device until it is opened."""

    image_s = float("inf")

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def start(self, inputs):
        self.entered.set()
        assert self.opened.wait(20)
        return lambda: [None] * len(inputs)


@dataclass
class Busy:
    """A service whose device can be held."""

    http: httpx.Client
    app: object
    log: io.StringIO

    @contextmanager
    def held(self) -> Iterator[None]:
        gate, loop = Gate(), asyncio.new_event_loop()
        self.app.state.parts.engine.batcher.put(Ticket(gate, lambda: None, 0, loop.create_future()))
        assert gate.entered.wait(10)
        try:
            yield
        finally:
            gate.opened.set()
            loop.close()

    def predict(self, images: int = 1, **headers: str) -> httpx.Response:
        files = [("image", (f"{number}.png", png(number))) for number in range(images)]
        return self.http.post("/predict", data={"model": "animals"}, files=files, headers=headers)

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.http.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def waiting(self, images: int) -> None:
        """Return when so many images have been taken on."""
        until(lambda: self.metric("moda_queue_depth") == images, 10)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    home = tmp_path_factory.mktemp("home")
    redis = f"redis://127.0.0.1:{free_port()}/0"
    log = io.StringIO()
    with redirect_stdout(log):
        app = create_app(Settings(home=home, redis_url=redis, device="cpu", max_queue=4, timeout_s=20))
    with serving(app) as http:
        upload = {"file": ("m.safetensors", encoded(modular_model()))}
        assert http.post("/models", data={"name": "animals"}, files=upload).status_code == 201
        service = Busy(http, app, log)
        assert service.predict().status_code == 200
        yield service


def test_a_full_queue_is_429_with_when_to_come_again_and_what_was_taken_on_is_answered(busy: Busy):
    refused = busy.metric('moda_rejected_total{reason="queue-full"}')
    with ThreadPoolExecutor(4) as callers:
        with busy.held():
            accepted: list[Future[httpx.Response]] = [callers.submit(busy.predict, 2) for _ in range(2)]
            busy.waiting(4)
            response = busy.predict()
            document = problem(response, 429)
        assert [answer.result().status_code for answer in accepted] == [200, 200]
    assert document["code"] == "overloaded"
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert busy.metric('moda_rejected_total{reason="queue-full"}') == refused + 1
    assert busy.predict().status_code == 200


def test_a_small_file_of_many_pixels_is_decoded_beside_the_event_loop(busy: Busy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.inference.preparing._QUICK_S", 1000)  # every model is quick
    where: list[str] = []

    def noting(*given: object, **options: object) -> torch.Tensor:
        where.append(threading.current_thread().name)
        return decode(*given, **options)

    monkeypatch.setattr("service.inference.decoding.decode", noting)
    for size, kind in (((16, 16), "PNG"), ((3000, 3000), "PNG"), ((16, 16), "GIF"), ((2000, 2000), "GIF")):
        file = io.BytesIO()
        Image.new("L", size).save(file, kind)
        assert len(file.getvalue()) < 16 * 2**10
        headers = {"content-type": f"image/{kind.lower()}"}
        answer = busy.http.post("/predict?model=animals", content=file.getvalue(), headers=headers)
        assert answer.status_code == 200
    assert [name.startswith("decode") for name in where] == [False, True, False, True]


@pytest.mark.parametrize("path", ["/predict?model=animals", "/v2/models/animals/infer"])
def test_a_full_queue_refuses_before_it_reads_what_is_sent(busy: Busy, path: str):
    host, port = busy.http.base_url.host, busy.http.base_url.port
    head = "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n"
    with ThreadPoolExecutor(2) as callers, busy.held():
        accepted = [callers.submit(busy.predict, 2) for _ in range(2)]
        busy.waiting(4)
        with socket.create_connection((host, port), timeout=10) as caller:
            caller.sendall(head.format(path, host, 1_000_000).encode())
            assert caller.recv(100).startswith(b"HTTP/1.1 429")
    assert [answer.result().status_code for answer in accepted] == [200, 200]


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits(busy: Busy):
    assert len(busy.predict(9).json()["predictions"]) == 9


def test_a_request_larger_than_a_batch_is_answered_in_several_passes(busy: Busy):
    images = [png(number) for number in range(70)]
    files = [("image", (f"{number}.png", image)) for number, image in enumerate(images)]
    answer = busy.http.post("/predict", data={"model": "animals"}, files=files).json()
    expected = predict(network(modular_model()), [decode(image) for image in images])
    found = torch.tensor([one["probabilities"] for one in answer["predictions"]])
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_request_is_given_up_when_its_time_is_up(busy: Busy):
    with busy.held():
        begun = time.monotonic()
        document = problem(busy.predict(2, **{"X-Request-Timeout-Seconds": "0.2"}), 504)
        assert 0.15 < time.monotonic() - begun < 5
    assert document["code"] == "deadline-exceeded"
    busy.waiting(0)


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan", "inf"])
def test_what_is_no_length_of_time_is_refused(busy: Busy, given: str):
    document = problem(busy.predict(**{"X-Request-Timeout-Seconds": given}), 422)
    assert document["field"] == "X-Request-Timeout-Seconds"


def large_png() -> bytes:
    """A file that goes the way of large ones: a small one for a quick model never waits for the device."""
    noise = np.random.default_rng(0).integers(0, 256, (160, 160), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def raw_request() -> tuple[str, bytes]:
    return "POST /predict?model=animals", large_png()


def protocol_request() -> tuple[str, bytes]:
    pixels = {"name": "images", "datatype": "UINT8", "shape": [1, 1, 16, 16], "data": [7] * 256}
    return "POST /v2/models/animals/infer", json.dumps({"inputs": [pixels]}).encode()


@pytest.mark.parametrize("request_of", [raw_request, protocol_request])
def test_a_caller_that_hangs_up_leaves_the_queue(busy: Busy, request_of: Callable[[], tuple[str, bytes]]):
    before, gone = (
        busy.metric('moda_images_predicted_total{lane="own"}'),
        busy.metric('moda_rejected_total{reason="gone"}'),
    )
    line, body = request_of()
    kind = "image/png" if body.startswith(b"\x89PNG") else "application/json"
    head = f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with busy.held():
        with socket.create_connection((busy.http.base_url.host, busy.http.base_url.port)) as caller:
            caller.sendall(head.encode() + body)
            busy.waiting(1)
        busy.waiting(0)
    assert busy.metric('moda_rejected_total{reason="gone"}') == gone + 1
    assert busy.predict().status_code == 200
    assert busy.metric('moda_images_predicted_total{lane="own"}') == before + 1


def test_an_answer_says_where_its_time_went_and_the_log_and_the_counters_too(busy: Busy):
    before = {stage: busy.metric(f'moda_stage_seconds_count{{stage="{stage}"}}') for stage in STAGES}
    response = busy.predict(3)
    timing = response.headers["server-timing"]
    assert [part.split(";")[0] for part in timing.split(", ")] == list(STAGES)
    assert all(float(part.split("dur=")[1]) >= 0 for part in timing.split(", "))
    for stage in STAGES:
        assert busy.metric(f'moda_stage_seconds_count{{stage="{stage}"}}') == before[stage] + 1
    # The caller has its answer before the line is written.
    until(lambda: response.headers["x-request-id"] in busy.log.getvalue(), 5)
    lines = [json.loads(line) for line in busy.log.getvalue().splitlines()]
    [line] = [one for one in lines if one["request_id"] == response.headers["x-request-id"]]
    assert (line["route"], line["status"], line["images"], line["batch_size"]) == ("/predict", 200, 3, 3)
    assert line["model_digest"] == response.json()["model"]
    assert line["duration_ms"] >= line["infer_ms"] >= 0


def test_readiness_tells_of_a_device_that_does_not_answer(busy: Busy, monkeypatch: pytest.MonkeyPatch):
    assert busy.http.get("/readyz").json()["device_state"] == "ok"
    monkeypatch.setattr("service.inference.engine._CHECK_S", 0.1)
    with busy.held():
        answer = busy.http.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
        assert "does not answer" in answer.json()["device_state"]
        assert busy.http.get("/healthz").status_code == 200
    assert busy.http.get("/readyz").status_code == 200


STAGES = ("decode", "queue", "forward", "encode")
