import io
import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from moda_core.data.dataset import Dataset
from moda_core.data.folders import load_folder, load_zip
from moda_core.errors import InvalidInput, TooLarge, UnreadableFile, UnreadableImage
from moda_core.storage.datasets import encode


def png(brightness: int = 0, size: tuple[int, int] = (10, 8), mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, brightness if mode == "L" else (brightness,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def both_parts(prefix: str = "") -> dict[str, bytes]:
    """Two classes, three training images and one test image each; brightness tells image from image."""
    return {
        f"{prefix}{part}/{name}/{number}.png": png(100 * label + 10 * number + (part == "test"))
        for part, count in (("train", 3), ("test", 1))
        for label, name in enumerate(("cat", "dog"))
        for number in range(count)
    }


def no_parts() -> dict[str, bytes]:
    return {f"{name}/{number}.png": png(number) for name in ("cat", "dog") for number in range(10)}


def folder_of(files: Mapping[str, bytes], root: Path) -> Path:
    for name, data in files.items():
        path = root / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root / "folder"


def zip_of(files: Mapping[str | zipfile.ZipInfo, bytes], root: Path) -> Path:
    with zipfile.ZipFile(root / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return root / "set.zip"


@pytest.fixture(params=["folder", "zip"])
def load(request: pytest.FixtureRequest, tmp_path: Path):
    """Loads the same files from a folder and from a zip."""

    def loaded(files: Mapping[str, bytes], **options: int) -> Dataset:
        if request.param == "folder":
            return load_folder(folder_of(files, tmp_path), **options)
        return load_zip(zip_of(files, tmp_path), **options)

    return loaded


def brightness(data: Dataset) -> tuple[list[int], list[int]]:
    return data.train.pixels[:, 0, 0, 0].tolist(), data.test.pixels[:, 0, 0, 0].tolist()


def test_class_folders_become_classes_in_order_of_name(load) -> None:
    data = load(both_parts())
    assert data.classes == ("cat", "dog")
    assert data.mirror
    assert brightness(data) == ([0, 10, 20, 100, 110, 120], [1, 101])
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.pixels.shape == (6, 1, 8, 10)


@pytest.mark.parametrize("prefix", ["", "train/", "animals/", "animals/train/"])
def test_without_test_a_seeded_stratified_fifth_is_taken(load, prefix: str) -> None:
    files = {prefix + name: data for name, data in no_parts().items()}
    data = load(files, seed=4)
    assert [part.labels.tolist().count(1) for part in (data.train, data.test)] == [8, 2]
    assert sorted(brightness(data)[0] + brightness(data)[1]) == sorted([*range(10)] * 2)
    assert encode(load(files, seed=4)) == encode(data) != encode(load(files, seed=5))


def test_one_folder_around_everything_is_looked_through(load) -> None:
    assert encode(load(both_parts("animals/"))) == encode(load(both_parts()))


def test_hidden_and_other_files_are_passed_over(load) -> None:
    extra = {
        "train/cat/.DS_Store": b"x",
        "__MACOSX/train/cat/._0.png": b"x",
        "README.txt": b"x",
        "train/notes.md": b"x",
    }
    assert encode(load(both_parts() | extra)) == encode(load(both_parts()))


def test_a_class_named_train_is_a_class(load) -> None:
    files = {f"{name}/{number}.png": png() for name in ("train", "car") for number in range(3)}
    assert load(files).classes == ("car", "train")


def test_mixed_sizes_are_resized(load) -> None:
    files = both_parts() | {"train/cat/9.png": png(7, (20, 20))}
    assert load(files).train.pixels.shape == (7, 1, 32, 32)
    assert load(files, image_size=12).train.pixels.shape == (7, 1, 12, 12)


def test_an_image_size_that_is_given_holds_for_all(load) -> None:
    assert load(both_parts(), image_size=9).train.pixels.shape == (6, 1, 9, 9)


def test_one_colour_image_makes_all_colour(load) -> None:
    data = load(both_parts() | {"test/cat/9.png": png(7, mode="RGB")})
    assert data.train.pixels.shape == (6, 3, 8, 10)
    assert (data.train.pixels[:, 0] == data.train.pixels[:, 2]).all()


@pytest.mark.parametrize(("kept_bytes", "read_again"), [(0, 8), (150, 6), (2**20, 0)])
def test_a_file_is_read_once_while_there_is_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int, read_again: int
) -> None:
    monkeypatch.setattr("moda_core.data.folders._KEPT_BYTES", kept_bytes)
    whole, reads = zipfile.ZipFile.read, []

    def counted(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
        reads.append(info.filename)
        return whole(archive, info)

    monkeypatch.setattr(zipfile.ZipFile, "read", counted)
    data = load_zip(zip_of(both_parts(), tmp_path))
    assert brightness(data) == ([0, 10, 20, 100, 110, 120], [1, 101])
    assert all(150 // 3 < len(content) <= 150 // 2 for content in both_parts().values())
    assert len(reads) == 8 + read_again


@pytest.mark.parametrize("empty", ["train/dog/", "test/dog/"])
def test_a_class_with_no_image_is_refused(load, empty: str) -> None:
    files = {name: data for name, data in both_parts().items() if not name.startswith(empty)}
    with pytest.raises(InvalidInput, match=r"classes with no image in (train|test) \(got \['dog'\]\)"):
        load(files)


def test_an_empty_class_folder_is_a_class_with_no_image(tmp_path: Path) -> None:
    folder = folder_of(both_parts(), tmp_path)
    (folder / "train" / "emu").mkdir()
    with pytest.raises(InvalidInput, match=r"classes with no image in train.*emu"):
        load_folder(folder)
    with pytest.raises(InvalidInput, match=r"classes with no image in train.*emu"):
        load_zip(zip_of(both_parts() | {"train/emu/": b""}, tmp_path))


@pytest.mark.parametrize("files", [{"train/cat/0.png": png()}, {"cat/0.png": png()}, {"0.png": png()}, {"a.txt": b"x"}])
def test_fewer_than_two_classes_are_refused(load, files: dict[str, bytes]) -> None:
    with pytest.raises(InvalidInput, match="fewer than 2 class folders"):
        load(files)


def test_a_class_with_one_image_cannot_be_split(load) -> None:
    with pytest.raises(InvalidInput, match="no test image"):
        load(no_parts() | {"emu/0.png": png()})


@pytest.mark.parametrize(
    "data", [b"", b"text under the name of an image", png()[:40], png()[:-30]], ids=["empty", "text", "head", "cut"]
)
def test_a_broken_image_is_refused_by_its_path(load, data: bytes) -> None:
    with pytest.raises(UnreadableImage, match=r"train/dog/1\.png"):
        load(both_parts() | {"train/dog/1.png": data})


def test_an_image_of_too_many_pixels_is_refused_by_its_path(load) -> None:
    huge = bytearray(png())
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(bytes(huge[12:29])).to_bytes(4, "big")
    with pytest.raises(TooLarge, match=r"train/dog/1\.png: more than 50,000,000 pixels"):
        load(both_parts() | {"train/dog/1.png": bytes(huge)})


@pytest.mark.parametrize(
    "name",
    ["../outside.png", "train/../../outside.png", "/etc/outside.png", "C:\\outside.png", "train\\..\\..\\outside.png"],
)
def test_a_path_that_leaves_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableFile, match="leads out of the archive"):
        load_zip(zip_of(both_parts() | {name: png()}, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.zip"]


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("train/cat/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UnreadableFile, match="symbolic link"):
        load_zip(zip_of({**both_parts(), link: b"/etc/passwd"}, tmp_path))


@pytest.mark.parametrize("place", ["train/cat/link.png", "train/emu", "train/cat/link/0.png"])
def test_a_symbolic_link_in_a_folder_is_refused(tmp_path: Path, place: str) -> None:
    folder = folder_of(both_parts(), tmp_path)
    outside = folder_of(both_parts(), tmp_path / "outside") / "train" / "cat"
    target = folder / place if not place.endswith("0.png") else (folder / place).parent
    target.symlink_to(outside / "0.png" if place.endswith("link.png") else outside)
    with pytest.raises(UnreadableFile, match="symbolic link"):
        load_folder(folder)


def test_a_pipe_under_an_images_name_does_not_hang(tmp_path: Path) -> None:
    folder = folder_of(both_parts(), tmp_path)
    os.mkfifo(folder / "train" / "cat" / "pipe.png")
    with pytest.raises(UnreadableFile, match="symbolic link or device"):
        load_folder(folder)


def test_a_zip_bomb_is_refused_unopened(tmp_path: Path) -> None:
    path = zip_of(both_parts() | {"train/cat/bomb.png": b"\0" * 30_000_000}, tmp_path)
    assert path.stat().st_size < 100_000
    with pytest.raises(TooLarge, match="unpacked it has 30"):
        load_zip(path, max_bytes=20_000_000)


def test_one_giant_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moda_core.data.folders.MAX_FILE_BYTES", 1000)
    files = both_parts() | {"train/cat/9.png": b"\0" * 1001}
    with pytest.raises(TooLarge, match=r"1,001 bytes \(got .train/cat/9\.png"):
        load_zip(zip_of(files, tmp_path))
    with pytest.raises(TooLarge, match=r"1,001 bytes \(got .train/cat/9\.png"):
        load_folder(folder_of(files, tmp_path))


def test_more_pixels_together_than_the_limit_are_refused_before_they_are_allocated(tmp_path: Path) -> None:
    path = zip_of(both_parts(), tmp_path)
    packed = sum(len(data) for data in both_parts().values())
    with pytest.raises(TooLarge, match="bytes of pixels"):
        load_zip(path, image_size=1024, max_bytes=packed)


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = zip_of(both_parts(), tmp_path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("train/cat/0.png", png(9))
    with pytest.raises(UnreadableFile, match="twice"):
        load_zip(path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "encrypted"])
def test_a_damaged_or_encrypted_zip_is_refused(tmp_path: Path, damage: str) -> None:
    path = zip_of(both_parts(), tmp_path)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-30]
    elif damage == "flipped":
        data[60] ^= 0xFF
    else:
        data[data.index(b"PK\x01\x02") + 8] |= 1
        data[6] |= 1
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match="not a readable zip archive"):
        load_zip(path)
