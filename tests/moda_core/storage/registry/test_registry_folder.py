"""What only a local folder can get wrong: other processes, a full disk, power that fails."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from moda_core import files
from moda_core.errors import StorageFailure
from moda_core.modularity.models import TrainedModel
from moda_core.storage.artifacts import encode
from moda_core.storage.manifests import BlobRef, Manifest
from moda_core.storage.registry import Objects, Registry


def all_files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def manifest_of(model: TrainedModel, weights: BlobRef) -> Manifest:
    return Manifest(
        kind="trained",
        architecture=model.architecture,
        labels=model.labels,
        input=model.input,
        blobs={"weights": weights},
    )


def test_a_version_appears_only_after_blob_and_manifest_are_on_the_disk(
    tmp_path: Path, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file and its folder reach the disk before the next file is begun."""
    steps: list[str] = []
    fsync, link, replace = os.fsync, os.link, Path.replace

    def traced_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append("sync file" if path.suffix == ".tmp" else f"sync {path.name}")
        fsync(descriptor)

    def traced_link(source: Path, target: Path) -> None:
        link(source, target)
        steps.append(f"appear in {Path(target).parent.name}")

    def traced_replace(source: Path, target: Path) -> Path:
        steps.append(f"appear in {target.parent.name}")
        return replace(source, target)

    registry = Registry(tmp_path)
    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "link", traced_link)
    monkeypatch.setattr(Path, "replace", traced_replace)
    blob = registry.put_blob(encode(trained))
    registry.publish_version("digits", registry.put_manifest(manifest_of(trained, blob)))

    def written(folder: str) -> list[str]:
        return ["sync file", f"appear in {folder}", f"sync {folder}"]

    kept = [step for step in steps if step != f"sync {tmp_path.name}"]  # new folders reach it too
    assert [step for step in kept if step not in {"sync blobs", "sync models", "sync digits"}] == [
        *written(blob.digest[:2]),
        *written("manifests"),
        *written("versions"),
    ]
    assert {"sync blobs", "sync models", "sync digits"} <= set(kept)


def test_a_disk_that_is_full_while_publishing_leaves_nothing(
    tmp_path: Path, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path)
    data = encode(trained)
    before = all_files(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        with pytest.raises(StorageFailure, match="No space left"):
            registry.put_blob(data)
    assert all_files(tmp_path) == before
    blob = registry.put_blob(data)
    assert registry.publish_version("digits", registry.put_manifest(manifest_of(trained, blob))) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs privileges")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_really_is_full_leaves_nothing_and_the_rest_stays_readable(
    small_disk: Path, trained: TrainedModel
) -> None:
    registry = Registry(small_disk)
    blob = registry.put_blob(b"small enough")
    digest = registry.put_manifest(manifest_of(trained, blob))
    registry.publish_version("digits", digest)
    before = all_files(small_disk)
    with pytest.raises(StorageFailure, match="No space left"):
        registry.put_blob(bytes(512 * 1024))
    assert all_files(small_disk) == before
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    with pytest.raises(StorageFailure, match="No space left"):
        registry.publish_version("digits", digest)
    with pytest.raises(StorageFailure):
        registry.check()
    assert all_files(small_disk) == {*before, "filler"}
    fresh = Registry(small_disk)
    assert fresh.resolve("digits").version == 1
    assert fresh.blob_path(blob).read_bytes() == b"small enough"
    filler.unlink()
    assert fresh.publish_version("digits", digest) == 2


def test_a_blob_is_hashed_once_per_process_and_again_when_its_file_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moda_core.storage.registry import blobs

    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return files.file_digest(path)

    monkeypatch.setattr(blobs, "file_digest", counted)
    blob = Registry(tmp_path).put_blob(b"some bytes")
    registry = Registry(tmp_path)
    path = registry.blob_path(blob)
    assert {registry.blob_path(blob) for _ in range(5)} == {path}
    assert hashed == [path]
    os.utime(path, ns=(1, 1))
    registry.blob_path(blob)
    assert hashed == [path, path]


def test_what_killed_processes_left_is_swept_after_a_day(tmp_path: Path) -> None:
    Registry(tmp_path).put_blob(b"x")
    old, young = (tmp_path / ".unfinished" / name for name in (".old.tmp", ".young.tmp"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    Registry(tmp_path)
    assert not old.exists()
    assert young.exists()


def test_a_folder_that_cannot_be_made_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailure):
        Registry(tmp_path / "file" / "registry")


def test_a_file_url_names_a_folder(tmp_path: Path) -> None:
    objects = Objects(f"file://{tmp_path}/registry")
    assert objects.root == (tmp_path / "registry").resolve()
    Registry(objects).check()


def test_only_the_registry_loads_obstore() -> None:
    program = (
        "import sys\nimport moda_core.storage, moda_core.storage.artifacts, moda_core.storage.datasets\n"
        "import moda_core.storage.manifests, moda_core.storage.references\n"
        "sys.exit(any(name.split('.')[0] == 'obstore' for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": str(Path.cwd())})
