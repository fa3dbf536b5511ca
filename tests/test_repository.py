"""The repository keeps its word: commands exist, locks are whole, and nothing unpickles."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest
from sources import ROOT, modules

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
PROMISED = {
    "help",
    "install",
    "demo",
    "up",
    "test",
    "lint",
    "types",
    "check",
    "openapi",
    "bench",
    "bench-serving",
    "compose-test",
    "gpu",
    "results",
}


def pins(lock: Path) -> list[str]:
    """The logical lines of a lock file."""
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def test_the_makefile_has_every_promised_target() -> None:
    assert TARGETS >= PROMISED


def test_help_is_the_default_and_lists_every_target() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shown = subprocess.run(["make"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  ([a-z-]+) ", shown, re.MULTILINE)) == TARGETS


def test_make_commands_of_the_documents_exist() -> None:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for document in documents:
        named = re.findall(r"(?:^|`|\$ )make ([a-z][a-z-]*)", document.read_text(), re.MULTILINE)
        assert set(named) <= TARGETS, document.name


def test_ci_runs_what_the_readme_says() -> None:
    script = ROOT / ".ci" / "run"
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]
    assert re.search(r"^(?:\$ )?make test\b", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_locks_pin_every_version_with_hashes_and_name_no_place(lock: Path) -> None:
    assert pins(lock)
    for pin in pins(lock):
        assert re.fullmatch(r"[a-z0-9._-]+==\S+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+ *", pin), pin
    assert "://" not in lock.read_text()


def test_locks_agree_with_one_another() -> None:
    development = {pin.split(" --hash", 1)[0].strip() for pin in pins(ROOT / "requirements" / "dev.txt")}
    for name in ("runtime.txt", "torch.txt"):
        versions = {pin.split(" ;")[0].split(" --hash", 1)[0].strip() for pin in pins(ROOT / "requirements" / name)}
        assert versions <= {line.split(" ;")[0] for line in development}, name


@pytest.mark.parametrize("name", modules())
def test_nothing_unpickles(name: str) -> None:
    forbidden = []
    for node in ast.walk(modules()[name]):
        match node:
            case ast.Import(names=names):
                forbidden += [alias.name for alias in names if alias.name in UNPICKLERS]
            case ast.ImportFrom(module=str(module)) if module in UNPICKLERS:
                forbidden.append(module)
            case ast.Attribute(value=ast.Name(id="torch"), attr="load" | "save" as function):
                forbidden.append(f"torch.{function}")
            case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                forbidden.append("allow_pickle=True")
    assert forbidden == []


UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("name", modules())
def test_a_module_is_about_one_thing(name: str) -> None:
    assert not {"utils", "util", "helpers", "common", "base", "misc"} & set(name.split("."))
