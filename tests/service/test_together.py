"""Two processes of the service on one port: one service, which a process that dies does not take with it."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest
from serving import png, serving, trained_model
from waiting import listens, until

from benchmarks.endurance.service import Service, served
from benchmarks.serving.clients import Ask, Clients
from benchmarks.serving.processes import ProcessTree
from moda_core.errors import Conflict, InvalidInput
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Registry
from service.__main__ import main
from service.admission import admit
from service.ports import free_port
from service.ports import shared as shared_port
from service.processes import Child
from service.serving import serve
from service.settings import Settings
from service.up import service_command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux deals connections out among processes")

PROCESSES = 2
CONNECTIONS = 24
"""So many go to one process alone once in 8 million times."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    registry, file = Registry(home / "registry"), home / "model.safetensors"
    for seed in range(2):
        file.write_bytes(encode(trained_model(seed)))
        registry.publish_version("small", admit(registry, file))
    return home


@pytest.fixture(scope="module")
def shared(home: Path) -> Iterator[Service]:
    with served(home, threads=1, processes=PROCESSES) as service:
        yield service


@pytest.fixture
def service(shared: Service) -> Service:
    """With nothing unloaded."""
    changed(shared, "load")
    return shared


@pytest.fixture
def ending(home: Path) -> Iterator[Service]:
    """One that may be ended."""
    with served(home, threads=1, processes=PROCESSES) as service:
        yield service


def members(service: Service) -> set[int]:
    """The processes that answer."""
    return {pid for pid in ProcessTree(service.pid).members() if pid != service.pid}


def everybody(service: Service, path: str) -> set[str]:
    """What is said over many new connections."""
    answers = set()
    for _ in range(CONNECTIONS):
        with closing(HTTPConnection("127.0.0.1", service.port, timeout=30)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
            answers.add(f"{answer.status} {text if answer.status == 200 else ''}")
    return answers


def changed(service: Service, change: str) -> None:
    httpx.post(f"{service.url}/v2/repository/models/small/{change}", timeout=30).raise_for_status()


def test_connections_are_dealt_out_and_counted_by_process(service: Service) -> None:
    assert len(members(service)) == PROCESSES
    everybody(service, "/v2")
    counted = re.findall(
        r'^moda_http_requests_total\{process="(\d)",.*route="/v2".*\} (\S+)$', service.metrics(), re.MULTILINE
    )
    assert [process for process, _ in counted] == ["0", "1"]
    assert sum(float(count) for _, count in counted) == CONNECTIONS


def test_what_one_loads_or_unloads_all_have(service: Service) -> None:
    path = "/v2/models/small"
    changed(service, "unload")
    assert everybody(service, path) == {"404 "}
    changed(service, "load")
    registry = Registry(service.child.log.parent / "registry")
    registry.publish_version("small", registry.resolve("small@1").digest)
    [said] = everybody(service, path)
    assert '"version":"2"' in said, "a name that was loaded stays with its version"


def test_a_process_that_died_is_there_again_and_knows_what_was_unloaded(service: Service) -> None:
    changed(service, "unload")
    before = members(service)
    os.kill(min(before), signal.SIGKILL)
    assert everybody(service, "/v2/models/small") == {"404 "}, "connections wait for who comes after it"
    until(lambda: len(members(service) - before) == 1)
    assert "ended with status -9 and is started again" in service.child.log.read_text()


def test_on_sigterm_nothing_that_was_accepted_is_lost_and_nobody_stays(ending: Service) -> None:
    tree = ProcessTree(ending.pid)
    assert len(tree.members()) == PROCESSES + 1
    changed(ending, "load")
    with Clients(Ask(port=ending.port, path="/predict?model=small", picture=png())) as clients:
        time.sleep(0.5)
        clients.told()
        os.kill(ending.pid, signal.SIGTERM)
        until(lambda: ending.child.exited() is not None)
        fate = clients.fate()
    assert ending.child.exited() == 0
    assert fate["answered"] > 20
    assert (fate["lost"], fate["refused"]) == (0, 0)
    assert tree.gone_within(1.0)


def test_on_sigterm_new_connections_are_refused_while_one_is_still_answered(ending: Service) -> None:
    head = (
        b"POST /predict?model=small HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\n"
    )
    with closing(socket.create_connection(("127.0.0.1", ending.port))) as slow:
        slow.sendall(head + b"half")
        everybody(ending, "/v2")  # by then those bytes have been read
        os.kill(ending.pid, signal.SIGTERM)
        until(lambda: not listens(ending.port))
        assert all(not listens(ending.port) for _ in range(CONNECTIONS))
        assert ending.child.exited() is None
    until(lambda: ending.child.exited() is not None)


def test_told_to_stop_while_it_imports_it_starts_nobody(home: Path) -> None:
    port, log = free_port(), home / "early.log"
    child = Child("service", service_command("127.0.0.1", port, PROCESSES), log=log)
    child.start()
    try:
        until(lambda: listens(port))  # before anything is imported
        assert child.pid is not None
        os.kill(child.pid, signal.SIGTERM)
        until(lambda: child.exited() is not None)
        assert (child.exited(), log.read_text()) == (0, "")
    finally:
        child.stop()


def test_when_the_first_one_is_killed_the_others_end(ending: Service) -> None:
    tree = ProcessTree(ending.pid)
    tree.members()
    os.kill(ending.pid, signal.SIGKILL)
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
        assert main() == 4
    assert f"127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err


def test_a_port_that_others_are_about_to_share_is_taken() -> None:
    first = shared_port("127.0.0.1", 0, 2)
    try:
        with pytest.raises(Conflict, match="cannot be listened on"):
            shared_port("127.0.0.1", first[0].getsockname()[1], 2)
    finally:
        for door in first:
            door.close()


def test_answers_wait_for_no_receipt_of_their_first_packet(service: Service) -> None:
    """40 ms each, where asyncio does not know a socket for one of TCP."""
    with closing(HTTPConnection("127.0.0.1", service.port, timeout=30)) as connection:
        waited = []
        for _ in range(20):
            began = time.monotonic()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            waited.append(time.monotonic() - began)
    assert sorted(waited)[5] < 0.03


def test_one_process_has_the_settings_that_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Callable[[], object]] = []
    monkeypatch.setattr("uvicorn.run", lambda make, **_options: made.append(make))
    monkeypatch.setattr(sys, "argv", ["service", "--home", str(tmp_path), "--max-body-bytes", "10", "--device", "cpu"])
    assert main() == 0
    with serving(made[0]()) as http:
        assert (
            http.post("/predict?model=small", content=png(), headers={"content-type": "image/png"}).status_code == 413
        )
    assert (tmp_path / "registry").is_dir()


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
