"""OpenTelemetry, when its variables are set: seen by a collector, of a service in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from serving import png
from sources import ROOT

from service.app import create_app
from service.settings import Settings
from worker.embedded import free_port


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An OTLP endpoint, and what it was sent: path and body."""
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


def test_spans_of_predictions_reach_the_collector_and_the_service_stops(
    tmp_path: Path, collector: tuple[str, list[tuple[str, bytes]]]
):
    endpoint, received = collector
    port = free_port()
    environment = os.environ | {
        "MODA_HOME": str(tmp_path),
        "MODA_DEVICE": "cpu",
        "MODA_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_SERVICE_NAME": "moda-test",
    }
    command = [sys.executable, "-m", "uvicorn", "service.app:create_app", "--factory", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as service:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                until = time.monotonic() + 100
                while not _answers(client):
                    assert service.poll() is None
                    assert time.monotonic() < until
                    time.sleep(0.1)
                refused = client.post("/predict?model=nobody", content=png(), headers={"content-type": "image/png"})
                assert refused.status_code == 404
        finally:
            service.terminate()
            service.wait(60)
    spans = b"".join(body for path, body in received if path == "/v1/traces")
    assert b"POST /predict" in spans
    assert b"moda-test" in spans


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("variables", "direct"),
    [
        ({}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}, True),
    ],
)
def test_predictions_skip_routing_only_while_nobody_collects_spans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], direct: bool
):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    app = create_app(Settings(home=tmp_path))
    assert ("DirectPredictions" in {middleware.cls.__name__ for middleware in app.user_middleware}) is direct
