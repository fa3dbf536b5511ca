import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moda_core.errors import StorageFailure
from moda_core.files import create_atomically, file_digest, parse_json, write_atomically
from moda_core.specs import sha256

RACER = """
import sys, time
from pathlib import Path
from moda_core.files import create_atomically
folder, start, letter = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3].encode()
time.sleep(max(0, start - time.time()))
print(*(int(create_atomically(folder / f"{number:06d}.json", letter * 4096)) for number in range(100)))
"""


def test_of_several_processes_exactly_one_creates_each_file_and_writes_it_whole(tmp_path: Path) -> None:
    start = str(time.time() + 1)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), start, letter],
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(Path.cwd())},
        )
        for letter in "abc"
    ]
    won = [[bool(int(flag)) for flag in process.communicate(timeout=60)[0].split()] for process in processes]
    for number in range(100):
        (winner,) = [letter for letter, flags in zip("abc", won, strict=True) if flags[number]]
        assert (tmp_path / f"{number:06d}.json").read_bytes() == winner.encode() * 4096
    assert len(list(tmp_path.iterdir())) == 100


def test_a_file_is_replaced_or_created_in_folders_that_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.json"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert not create_atomically(path, b"three")
    assert path.read_bytes() == b"two"
    assert create_atomically(path.with_name("d.json"), b"three", scratch=tmp_path / "scratch")
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["c.json", "d.json"]
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("write", "owner", "step"),
    [
        (write_atomically, os, "fsync"),
        (write_atomically, Path, "replace"),
        (create_atomically, os, "fsync"),
        (create_atomically, os, "link"),
    ],
)
def test_a_write_that_fails_at_any_step_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], object], owner: object, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    path = tmp_path / "file"
    if write is write_atomically:
        path.write_bytes(b"before")
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    monkeypatch.setattr(owner, step, full)
    with pytest.raises(StorageFailure, match="No space left"):
        write(path, b"after")
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_a_folder_in_the_way_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageFailure):
        write_atomically(tmp_path / "folder", b"")


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"some bytes")
    assert file_digest(tmp_path / "file") == sha256(b"some bytes")


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "NaN", "[Infinity]", "", "{", "[" * 100_000])
def test_json_in_the_strict_sense_only(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
    assert parse_json(b'{"a": [1, null]}') == {"a": [1, None]}
