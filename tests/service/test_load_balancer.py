"""The load balancer's configuration of docs/scaling.md, run in front of two real processes of the service."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from serving import modular_model, png
from sources import ROOT

from benchmarks.endurance.service import Service, served
from benchmarks.serving.clients import Ask, Clients
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Registry
from service.admission import admit
from service.ports import free_port
from service.processes import Child

pytestmark = [
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed (package haproxy)"),
    pytest.mark.skipif(sys.platform != "linux", reason="starts processes that end with this one"),
]


@dataclass(frozen=True)
class Balanced:
    """Two processes of the service, and what is in front of them."""

    services: list[Service]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def served_by(self, **query: object) -> str:
        answer = httpx.post(f"{self.url}/predict", params=query, content=png(), headers={"Content-Type": "image/png"})
        assert answer.status_code == 200, answer.text
        return answer.headers["x-served-by"]


def configuration(port: int, services: list[Service]) -> str:
    """The document's, with addresses of this machine, telling which process answered."""
    [text] = re.findall(r"```haproxy\n(.*?)```", (ROOT / "docs" / "scaling.md").read_text(), re.DOTALL)
    for name, service in zip(("10.0.0.1", "10.0.0.2"), services, strict=True):
        text, found = re.subn(rf"{name}:8000", f"127.0.0.1:{service.port}", text)
        assert found == 1
    text, found = re.subn(r"bind :8080", f"bind 127.0.0.1:{port}", text)
    assert found == 1
    return text.replace("backend services", "backend services\n    http-response set-header X-Served-By %s")


@pytest.fixture
def balanced(tmp_path: Path) -> Iterator[Balanced]:
    store, file = tmp_path / "registry", tmp_path / "model.safetensors"
    file.write_bytes(encode(modular_model()))
    registry = Registry(store)
    registry.publish_version("animals", admit(registry, file))
    with ExitStack() as stack:
        settings = {"MODA_REGISTRY": str(store)}
        services = [stack.enter_context(served(tmp_path, threads=1, settings=settings)) for _ in range(2)]
        port = free_port()
        written = tmp_path / "haproxy.cfg"
        written.write_text(configuration(port, services))
        checked = subprocess.run(["haproxy", "-c", "-f", str(written)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        balancer = Child("haproxy", ["haproxy", "-db", "-f", str(written)], log=tmp_path / "haproxy.log")
        stack.callback(balancer.stop)
        balancer.start()
        found = Balanced(services, port)
        until_answered(found, balancer)
        yield found


def until_answered(balanced: Balanced, balancer: Child) -> None:
    ends_at = time.monotonic() + 20
    while time.monotonic() < ends_at:
        assert balancer.exited() is None, balancer.log.read_text()
        try:
            if httpx.get(f"{balanced.url}/healthz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(balancer.log.read_text())


def test_a_composition_stays_where_it_is_and_compositions_are_spread(balanced: Balanced):
    subsets = [["cat"], ["dog"], ["ship"], ["cat", "dog"], ["cat", "ship"], ["dog", "ship"], ["cat", "dog", "ship"]]
    by_subset = [{balanced.served_by(model="animals", classes=subset) for _ in range(4)} for subset in subsets]
    assert all(len(servers) == 1 for servers in by_subset)
    assert set().union(*by_subset) == {"one", "two"}


def test_one_process_leaves_under_load_and_no_request_fails(balanced: Balanced):
    ids = [
        httpx.post(f"{balanced.url}/compose", json={"model": "animals", "classes": classes}).json()["id"]
        for classes in (["cat", "dog"], ["dog", "ship"], ["cat", "ship"])
    ]
    leaves = balanced.served_by(model=ids[0])
    path = f"/predict?model={ids[0]}"
    with Clients(Ask(port=balanced.port, path=path, picture=png()), count=4) as clients:
        time.sleep(0.5)
        os.kill(balanced.services[("one", "two").index(leaves)].pid, signal.SIGTERM)
        time.sleep(2.5)
        fate = clients.fate()
    assert fate["answered"] > 50
    assert fate["refused"] == fate["lost"] == fate["cut"] == 0
    assert {balanced.served_by(model=one) for one in ids} == {"one", "two"} - {leaves}
