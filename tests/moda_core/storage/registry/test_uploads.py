"""Files that wait on the store for their import."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from moda_core.errors import Corrupt, InvalidInput, NotFound
from moda_core.specs import sha256
from moda_core.storage.registry import Objects, Registry

CONTENT = bytes(range(256)) * 10_000


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    path = tmp_path / "sent.npz"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("place", ["folder", "file url", "elsewhere"])
def test_an_upload_is_had_by_its_digest_on_every_kind_of_store(tmp_path: Path, sent: Path, place: str) -> None:
    folder = tmp_path / "registry"
    location = {"folder": str(folder), "file url": f"file://{folder}", "elsewhere": "memory://"}[place]
    objects = Objects(location)
    digest = Registry(objects).put_upload(sent)
    assert digest == sha256(CONTENT)
    assert Registry(objects).put_upload(sent) == digest
    sent.unlink()
    with Registry(objects).upload(digest) as path:
        assert path.read_bytes() == CONTENT
    assert path.exists() == (place != "elsewhere"), "a copy goes, the store's own file stays"


def test_an_upload_that_is_none_is_said(tmp_path: Path) -> None:
    for objects in (Objects(tmp_path), Objects("memory://")):
        with pytest.raises(NotFound, match="send the file again"), Registry(objects).upload("0" * 64):
            pass
        with pytest.raises(InvalidInput), Registry(objects).upload("../manifests/x"):
            pass


def test_a_damaged_upload_is_refused_and_mended_by_sending_it_again(tmp_path: Path, sent: Path) -> None:
    registry = Registry(tmp_path / "registry")
    digest = registry.put_upload(sent)
    (tmp_path / "registry" / "uploads" / digest).write_bytes(b"half")
    with pytest.raises(Corrupt), registry.upload(digest):
        pass
    registry.put_upload(sent)
    with registry.upload(digest) as path:
        assert path.read_bytes() == CONTENT


def test_uploads_go_after_a_week_and_sending_one_again_begins_a_new_one(tmp_path: Path, sent: Path) -> None:
    registry, other = Registry(tmp_path / "registry"), tmp_path / "other.npz"
    other.write_bytes(b"another")
    old, renewed = registry.put_upload(sent), registry.put_upload(other)
    for digest in (old, renewed):
        os.utime(tmp_path / "registry" / "uploads" / digest, (time.time() - 8 * 86400,) * 2)
    assert registry.put_upload(other) == renewed
    assert [path.name for path in (tmp_path / "registry" / "uploads").iterdir()] == [renewed]
