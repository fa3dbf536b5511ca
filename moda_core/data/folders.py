"""Class folders of image files, on disk or in a zip: ``train/<class>/*.png`` and ``test/<class>/*.png``.

Without ``test`` a seeded, stratified fifth of the images becomes the test part; class folders may also
lie at the top, without ``train``. Nothing of a zip is ever written to disk.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import torch
from jaxtyping import UInt8
from torch import Tensor

from moda_core.data.dataset import Dataset, Images, split
from moda_core.data.images import MAX_PIXELS, SUFFIXES, decode, fit, read_header
from moda_core.errors import InvalidInput, TooLarge, UnreadableFile
from moda_core.specs import InputSpec

__all__ = ["MAX_BYTES", "MAX_FILES", "MAX_FILE_BYTES", "check_folder", "check_zip", "load_folder", "load_zip"]

MAX_BYTES = 16 * 2**30
MAX_FILES = 5_000_000
MAX_FILE_BYTES = 256 * 2**20
_TEST_SHARE = 0.2
_MIXED_SIZE = 32
_KEPT_BYTES = 256 * 2**20

Parts = tuple[str, ...]
_Labelled = list[tuple[Parts, int]]


@dataclass
class _Tree:
    """Folders and image files below a root, by the parts of their paths."""

    read: Callable[[Parts], bytes]
    folders: set[Parts] = field(default_factory=set)
    files: list[Parts] = field(default_factory=list)

    def add_file(self, parts: Parts) -> None:
        """Remember an image file, with the folders it lies in; other files and hidden ones are passed over."""
        if _hidden(parts):
            return
        self.add_folder(parts[:-1])
        if PurePosixPath(parts[-1]).suffix.lower() in SUFFIXES:
            self.files.append(parts)

    def add_folder(self, parts: Parts) -> None:
        """Remember a folder and those it lies in."""
        if not _hidden(parts):
            self.folders.update(parts[:depth] for depth in range(1, len(parts) + 1))

    def below(self, parts: Parts) -> list[str]:
        """Names of the folders directly below one, sorted."""
        depth = len(parts)
        return sorted(folder[-1] for folder in self.folders if len(folder) == depth + 1 and folder[:depth] == parts)


def load_folder(path: Path, *, seed: int = 0, image_size: int | None = None) -> Dataset:
    """The data set in a folder; see `load_zip` for sizes and errors. Symbolic links are refused."""
    return _dataset(_folder_tree(path), seed, image_size)


def check_folder(path: Path) -> None:
    """Refuse what the names in a folder show to be no data set, without reading an image."""
    _labelled_parts(_folder_tree(path))


def _folder_tree(path: Path) -> _Tree:
    tree = _Tree(read=lambda parts: path.joinpath(*parts).read_bytes())
    for folder, subfolders, names in os.walk(path):
        parts = Path(folder).relative_to(path).parts
        for name in subfolders:
            tree.add_folder((*parts, name))
        for name in names:
            tree.add_file((*parts, name))
    for parts in (*tree.folders, *tree.files):
        _check_entry(path, parts)
    return tree


def _check_entry(root: Path, parts: Parts) -> None:
    found, name = root.joinpath(*parts).lstat(), "/".join(parts)
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise _unsafe(name, "a symbolic link or device", "copy the images themselves into the folder")
    if stat.S_ISREG(found.st_mode) and found.st_size > MAX_FILE_BYTES:
        raise TooLarge("source", name, f"{found.st_size:,} bytes", f"stay below {MAX_FILE_BYTES:,}")


def load_zip(path: Path, *, seed: int = 0, image_size: int | None = None, max_bytes: int = MAX_BYTES) -> Dataset:
    """The data set in a zip archive.

    Images of one size keep it; mixed sizes are resized to `image_size` (32). An `image_size` that is
    given holds for all. One colour image makes all of them colour.

    Raises:
        UnreadableFile: for a broken archive, or one with a path that leaves it or a symbolic link.
        UnreadableImage: for a file that has an image's name and is none.
        TooLarge: for more files, bytes or pixels than the limits, before anything is unpacked.
        InvalidInput: for images that make no data set.
    """
    with _opened_zip(path) as archive:
        return _dataset(_zip_tree(path, archive, max_bytes), seed, image_size, max_bytes)


def check_zip(path: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Refuse what the names in a zip show to be no data set, without unpacking an image; as `load_zip`."""
    with _opened_zip(path) as archive:
        _labelled_parts(_zip_tree(path, archive, max_bytes))


def _zip_tree(path: Path, archive: zipfile.ZipFile, max_bytes: int) -> _Tree:
    members: dict[Parts, zipfile.ZipInfo] = {}
    tree = _Tree(read=lambda parts: archive.read(members[parts]))
    _check_amount(path, archive, max_bytes)
    for info in archive.infolist():
        parts = _safe_parts(info)
        if info.is_dir():
            tree.add_folder(parts)
        elif parts in members:
            raise _unsafe(info.filename, "a file that is there twice", "pack it again")
        else:
            members[parts] = info
            tree.add_file(parts)
    return tree


@contextmanager
def _opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UnreadableFile("source", path.name, f"not a readable zip archive: {error}", "pack it again") from error


def _check_amount(path: Path, archive: zipfile.ZipFile, max_bytes: int) -> None:
    """Hold the archive to the limits by what it declares; reading a member never yields more than that."""
    files = archive.infolist()
    size_bytes = sum(info.file_size for info in files)
    if len(files) > MAX_FILES:
        raise TooLarge("source", path.name, f"it holds {len(files):,} files", f"stay below {MAX_FILES:,}")
    if size_bytes > max_bytes:
        raise TooLarge("source", path.name, f"unpacked it has {size_bytes:,} bytes", f"stay below {max_bytes:,}")
    for info in files:
        if info.file_size > MAX_FILE_BYTES:
            raise TooLarge("source", info.filename, f"{info.file_size:,} bytes", f"stay below {MAX_FILE_BYTES:,}")


def _safe_parts(info: zipfile.ZipInfo) -> Parts:
    name = info.orig_filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or ":" in name.partition("/")[0] or "\0" in name or not parts:
        raise _unsafe(info.orig_filename, "a path that leads out of the archive", "use relative paths without '..'")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise _unsafe(info.orig_filename, "a symbolic link", "pack the images themselves")
    return parts


def _unsafe(name: str, problem: str, remedy: str) -> UnreadableFile:
    return UnreadableFile("source", name, problem, remedy)


def _hidden(parts: Parts) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _dataset(tree: _Tree, seed: int, image_size: int | None, max_bytes: int = MAX_BYTES) -> Dataset:
    classes, found = _labelled_parts(tree)
    stacked = _stacked(tree, [parts for part in found for parts, _ in part], image_size, max_bytes)
    labels = torch.tensor([label for part in found for _, label in part], dtype=torch.int64)
    border = len(found[0])
    if len(found) == 1:
        return Dataset(classes, *split(Images(stacked, labels), _TEST_SHARE, seed), mirror=True)
    return Dataset(
        classes, Images(stacked[:border], labels[:border]), Images(stacked[border:], labels[border:]), mirror=True
    )


def _labelled_parts(tree: _Tree) -> tuple[tuple[str, ...], list[_Labelled]]:
    """Class names, and the files of each part with their labels: train and, if there is one, test."""
    root = _root(tree)
    splits = "train" in tree.below(root) and bool(tree.below((*root, "train")))
    train = (*root, "train") if splits else root
    test = (*root, "test") if splits and "test" in tree.below(root) else None
    classes = tuple(sorted({*tree.below(train), *(tree.below(test) if test is not None else [])}))
    if len(classes) < 2:
        raise InvalidInput(
            "source", list(classes), "fewer than 2 class folders", "make one folder for each class: train/<class>/*.png"
        )
    return classes, [_labelled(tree, part, classes) for part in (train, test) if part is not None]


def _root(tree: _Tree) -> Parts:
    """The folder that holds the data set: archives are often packed with one folder around everything."""
    root: Parts = ()
    while len(tree.below(root)) == 1 and tree.below(root) != ["train"] and tree.below((*root, *tree.below(root))):
        root = (*root, *tree.below(root))
    return root


def _labelled(tree: _Tree, part: Parts, classes: tuple[str, ...]) -> _Labelled:
    """Image files directly in the class folders of a part, in the order of their paths, with labels."""
    depth = len(part)
    labels = {name: label for label, name in enumerate(classes)}
    files = [parts for parts in tree.files if len(parts) == depth + 2 and parts[:depth] == part]
    labelled = [(parts, labels[parts[depth]]) for parts in sorted(files)]
    empty = sorted(set(classes) - {classes[label] for _, label in labelled})
    if empty:
        where = "/".join(part) or "the top folder"
        raise InvalidInput(
            "source", empty, f"classes with no image in {where}", "give every class one, or leave it out"
        )
    return labelled


def _stacked(
    tree: _Tree, files: list[Parts], image_size: int | None, max_bytes: int
) -> UInt8[Tensor, "images channels height width"]:
    """All images in one tensor, its shape known, and refused if too large, before the first is decoded.

    Files are so asked twice; the first ones are kept, up to a limit, and only the rest is read again.
    """
    kept: dict[Parts, bytes] = {}
    headers, room = [], _KEPT_BYTES
    for parts in files:
        data = tree.read(parts)
        headers.append(read_header(data, field="/".join(parts), max_pixels=MAX_PIXELS))
        if len(data) <= room:
            kept[parts] = data
            room -= len(data)
    channels = max(header.channels for header in headers)
    sizes = {(header.height, header.width) for header in headers}
    if image_size is None and len(sizes) > 1:
        image_size = _MIXED_SIZE
    height, width = (image_size, image_size) if image_size else sizes.pop()
    size_bytes = len(files) * channels * height * width
    if size_bytes > max_bytes:
        raise TooLarge(
            "source", f"{size_bytes:,} bytes", f"more than {max_bytes:,} bytes of pixels", "set an image size"
        )
    stacked = torch.empty(len(files), channels, height, width, dtype=torch.uint8)
    for row, parts in zip(stacked, files, strict=True):
        data = kept.pop(parts) if parts in kept else tree.read(parts)
        pixels = decode(data, field="/".join(parts), max_pixels=MAX_PIXELS)
        row.copy_(_fitted(pixels, channels, image_size))
    return stacked


def _fitted(
    pixels: UInt8[Tensor, "_ _ _"], channels: int, image_size: int | None
) -> UInt8[Tensor, "channels height width"]:
    if image_size is None:
        return pixels.expand(channels, -1, -1)
    rule = InputSpec(image_size=image_size, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels)
    return fit(pixels[None], rule)[0]
