"""Two processes of the service on one port: one service, which a process that dies does not take with it."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import png, trained_model
from waiting import until

from benchmarks.endurance.service import Service, served
from benchmarks.serving.clients import Ask, Clients
from benchmarks.serving.processes import ProcessTree
from moda_core.errors import InvalidInput
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Registry
from service.__main__ import main
from service.admission import admit
from service.serving import serve
from service.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux deals connections out among processes")

PROCESSES = 2
CONNECTIONS = 24
"""So many go to one process alone once in 8 million times."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    registry, file = Registry(tmp_path / "registry"), tmp_path / "model.safetensors"
    for seed in range(2):
        file.write_bytes(encode(trained_model(seed)))
        registry.publish_version("small", admit(registry, file))
    with served(tmp_path, threads=1, processes=PROCESSES) as service:
        yield service


def members(service: Service) -> set[int]:
    """The processes that answer."""
    return {pid for pid in ProcessTree(service.pid).members() if pid != service.pid}


def everybody(service: Service, method: str = "POST", path: str = "/v2/repository/index") -> set[str]:
    """What is said over many new connections."""
    answers = set()
    for _ in range(CONNECTIONS):
        with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
            answer = client.request(method, path)
            answers.add(f"{answer.status_code} {answer.text if answer.is_success else ''}")
    return answers


def changed(service: Service, change: str) -> None:
    httpx.post(f"{service.url}/v2/repository/models/small/{change}", timeout=30).raise_for_status()


def test_connections_are_dealt_out_and_counted_by_process(service: Service) -> None:
    assert len(members(service)) == PROCESSES
    everybody(service, "GET", "/v2")
    counted = re.findall(
        r'^moda_http_requests_total\{.*process="(\d)",route="/v2".*\} (\S+)$', service.metrics(), re.MULTILINE
    )
    assert [process for process, _ in counted] == ["0", "1"]
    assert sum(float(count) for _, count in counted) == CONNECTIONS


def test_what_one_loads_or_unloads_all_have(service: Service) -> None:
    path = "/v2/models/small"
    changed(service, "unload")
    assert everybody(service, "GET", path) == {"404 "}
    changed(service, "load")
    registry = Registry(service.child.log.parent / "registry")
    registry.publish_version("small", registry.resolve("small@1").digest)
    [said] = everybody(service, "GET", path)
    assert '"version":"2"' in said, "a name that was loaded stays with its version"


def test_a_process_that_died_is_there_again_and_knows_what_was_unloaded(service: Service) -> None:
    changed(service, "unload")
    before = members(service)
    os.kill(min(before), signal.SIGKILL)
    assert everybody(service, "GET", "/v2/models/small") == {"404 "}, "connections wait for who comes after it"
    until(lambda: len(members(service) - before) == 1)
    assert "ended with status -9 and is started again" in service.child.log.read_text()


def test_on_sigterm_nothing_that_was_accepted_is_lost_and_nobody_stays(service: Service) -> None:
    tree = ProcessTree(service.pid)
    assert len(tree.members()) == PROCESSES + 1
    changed(service, "load")
    with Clients(Ask(port=service.port, path="/predict?model=small", picture=png())) as clients:
        time.sleep(0.5)
        clients.told()
        os.kill(service.pid, signal.SIGTERM)
        until(lambda: service.child.exited() is not None)
        fate = clients.fate()
    assert service.child.exited() == 0
    assert fate["answered"] > 20
    assert (fate["lost"], fate["refused"]) == (0, 0)
    assert tree.gone_within(1.0)


def test_when_the_first_one_is_killed_the_others_end(service: Service) -> None:
    tree = ProcessTree(service.pid)
    tree.members()
    os.kill(service.pid, signal.SIGKILL)
    assert tree.gone_within(20.0)


def test_a_port_that_is_taken_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        monkeypatch.setattr(sys, "argv", ["service", "--home", str(tmp_path), "--port", port, "--processes", "2"])
        assert main() == 2
    assert f"127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err


def test_settings_that_cannot_be_used_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["service", "--processes", "0"])
    monkeypatch.setenv("MODA_MAX_BATCH", "many")
    assert main() == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "MODA_PROCESSES, --processes",
        "MODA_MAX_BATCH, --max-batch",
    ]
    assert "'0'" in lines[0]
    assert "'many'" in lines[1]


def test_elsewhere_several_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InvalidInput, match="processes: only on Linux"):
        serve(Settings(home=tmp_path, processes=2))
