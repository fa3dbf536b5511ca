"""Who may import whom, read from the sources, and what stays light, seen in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions

import pytest
from sources import PACKAGES, PROGRAMS, ROOT, imports, modules

CHAPTERS = (
    "shown",
    "errors",
    "specs",
    "files",
    "architectures",
    "data",
    "structure",
    "training",
    "modularity",
    "inference",
    "storage",
    "baselines",
)
MAY_IMPORT = {
    "moda_core": ("moda_core",),
    "worker": ("worker", "moda_core"),
    # `worker.embedded` is the Redis that `moda up` starts, and loads as lightly as the others.
    "service": ("service", "worker.contract", "worker.jobs", "worker.reaper", "worker.embedded", "moda_core"),
}
FOREIGN_TO_THE_CORE = ("celery", "redis", "fastapi", "starlette", "httpx", "typer", "rich", "pydantic")
ONLY_IN = {
    "obstore": ["moda_core.storage.registry"],
    "onnx": ["moda_core.storage.export", "moda_core.inference.lowering"],
    "onnxruntime": ["moda_core.storage.export", "moda_core.inference.sessions"],
}
BROUGHT_BY = {
    "kombu": "celery",
    "pydantic_core": "pydantic",
    "starlette": "fastapi",
}  # parts of the interface of a declared library
TORCH_FREE = (
    "moda_core.specs",
    "moda_core.errors",
    "worker.contract",
    "worker.jobs",
    "worker.reaper",
    "worker.embedded",
)


def within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_those_below_them(package: str) -> None:
    ours = (*PACKAGES, *PROGRAMS, "benchmarks", "tests")
    forbidden = [
        f"{name} imports {imported}"
        for name in modules()
        if within(name, [package])
        for imported in imports(name)
        if within(imported, ours) and not within(imported, MAY_IMPORT[package])
    ]
    assert forbidden == []


def test_chapters_of_the_core_import_only_earlier_ones() -> None:
    def chapter(name: str) -> int:
        return CHAPTERS.index(name.split(".")[1])

    core = [name for name in modules() if name.startswith("moda_core.")]
    forbidden = [
        f"{name} imports {imported}"
        for name in core
        for imported in imports(name)
        if imported.startswith("moda_core.") and chapter(imported) > chapter(name)
    ]
    assert forbidden == []


def test_the_core_knows_no_server_no_queue_and_no_validation_library() -> None:
    core = [name for name in modules() if within(name, ["moda_core"])]
    foreign = [f"{name}: {one}" for name in core for one in imports(name) if within(one, FOREIGN_TO_THE_CORE)]
    assert foreign == []


@pytest.mark.parametrize(("library", "homes"), ONLY_IN.items())
def test_a_library_with_few_homes_is_imported_there_alone(library: str, homes: list[str]) -> None:
    strays = [
        name for name in modules() if not within(name, homes) and any(within(i, [library]) for i in imports(name))
    ]
    assert strays == []


def test_every_imported_library_is_declared() -> None:
    declared = {
        name_of(line) for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    distributions = packages_distributions()
    roots = {imported.split(".")[0] for name in modules() for imported in imports(name)}
    libraries = {
        BROUGHT_BY.get(root, root)
        for root in roots - set(sys.stdlib_module_names) - {*PACKAGES, *PROGRAMS, "benchmarks"}
    }
    missing = [one for one in sorted(libraries) if not declared & {name_of(d) for d in distributions.get(one, [])}]
    assert missing == []


def name_of(requirement: str) -> str:
    """``Pydantic_Settings>=2`` is ``pydantic-settings``."""
    end = next((i for i, letter in enumerate(requirement) if not (letter.isalnum() or letter in "-_.")), None)
    return requirement[:end].lower().replace("_", "-").replace(".", "-")


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after running `code`."""
    show = "import sys; print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    script = f"import atexit\n@atexit.register\ndef _():\n    {show}\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rsplit("LOADED", 1)[1].split())


@pytest.mark.parametrize("name", TORCH_FREE)
def test_what_submits_jobs_loads_without_torch(name: str) -> None:
    assert "torch" not in loaded_after(f"import {name}")


def test_the_help_of_the_command_line_is_light() -> None:
    loaded = loaded_after("import sys; sys.argv = ['moda', '--help']\nfrom service.cli import main\nmain()")
    assert not loaded & {"torch", "numpy", "httpx", "pydantic", "celery", "redis"}
