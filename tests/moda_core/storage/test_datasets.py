from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from moda_core.data.dataset import Dataset, Images
from moda_core.errors import UnreadableFile
from moda_core.storage.datasets import decode, encode, manifest_of
from moda_core.storage.manifests import BlobRef

BLOB = BlobRef("0" * 64, 1)


def swapped(images: Images) -> Images:
    return Images(images.pixels, 1 - images.labels)


CHANGES: list[Callable[[Dataset], Dataset]] = [
    lambda data: replace(data, classes=("odd", "even")),
    lambda data: replace(data, mirror=True),
    lambda data: replace(data, train=Images(data.train.pixels ^ 1, data.train.labels)),
    lambda data: replace(data, train=swapped(data.train)),
    lambda data: replace(data, test=swapped(data.test)),
]


def test_a_file_gives_back_the_data_set(tmp_path: Path, dataset: Dataset) -> None:
    (tmp_path / "file").write_bytes(encode(dataset))
    found = decode(tmp_path / "file", manifest_of(dataset, BLOB))
    assert (found.classes, found.mirror) == (dataset.classes, dataset.mirror)
    for part in ("train", "test"):
        assert torch.equal(getattr(found, part).pixels, getattr(dataset, part).pixels)
        assert torch.equal(getattr(found, part).labels, getattr(dataset, part).labels)


def test_the_bytes_depend_on_everything(dataset: Dataset) -> None:
    files = {encode(dataset), *(encode(change(dataset)) for change in CHANGES)}
    assert len(files) == 1 + len(CHANGES)


def test_the_bytes_depend_on_values_and_not_on_memory_layout(dataset: Dataset) -> None:
    pixels = dataset.train.pixels.expand(-1, 3, -1, -1)
    whole, strided = pixels.contiguous(), pixels.to(memory_format=torch.channels_last)
    assert whole.stride() != strided.stride()
    one, other = (Images(part, dataset.train.labels) for part in (whole, strided))
    assert encode(replace(dataset, train=one, test=one)) == encode(replace(dataset, train=other, test=one))


@pytest.mark.parametrize("change", CHANGES[:2])
def test_a_file_of_another_data_set_than_the_manifests_is_unreadable(
    tmp_path: Path, dataset: Dataset, change: Callable[[Dataset], Dataset]
) -> None:
    (tmp_path / "file").write_bytes(encode(change(dataset)))
    with pytest.raises(UnreadableFile, match="not the data set that its manifest describes"):
        decode(tmp_path / "file", manifest_of(dataset, BLOB))
