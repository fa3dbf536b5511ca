"""The project's modules as syntax trees, read and never run."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("moda_core", "worker", "service")
"""What is installed."""
PROGRAMS = ("experiments",)
"""What is run from the repository, and held to the same rules."""


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every module of the project but its benchmarks by its dotted name; a package goes by the package's name."""
    paths = [path for package in (*PACKAGES, *PROGRAMS) for path in sorted((ROOT / package).rglob("*.py"))]
    return {_dotted(path): ast.parse(path.read_text(), str(path)) for path in paths}


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(name: str) -> Iterator[str]:
    """What a module imports anywhere, lazily and for types too: ``from a import b`` is ``a.b`` where that is a module."""
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} line {node.lineno}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else str(node.module)
