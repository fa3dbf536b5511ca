"""What is stored of the place where a program runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.records.conditions import COMMIT, commit


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository of one commit."""
    if shutil.which("git") is None:
        pytest.skip("no git here")
    monkeypatch.delenv(COMMIT, raising=False)
    for name in ("experiments/rq1.py", "moda_core/deep/specs.py", "benchmarks/steps.py", "docs/results.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    named = ["-c", "user.name=any", "-c", "user.email=any@example.org"]
    for command in (["init", "-q"], ["add", "."], [*named, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    commit.cache_clear()
    yield tmp_path
    commit.cache_clear()


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("experiments/results/rq1-digits.jsonl", False),
        ("docs/results.md", False),
        ("experiments/runs/model.safetensors", False),
        ("experiments/rq1.py", True),
        ("experiments/new.py", True),
        ("moda_core/deep/specs.py", True),
        ("benchmarks/new/steps.py", True),
    ],
)
def test_a_commit_is_marked_where_sources_differ_from_it(copy: Path, name: str, differs: bool) -> None:
    head = commit(copy)
    assert len(head) >= 7
    assert not head.endswith("+")
    commit.cache_clear()
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_text("2")
    assert commit(copy) == head + ("+" if differs else "")
