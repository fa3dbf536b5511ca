import gzip
import hashlib
import os
import resource
import socket
import struct
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import datasets

from moda_core.data import sources
from moda_core.data.digits import load_digits
from moda_core.data.downloads import Download, fetch
from moda_core.errors import Corrupt, InvalidInput, StorageFailure, Unavailable, UnreadableFile, UnsupportedType
from moda_core.storage.datasets import encode


def test_digits_are_scikit_learns_in_two_parts() -> None:
    data = sources.load("digits")
    assert data.classes == tuple("0123456789")
    assert not data.mirror
    assert len(data.train) + len(data.test) == 1797
    assert data.train.pixels.shape[1:] == (1, 8, 8)
    values = datasets.load_digits().data
    rows = torch.cat([data.train.pixels, data.test.pixels]).flatten(1).double().mul(16 / 255).round()
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, values.tolist()))
    shares = data.test.per_class(10) / (data.train.per_class(10) + data.test.per_class(10))
    assert shares.min() > 0.19
    assert shares.max() < 0.21


def test_the_split_of_digits_follows_the_seed() -> None:
    assert encode(load_digits(1)) == encode(load_digits(1)) != encode(load_digits(2))


def class_folders(root: Path) -> Path:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (8, 8), number).save(root / name / f"{number}.png")
    return root


def test_a_folder_and_a_zip_of_it_under_any_name_are_one_data_set(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set")
    with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder))
    assert encode(sources.load(str(folder))) == encode(sources.load(str(tmp_path / "upload")))


def test_options_reach_the_folder(tmp_path: Path) -> None:
    folder = str(class_folders(tmp_path / "set"))
    assert sources.load(folder, image_size=16).train.pixels.shape[2:] == (16, 16)
    assert len({encode(sources.load(folder, seed=seed)) for seed in range(8)}) > 1


def test_an_npz_is_told_by_what_it_holds(tmp_path: Path) -> None:
    content = {"x": np.zeros((2, 3, 3), np.uint8), "y": np.array([0, 1])}
    arrays = {f"{name}_{part}": array for name, array in content.items() for part in ("train", "test")}
    np.savez(tmp_path / "set.npz", classes=np.array(["a", "b"]), **arrays)
    (tmp_path / "set.npz").rename(tmp_path / "upload")
    assert sources.load(str(tmp_path / "upload")).classes == ("a", "b")


@pytest.mark.parametrize("source", ["nowhere", "imagenet:/data", "", "digit", "\0"])
def test_an_unknown_source_is_answered_with_what_there_is(source: str) -> None:
    with pytest.raises(UnreadableFile, match="digits, cifar10:PATH"):
        sources.load(source)


@pytest.mark.parametrize("scheme", sources.schemes())
def test_official_files_that_are_not_there_are_not_fetched_unasked(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"download|get it from"):
        sources.load(f"{scheme}:{tmp_path / 'missing'}")
    assert not list(tmp_path.iterdir())


def test_a_scheme_needs_a_path() -> None:
    with pytest.raises(InvalidInput, match="write cifar10:PATH"):
        sources.load("cifar10:")


def test_a_text_file_is_not_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "notes.npz").write_text("hello")
    with pytest.raises(UnsupportedType, match=r"neither an \.npz file nor a zip archive"):
        sources.load(str(tmp_path / "notes.npz"))


def test_an_empty_file_is_not_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "set.zip").touch()
    with pytest.raises(UnreadableFile, match="the file is empty"):
        sources.load(str(tmp_path / "set.zip"))


@pytest.mark.parametrize("image_size", [0, 7, 5000])
def test_an_image_size_out_of_range_is_refused(image_size: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="image_size"):
        sources.load(str(class_folders(tmp_path / "set")), image_size=image_size)


def published(folder: Path, name: str, data: bytes) -> Download:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return Download(name, (folder / name).as_uri(), hashlib.sha256(data).hexdigest())


def test_a_download_brings_what_is_missing_and_leaves_what_is_there(tmp_path: Path) -> None:
    downloads = [published(tmp_path / "site", name, name.encode()) for name in ("a.bin", "b.bin")]
    target = tmp_path / "new" / "data"
    target.mkdir(parents=True)
    (target / "b.bin").write_bytes(b"mine")
    fetch(downloads, target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"a.bin": b"a.bin", "b.bin": b"mine"}


def test_a_download_with_another_digest_leaves_nothing(tmp_path: Path) -> None:
    download = Download(
        "a.bin", published(tmp_path / "site", "a.bin", b"forged").url, hashlib.sha256(b"true").hexdigest()
    )
    with pytest.raises(Corrupt, match="digest"):
        fetch([download], tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_an_address_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    gone = Download("a.bin", (tmp_path / "gone").as_uri(), "0" * 64)
    with pytest.raises(Unavailable, match="could not be fetched"):
        fetch([gone], tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_a_folder_that_cannot_be_made_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailure, match="folder's permissions"):
        fetch([], tmp_path / "file" / "data")


def test_a_disk_that_is_full_while_fetching_is_not_the_addresss_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    download = published(tmp_path / "site", "a.bin", b"data")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageFailure, match="No space left"):
            fetch([download], tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, limits[1]))  # a write beyond two bytes fails, as on a full disk
    try:
        with pytest.raises(StorageFailure, match=r"a\.bin could not be stored"):
            fetch([download], tmp_path / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "data").iterdir())


def test_an_answer_that_is_not_http_is_unavailable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"nonsense\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.bin"
        with pytest.raises(Unavailable, match="could not be fetched"):
            fetch([Download("a.bin", url, "0" * 64)], tmp_path / "data")
        thread.join()


def test_mnist_is_fetched_when_asked_and_then_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def idx(array: np.ndarray) -> bytes:
        return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())

    contents = {"images-idx3": np.zeros((10, 4, 4), np.uint8), "labels-idx1": np.arange(10, dtype=np.uint8)}
    downloads = tuple(
        published(tmp_path / "site", f"{part}-{kind}-ubyte.gz", idx(array))
        for part in ("train", "t10k")
        for kind, array in contents.items()
    )
    official = sources._OFFICIAL["mnist"]
    monkeypatch.setitem(sources._OFFICIAL, "mnist", type(official)(official.read, downloads))
    source = f"mnist:{tmp_path / 'data'}"
    assert encode(sources.load(source, download=True)) == encode(sources.load(source))


def test_what_is_checked_is_what_would_be_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "shots" / folder).mkdir(parents=True)
    (tmp_path / "shots" / "a" / "1.png").write_bytes(b"whatever")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_bytes(b"text")
    refused = {"shots": "classes with no image", "empty.npz": "empty", "text.npz": "neither", "none": "no such file"}
    for name, problem in refused.items():
        for look in (sources.check, lambda path: sources.load(str(path))):
            with pytest.raises(InvalidInput, match=problem):
                look(tmp_path / name)
    (tmp_path / "shots" / "b" / "1.png").write_bytes(b"no image, which only reading it shows")
    sources.check(tmp_path / "shots")
