"""Trees of processes: small programs as children, and once the whole product."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import until

from moda_core.errors import Conflict, InvalidInput, Unavailable
from service.ports import free_port
from service.processes import Child, Tree, last_lines, python
from service.up import Place, _parts, run, wait_until_ready

ROOT = Path(__file__).parents[2]
WAITS = "import time; print('here', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    made: list[Child] = []

    def make(code: str, name: str = "child", **more: object) -> Child:
        made.append(Child(name, [sys.executable, "-c", code], log=tmp_path / f"{name}.log", **more))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_a_child_writes_to_its_log_and_ends_when_told(child: Callable[..., Child]) -> None:
    one = child(WAITS)
    one.start()
    until(lambda: last_lines(one.log) == "here")
    assert one.exited() is None
    one.stop()
    assert one.exited() == -signal.SIGTERM


def test_a_child_that_ignores_sigterm_is_killed(child: Callable[..., Child]) -> None:
    one = child(STUBBORN, patience_s=0.2)
    one.start()
    until(lambda: last_lines(one.log))
    one.stop()
    assert one.exited() == -signal.SIGKILL


@ON_LINUX
def test_what_a_child_started_ends_with_it(child: Callable[..., Child]) -> None:
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]).pid, flush=True); input()"
    one = child(code)
    one.start()
    until(lambda: "here" in last_lines(one.log))
    grandchild = int(one.log.read_text().split()[0])
    one.stop()
    until(lambda: not alive(grandchild))


@ON_LINUX
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = f"""
import sys, time
from pathlib import Path
from service.processes import Child
child = Child("child", [sys.executable, "-c", {WAITS!r}], log=Path({str(log)!r}))
child.start()
print(child.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        until(lambda: last_lines(log) == "here")
        parent.kill()
    until(lambda: not alive(pid))


def test_variables_are_laid_over_and_taken_away(child: Callable[..., Child], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GONE", "1")
    show = "import json, os; print(json.dumps({name: os.environ.get(name) for name in ('GONE', 'NEW')}))"
    one = child(show, environment=lambda: {"GONE": None, "NEW": "2"})
    one.start()
    until(lambda: one.exited() is not None)
    assert json.loads(one.log.read_text()) == {"GONE": None, "NEW": "2"}


def test_our_modules_run_from_any_folder_and_nothing_there_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "typer.py").write_text("raise SystemExit('imported from the folder where it runs')")
    one = Child("help", python("service.cli", "--help"), log=tmp_path / "log")
    one.start()
    until(lambda: one.exited() is not None)
    assert one.exited() == 0, one.log.read_text()


def test_a_log_that_has_grown_is_moved_aside(child: Callable[..., Child]) -> None:
    one = child("print('new')")
    one.log.write_bytes(b"old" * 4_000_000)
    one.start()
    until(lambda: one.exited() is not None)
    assert one.log.read_text() == "new\n"
    assert one.log.with_name("child.log.1").stat().st_size == 12_000_000


class Recorded:
    """A part that only writes down what happens to it."""

    def __init__(self, name: str, story: list[str], *, fails: bool = False) -> None:
        self.name, self.story, self.fails = name, story, fails
        self.status: int | None = None

    def start(self) -> None:
        self.story.append(f"start {self.name}")
        if self.fails:
            raise Unavailable("it cannot be started", "try again")
        self.status = None

    def exited(self) -> int | None:
        return self.status

    def stop(self) -> None:
        self.story.append(f"stop {self.name}")


def test_parts_start_in_order_and_stop_in_reverse() -> None:
    story: list[str] = []
    with Tree([Recorded("a", story), Recorded("b", story)], report=story.append):
        story.append("run")
    assert story == ["start a", "start b", "run", "stop b", "stop a"]


def test_what_was_started_is_stopped_when_a_later_part_fails() -> None:
    story: list[str] = []
    parts = [Recorded("a", story), Recorded("b", story, fails=True), Recorded("c", story)]
    with pytest.raises(Unavailable), Tree(parts, report=story.append):
        pass
    assert story == ["start a", "start b", "stop b", "stop a"]


def test_a_part_that_ends_is_reported_and_started_again_until_it_ends_too_often() -> None:
    story: list[str] = []
    part = Recorded("worker", story)
    with Tree([part], report=story.append, restarts=2) as tree:
        for _ in range(2):
            part.status = 3
            tree.look()
            tree.look()
        assert story == ["start worker", *["the worker ended with status 3 and is started again", "start worker"] * 2]
        part.status = 3
        with pytest.raises(Unavailable, match="3 times within a minute"):
            tree.look()


@pytest.mark.parametrize("callers", [None, "7"])
def test_the_service_has_few_arenas_unless_the_caller_says_otherwise(
    callers: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    if callers:
        monkeypatch.setenv("MALLOC_ARENA_MAX", callers)
    parts = _parts(Place(home=tmp_path, redis_url="redis://127.0.0.1:1/0"), 8000)
    given = {part.name: part._environment().get("MALLOC_ARENA_MAX") for part in parts if isinstance(part, Child)}
    assert given == {"worker": None, "service": callers or "2"}


def test_a_taken_port_is_a_conflict(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(Conflict, match="--port"):
            run(Place(home=tmp_path, port=other.getsockname()[1]))


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="host"):
        free_port("not an address")


def test_a_service_that_never_gets_ready_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("it broke here\n")
    with pytest.raises(Unavailable, match="it broke here"):
        wait_until_ready(f"http://127.0.0.1:{free_port()}", look=lambda: None, log=log, timeout_s=0.3)


@ON_LINUX
def test_the_whole_product_starts_keeps_itself_up_and_leaves_nothing_behind(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    command = [sys.executable, "-m", "service.cli", "up", "--home", str(home), "--port"]
    with subprocess.Popen([*command, str(port)], cwd=ROOT, stderr=subprocess.PIPE, text=True) as up:
        assert up.stderr is not None
        try:
            said = up.stderr.readline()
            assert f"http://127.0.0.1:{port}" in said, said
            parts = _children(up.pid)
            assert len(parts) == 3
            again = subprocess.run([*command, "0"], cwd=ROOT, capture_output=True, text=True, check=False)
            assert again.returncode == 4, again.stderr
            worker = next(pid for pid, line in parts.items() if line.endswith("-m worker"))
            os.kill(worker, signal.SIGKILL)
            assert "the worker ended" in up.stderr.readline()
            until(lambda: worker not in _children(up.pid) and len(_children(up.pid)) == 3)
            parts |= _children(up.pid)
        finally:
            up.terminate()
            rest = up.stderr.read()
    assert up.returncode == 0, rest
    assert not [line for pid, line in parts.items() if alive(pid)]
    assert {file.name for file in (home / "logs").iterdir()} == {"worker.log", "service.log"}


def _children(parent: int) -> dict[int, str]:
    """Command lines of a process's living children."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (process / "stat").read_text().rsplit(")", 1)[1].split()
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        if int(after_name[1]) == parent and after_name[0] != "Z":
            found[int(process.name)] = command
    return found
