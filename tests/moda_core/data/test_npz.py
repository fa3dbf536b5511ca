import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moda_core.data.npz import check_npz, load_npz
from moda_core.errors import InvalidInput, TooLarge, UnreadableFile
from moda_core.storage.datasets import encode


class Trap:
    """An object whose unpickling would be noticed."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("something was unpickled",)


def arrays(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    content = {
        "x_train": random.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8),
        "y_train": np.array([0, 1, 0, 1, 0, 1]),
        "x_test": random.integers(0, 256, (2, 4, 5, 3), dtype=np.uint8),
        "y_test": np.array([1, 0]),
        "classes": np.array(["cat", "dog"]),
    } | changes
    return {name: array for name, array in content.items() if array is not None}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "set.npz"
    np.savez_compressed(path, **arrays(**changes))
    return path


def test_arrays_become_a_data_set(tmp_path: Path) -> None:
    data = load_npz(written(tmp_path))
    expected = arrays()
    assert data.classes == ("cat", "dog")
    assert data.mirror
    assert np.array_equal(data.train.pixels.numpy(), expected["x_train"].transpose(0, 3, 1, 2))
    assert data.test.labels.tolist() == [1, 0]


def test_grey_images_need_no_channel_axis(tmp_path: Path) -> None:
    grey = {"x_train": np.zeros((6, 4, 5), np.uint8), "x_test": np.zeros((2, 4, 5), np.uint8)}
    assert load_npz(written(tmp_path, **grey)).train.pixels.shape == (6, 1, 4, 5)


@pytest.mark.parametrize("dtype", ["uint8", "int32", ">i8"])
def test_labels_of_any_integer_type_or_in_a_column(tmp_path: Path, dtype: str) -> None:
    data = load_npz(written(tmp_path, y_test=np.array([[1], [0]], dtype)))
    assert data.test.labels.tolist() == [1, 0]


def test_the_order_of_axes_in_memory_does_not_matter(tmp_path: Path) -> None:
    plain = encode(load_npz(written(tmp_path)))
    assert encode(load_npz(written(tmp_path, x_train=np.asfortranarray(arrays()["x_train"])))) == plain


def test_mirror_may_be_said(tmp_path: Path) -> None:
    assert not load_npz(written(tmp_path, mirror=np.array(False))).mirror


@pytest.mark.parametrize("key", ["x_train", "y_train", "x_test", "y_test", "classes"])
def test_a_missing_array_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(UnreadableFile, match=f"no array {key}"):
        load_npz(written(tmp_path, **{key: None}))


@pytest.mark.parametrize("key", ["x_train", "y_train", "classes", "mirror"])
def test_objects_are_never_unpickled(tmp_path: Path, key: str) -> None:
    with pytest.raises(UnreadableFile, match=f"{key} is an array of Python objects"):
        load_npz(written(tmp_path, **{key: np.array([Trap(), "dog"], object)}))


@pytest.mark.parametrize(
    ("key", "array"),
    [
        ("x_train", np.zeros((6, 4, 5, 3), np.float32)),
        ("x_train", np.zeros((6, 3, 4, 5), np.uint8)),
        ("x_train", np.zeros((6, 20), np.uint8)),
        ("y_train", np.zeros(6, np.float32)),
        ("y_train", np.zeros((6, 2), np.int64)),
        ("classes", np.array([1, 2])),
        ("classes", np.array([[b"cat", b"dog"]])),
        ("mirror", np.array([True, False])),
        ("mirror", np.array(1)),
    ],
)
def test_a_wrong_shape_or_dtype_is_named(tmp_path: Path, key: str, array: Any) -> None:
    with pytest.raises(UnreadableFile, match=key) as caught:
        load_npz(written(tmp_path, **{key: array}))
    assert str(array.dtype) in caught.value.problem


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"y_train": np.zeros(5, np.int64)}, "not one class index for each of 6"),
        ({"y_train": np.array([0, 1, 2, 1, 0, 1])}, "names none of the 2 classes"),
        ({"y_train": np.zeros(6, np.int64)}, "classes with no training image"),
        ({"classes": np.array(["cat"])}, "fewer than 2 classes"),
        ({"classes": np.array(["cat", "cat"])}, "named twice"),
        ({"x_test": np.zeros((2, 9, 9, 3), np.uint8)}, "differ in shape"),
        ({"x_train": np.zeros((0, 4, 5, 3), np.uint8), "y_train": np.zeros(0, np.int64)}, "no training image"),
    ],
)
def test_arrays_that_make_no_data_set_are_refused(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        load_npz(written(tmp_path, **changes))


def test_too_many_bytes_are_refused_unread(tmp_path: Path) -> None:
    bomb = {"x_train": np.zeros((6, 2000, 2000, 3), np.uint8), "x_test": np.zeros((2, 2000, 2000, 3), np.uint8)}
    path = written(tmp_path, **bomb)
    assert path.stat().st_size < 200_000
    with pytest.raises(TooLarge, match="stay below 10,000,000"):
        load_npz(path, max_bytes=10_000_000)


def replaced(path: Path, key: str, content: bytes) -> Path:
    """The same archive with one member's bytes exchanged."""
    target = path.with_name("changed.npz")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            copy.writestr(name, content if name == f"{key}.npy" else source.read(name))
    return target


def test_a_header_that_promises_more_than_there_is_allocates_nothing(tmp_path: Path) -> None:
    head = io.BytesIO()
    header = {"shape": (2**40, 2**20), "fortran_order": False, "descr": "|u1"}
    np.lib.format.write_array_header_1_0(head, header)
    with pytest.raises(UnreadableFile, match="not as long as its header says"):
        load_npz(replaced(written(tmp_path), "x_train", head.getvalue() + b"\0" * 100))


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x09\x09", b"\x93NUMPY\x01\x00\x04\x00{[}\n"])
def test_a_member_that_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableFile, match="y_train is not a numpy array"):
        load_npz(replaced(written(tmp_path), "y_train", content))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: str) -> None:
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    else:
        data[100] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match=r"not a readable \.npz file|not as long"):
        load_npz(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"y_test": np.array([{}] * 4, dtype=object)},
        {"classes": np.array(["alone"])},
        {"classes": np.array(["twice", "twice"])},
        {"x_train": None},
    ],
)
def test_what_headers_and_class_names_show_is_refused_without_reading_an_image(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    check_npz(written(tmp_path))
    with pytest.raises(InvalidInput):
        check_npz(written(tmp_path, **changes))


def test_no_pixel_is_read_to_check(tmp_path: Path) -> None:
    path = written(tmp_path)
    with zipfile.ZipFile(path) as archive:
        header = archive.read("x_train.npy")[:128]
    headless = replaced(path, "x_train", header)
    check_npz(headless)
    with pytest.raises(UnreadableFile):
        load_npz(headless)
