"""SIGTERM to a real process of the service: what it has accepted is answered, what is new refused, and it ends."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from serving import png, trained_model
from waiting import listens

from benchmarks.endurance.service import Service, metric, served
from benchmarks.serving.clients import Ask, Clients
from benchmarks.serving.models import trained_model as large_model
from benchmarks.serving.processes import ProcessTree
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Registry
from service.admission import admit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

LIMIT_S = 10.0
"""That `moda up` and the image give it; see `service.serving`."""
END = -signal.SIGTERM
"""Once all is closed, uvicorn lets the signal take its usual effect: a shell shows 143."""
LARGE, SMALL = "resnet18", "small"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    registry, file = Registry(home / "registry"), home / "model.safetensors"
    for name, model in ((LARGE, large_model(LARGE)), (SMALL, trained_model())):
        file.write_bytes(encode(model))
        registry.publish_version(name, admit(registry, file))
    return home


@pytest.fixture
def service(home: Path) -> Iterator[Service]:
    """A process that has answered once for each model."""
    with served(home, threads=1) as service:
        for name in (LARGE, SMALL):
            assert ask(service, name).status_code == 200
        yield service


def ask(service: Service, model: str, images: int = 1) -> httpx.Response:
    instances = [{"b64": base64.b64encode(png(one, (32, 32))).decode()} for one in range(images)]
    return httpx.post(f"{service.url}/predict", json={"model": model, "instances": instances}, timeout=60)


def waits(service: Service, images: int) -> None:
    """Return when so many images have been taken on."""
    ends_at = time.monotonic() + 30
    while metric(service.metrics(), "moda_queue_depth") < images:
        assert time.monotonic() < ends_at, "they were never taken on"


def ended(service: Service, within_s: float) -> int | None:
    """The exit status, None after so many seconds."""
    ends_at = time.monotonic() + within_s
    while service.child.exited() is None and time.monotonic() < ends_at:
        time.sleep(0.01)
    return service.child.exited()


def test_requests_under_way_are_answered_and_new_connections_refused(service: Service):
    tree = ProcessTree(service.pid)
    members = tree.members()
    with ThreadPoolExecutor(3) as clients:
        asking: list[Future[httpx.Response]] = [clients.submit(ask, service, LARGE, 40) for _ in range(3)]
        waits(service, 81)  # of three requests with 40 each, at least the last is whole
        os.kill(service.pid, signal.SIGTERM)
        while listens(service.port):
            time.sleep(0.005)
        assert not all(one.done() for one in asking), "it refused only once there was nothing left to answer"
        answers = [one.result() for one in asking]
    assert [one.status_code for one in answers] == [200] * 3
    assert all(len(one.json()["predictions"]) == 40 for one in answers)
    assert ended(service, LIMIT_S) == END
    assert service.pid in members
    assert tree.gone_within(1.0)


def test_under_load_nothing_that_was_accepted_is_lost(service: Service):
    tree = ProcessTree(service.pid)
    tree.members()
    question = Ask(port=service.port, path=f"/predict?model={SMALL}", picture=png())
    with Clients(question) as clients:
        time.sleep(0.5)
        clients.told()
        os.kill(service.pid, signal.SIGTERM)
        assert ended(service, LIMIT_S) == END
        fate = clients.fate()
    assert fate["answered"] > 20
    assert fate["lost"] == 0
    assert fate["refused"] == 0
    assert tree.gone_within(1.0)


def test_the_last_answer_on_a_connection_says_that_it_closes_and_the_next_one_is_still_taken(service: Service):
    path, headers = f"/predict?model={SMALL}", {"content-type": "image/png"}
    with httpx.Client(base_url=service.url) as caller:
        assert "connection" not in caller.post(path, content=png(), headers=headers).headers
        os.kill(service.pid, signal.SIGTERM)
        time.sleep(0.05)
        answers = [caller.post(path, content=png(), headers=headers) for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 200]
    assert [one.headers["connection"] for one in answers] == ["close", "close"]
    assert ended(service, LIMIT_S) == END


def test_who_says_it_twice_means_at_once(service: Service):
    with closing(socket.create_connection(("127.0.0.1", service.port))):
        began = time.monotonic()
        os.kill(service.pid, signal.SIGTERM)
        time.sleep(0.01)
        os.kill(service.pid, signal.SIGTERM)
        while listens(service.port):
            time.sleep(0.005)
        assert time.monotonic() - began < 0.24
    assert ended(service, LIMIT_S) == END


def test_a_caller_who_never_finishes_does_not_keep_it_up(service: Service):
    """Half of a body, and a connection that says nothing: after ten seconds both are cut off."""
    head = f"POST /predict?model={SMALL} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as half, socket.create_connection(half.getpeername()):
        half.sendall(head.encode() + b"half")
        ask(service, SMALL)  # by then, the other connections' bytes have been read
        began = time.monotonic()
        os.kill(service.pid, signal.SIGTERM)
        status = ended(service, LIMIT_S + 5)
        took = time.monotonic() - began
    assert status == END
    assert took == pytest.approx(LIMIT_S, abs=3)


def test_with_nothing_to_do_it_ends_at_once_and_says_so(service: Service):
    with httpx.Client(base_url=service.url) as idle:
        assert idle.get("/healthz").is_success
        began = time.monotonic()
        os.kill(service.pid, signal.SIGTERM)
        assert ended(service, LIMIT_S) == END
    assert time.monotonic() - began < 5
    log = service.child.log.read_text()
    assert "Application shutdown complete" in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert all(line["level"] == "info" for line in lines)
