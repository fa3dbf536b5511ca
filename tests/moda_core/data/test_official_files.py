"""CIFAR, SVHN and MNIST from small made files in the official formats."""

import gzip
import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from moda_core.data.cifar import CIFAR10, CIFAR100, Format, load_cifar
from moda_core.data.mnist import FASHION_MNIST, MNIST, load_mnist
from moda_core.data.svhn import load_svhn
from moda_core.errors import InvalidInput, TooLarge, UnreadableFile
from moda_core.storage.datasets import encode

RANDOM = np.random.default_rng(0)


def cifar_files(form: Format, classes: int, per_file: int) -> dict[str, bytes]:
    """Records whose label counts up from 0 in every file; class names are ``class0`` and so on."""
    names = "".join(f"class{number}\n" for number in range(classes)) + "\n"
    files = {form.class_names: names.encode()}
    for name in (*form.train, *form.test):
        labels = np.arange(per_file, dtype=np.uint8) % classes
        pixels = RANDOM.integers(0, 256, (per_file, 3072), dtype=np.uint8)
        coarse = np.full((per_file, form.label_bytes - 1), 19, np.uint8)
        files[name] = np.concatenate([coarse, labels[:, None], pixels], axis=1).tobytes()
    return files


def archive_of(files: Mapping[str, bytes], path: Path, folder: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def folder_of(files: Mapping[str, bytes], path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize(("form", "classes"), [(CIFAR10, 10), (CIFAR100, 100)])
def test_cifar_reads_the_same_from_archive_folder_and_parent(tmp_path: Path, form: Format, classes: int) -> None:
    files = cifar_files(form, classes, per_file=classes)
    (tmp_path / "a").mkdir()
    archive = archive_of(files, tmp_path / "a" / form.archive.name, form.folder)
    folder = folder_of(files, tmp_path / "b" / form.folder)
    found = [load_cifar(path, form) for path in (archive, archive.parent, folder, folder.parent)]
    assert len({encode(data) for data in found}) == 1
    assert found[0].classes == tuple(f"class{number}" for number in range(classes))
    assert len(found[0].train) == len(form.train) * classes
    assert found[0].mirror


def test_a_cifar_record_is_label_red_green_blue_row_by_row(tmp_path: Path) -> None:
    files = cifar_files(CIFAR100, 2, per_file=2)
    data = load_cifar(folder_of(files, tmp_path), CIFAR100)
    record = files["test.bin"][3074:]
    assert data.test.labels.tolist() == [0, 1]
    for channel, row, column in [(0, 0, 0), (0, 0, 31), (1, 5, 7), (2, 31, 31)]:
        assert data.test.pixels[1, channel, row, column] == record[2 + 1024 * channel + 32 * row + column]


@pytest.mark.parametrize("extra", [1, 3072, -1])
def test_cifar_files_of_no_whole_records_are_refused(tmp_path: Path, extra: int) -> None:
    files = cifar_files(CIFAR10, 10, per_file=10)
    files["data_batch_3.bin"] = (files["data_batch_3.bin"] + b"\0" * 3072)[: 30730 + extra]
    with pytest.raises(UnreadableFile, match=r"no whole records of 3073 \(got .data_batch_3\.bin"):
        load_cifar(folder_of(files, tmp_path), CIFAR10)


def test_an_empty_cifar_file_is_refused(tmp_path: Path) -> None:
    files = cifar_files(CIFAR10, 10, per_file=10) | {"test_batch.bin": b""}
    with pytest.raises(UnreadableFile, match=r"test_batch\.bin"):
        load_cifar(folder_of(files, tmp_path), CIFAR10)


@pytest.mark.parametrize("packed", [True, False])
def test_a_missing_cifar_file_is_named(tmp_path: Path, packed: bool) -> None:
    files = cifar_files(CIFAR10, 10, per_file=10)
    del files["data_batch_2.bin"]
    path = archive_of(files, tmp_path / "c.tar.gz", "x") if packed else folder_of(files, tmp_path)
    with pytest.raises(UnreadableFile, match=r"data_batch_2\.bin is missing"):
        load_cifar(path, CIFAR10)


def test_the_python_archive_of_cifar_is_not_taken(tmp_path: Path) -> None:
    folder_of({"data_batch_1": b"\x80\x04.", "batches.meta": b"\x80\x04."}, tmp_path / "cifar-10-batches-py")
    with pytest.raises(UnreadableFile, match="binary version"):
        load_cifar(tmp_path, CIFAR10)


def test_a_cifar_label_without_a_name_is_refused(tmp_path: Path) -> None:
    files = cifar_files(CIFAR10, 10, per_file=10) | {"batches.meta.txt": b"cat\ndog\n"}
    with pytest.raises(InvalidInput, match="names none of the 2 classes"):
        load_cifar(folder_of(files, tmp_path), CIFAR10)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_broken_cifar_archive_is_refused(tmp_path: Path, damage: str) -> None:
    path = archive_of(cifar_files(CIFAR10, 10, per_file=10), tmp_path / "c.tar.gz", "x")
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "text": b"no archive at all", "empty": b""}[damage])
    with pytest.raises(UnreadableFile, match="not a readable archive"):
        load_cifar(path, CIFAR10)


def test_a_cifar_archive_member_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    files = cifar_files(CIFAR10, 10, per_file=10)
    content = files.pop("test_batch.bin")
    path = tmp_path / "c.tar.gz"
    folder_of({"secret": content}, tmp_path)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        archive.addfile(link)
    with pytest.raises(UnreadableFile, match=r"test_batch\.bin is missing"):
        load_cifar(path, CIFAR10)


def svhn_part(path: Path, labels: list[int], **changes: np.ndarray) -> np.ndarray:
    pixels = RANDOM.integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
    savemat(path, {"X": pixels, "y": np.array(labels, np.uint8)[:, None]} | changes)
    return pixels


def test_svhn_label_ten_is_the_digit_zero(tmp_path: Path) -> None:
    labels = [*range(1, 11)]
    pixels = svhn_part(tmp_path / "train_32x32.mat", labels)
    svhn_part(tmp_path / "test_32x32.mat", labels[::-1])
    data = load_svhn(tmp_path)
    assert data.classes == tuple("0123456789")
    assert data.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert data.test.labels.tolist() == [0, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert not data.mirror
    assert data.train.pixels[4, 2, 7, 30] == pixels[7, 30, 2, 4]


def test_a_missing_svhn_file_is_named(tmp_path: Path) -> None:
    svhn_part(tmp_path / "train_32x32.mat", [*range(1, 11)])
    with pytest.raises(UnreadableFile, match=r"test_32x32\.mat"):
        load_svhn(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"X": np.zeros((32, 32, 10), np.uint8)}, {"X": np.zeros((32, 32, 3, 10))}, {"y": np.array(["a"] * 10)}],
    ids=["rank", "dtype", "labels"],
)
def test_svhn_arrays_of_another_kind_are_refused(tmp_path: Path, changes: dict[str, np.ndarray]) -> None:
    svhn_part(tmp_path / "train_32x32.mat", [*range(1, 11)], **changes)
    with pytest.raises(UnreadableFile, match=r"train_32x32\.mat"):
        load_svhn(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "keys"])
def test_a_broken_svhn_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "train_32x32.mat"
    svhn_part(path, [*range(1, 11)])
    data = path.read_bytes()
    if damage == "keys":
        savemat(path, {"other": np.zeros(3)})
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "text": b"no matrix at all " * 20, "empty": b""}[damage])
    with pytest.raises(UnreadableFile, match=r"not a readable \.mat file"):
        load_svhn(tmp_path)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def mnist_files() -> dict[str, bytes]:
    files = {}
    for part, count in (("train", 20), ("t10k", 10)):
        files[f"{part}-images-idx3-ubyte"] = idx(RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.arange(count, dtype=np.uint8) % 10)
    return files


@pytest.mark.parametrize("spelling", ["plain", "gz", "dotted"])
def test_mnist_reads_packed_and_unpacked(tmp_path: Path, spelling: str) -> None:
    files = mnist_files()
    written = {
        "plain": files,
        "gz": {f"{name}.gz": gzip.compress(data) for name, data in files.items()},
        "dotted": {name.replace("-idx", ".idx"): data for name, data in files.items()},
    }[spelling]
    data = load_mnist(folder_of(written, tmp_path), MNIST)
    assert data.classes == tuple("0123456789")
    assert not data.mirror
    assert data.train.pixels.numpy().tobytes() == files["train-images-idx3-ubyte"][16:]
    assert data.train.pixels.shape == (20, 1, 28, 28)
    assert data.test.labels.tolist() == [*range(10)]


def test_fashion_mnist_has_names_and_may_be_mirrored(tmp_path: Path) -> None:
    data = load_mnist(folder_of(mnist_files(), tmp_path), FASHION_MNIST)
    assert data.classes[0] == "T-shirt/top"
    assert data.classes[9] == "Ankle boot"
    assert data.mirror


def test_a_missing_mnist_file_is_named(tmp_path: Path) -> None:
    files = mnist_files()
    del files["t10k-labels-idx1-ubyte"]
    with pytest.raises(UnreadableFile, match="no file t10k-labels-idx1-ubyte"):
        load_mnist(folder_of(files, tmp_path), MNIST)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        idx(np.zeros((20, 28), np.uint8)),
        idx(np.zeros((20, 28, 28), np.uint8), kind=13),
        idx(np.zeros((20, 28, 28), np.uint8))[:-1],
        idx(np.zeros((20, 28, 28), np.uint8)) + b"\0",
    ],
    ids=["empty", "text", "rank", "type", "short", "long"],
)
def test_a_broken_idx_file_is_refused(tmp_path: Path, data: bytes) -> None:
    files = mnist_files() | {"train-images-idx3-ubyte": data}
    with pytest.raises(UnreadableFile, match="train-images-idx3-ubyte"):
        load_mnist(folder_of(files, tmp_path), MNIST)


@pytest.mark.parametrize("data", [b"not gzip", gzip.compress(mnist_files()["train-images-idx3-ubyte"])[:-500]])
def test_a_broken_gzip_file_is_refused(tmp_path: Path, data: bytes) -> None:
    files = mnist_files() | {"train-images-idx3-ubyte.gz": data}
    with pytest.raises(UnreadableFile, match="cannot be unpacked"):
        load_mnist(folder_of(files, tmp_path), MNIST)


def test_an_idx_file_that_declares_too_much_is_refused_unpacked(tmp_path: Path) -> None:
    bomb = struct.pack(">HBB3I", 0, 8, 3, 2**31, 28, 28)
    files = mnist_files() | {"train-images-idx3-ubyte": bomb}
    with pytest.raises(TooLarge, match="it declares"):
        load_mnist(folder_of(files, tmp_path), MNIST)


def test_images_and_labels_of_different_number_are_refused(tmp_path: Path) -> None:
    files = mnist_files() | {"train-labels-idx1-ubyte": idx(np.zeros(19, np.uint8))}
    with pytest.raises(InvalidInput, match="not one class index for each of 20"):
        load_mnist(folder_of(files, tmp_path), MNIST)
