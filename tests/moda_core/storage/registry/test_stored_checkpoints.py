from pathlib import Path

import pytest
import torch

from moda_core.errors import InvalidInput
from moda_core.storage.registry import Objects, Registry
from moda_core.storage.tensorfiles import save_tensors
from moda_core.training.checkpoints import Checkpoint, Checkpoints

SPEC = "5" * 64


@pytest.fixture(params=["folder", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    return Objects(tmp_path / "registry" if request.param == "folder" else "memory://")


def checkpoint(epoch: int) -> Checkpoint:
    tensors = {"weights/w": torch.full((3, 2), float(epoch)), "generator/cpu": torch.arange(5, dtype=torch.uint8)}
    return Checkpoint(epoch=epoch, tensors=tensors, state={"epoch": epoch, "history": [{"loss": 0.1}], "none": None})


def overwrite(objects: Objects, key: str, data: bytes) -> None:
    if objects.root:
        (objects.root / key).write_bytes(data)
    else:
        objects.put(key, data)


def test_there_is_none_before_the_first_is_saved(objects: Objects) -> None:
    assert Registry(objects).checkpoints(SPEC).load() is None


def test_the_newest_is_loaded_by_any_host(objects: Objects) -> None:
    kept: Checkpoints = Registry(objects).checkpoints(SPEC)
    kept.save(checkpoint(1))
    kept.save(checkpoint(2))
    loaded = Registry(objects).checkpoints(SPEC).load()
    assert loaded is not None
    assert (loaded.epoch, loaded.state) == (2, checkpoint(2).state)
    assert {name: tensor.tolist() for name, tensor in loaded.tensors.items()} == {
        name: tensor.tolist() for name, tensor in checkpoint(2).tensors.items()
    }
    assert Registry(objects).checkpoints("6" * 64).load() is None


def test_the_last_two_are_kept(objects: Objects) -> None:
    kept = Registry(objects).checkpoints(SPEC)
    for epoch in range(1, 12):
        kept.save(checkpoint(epoch))
    names = [f"checkpoints/{SPEC}/{epoch:06d}.safetensors" for epoch in (10, 11)]
    assert objects.keys("checkpoints") == names


@pytest.mark.parametrize("damage", ["torn", "empty", "one bit", "another epoch", "another kind"])
def test_one_that_is_not_whole_gives_way_to_the_one_before(objects: Objects, damage: str) -> None:
    kept = Registry(objects).checkpoints(SPEC)
    kept.save(checkpoint(1))
    kept.save(checkpoint(2))
    key = f"checkpoints/{SPEC}/000002.safetensors"
    whole = objects.get(key)
    other = {"format": 1, "kind": "checkpoint", "epoch": 7, "state": {}}
    damaged = {
        "torn": whole[: len(whole) // 2],
        "empty": b"",
        "one bit": whole[:-1] + bytes([whole[-1] ^ 1]),
        "another epoch": save_tensors({}, other),
        "another kind": save_tensors({}, other | {"kind": "trained", "epoch": 2}),
    }
    overwrite(objects, key, damaged[damage])
    loaded = kept.load()
    assert loaded is not None
    assert loaded.epoch == 1
    kept.save(checkpoint(2))
    again = kept.load()
    assert again is not None
    assert again.epoch == 2


def test_with_none_that_is_whole_training_begins_anew(objects: Objects) -> None:
    kept = Registry(objects).checkpoints(SPEC)
    kept.save(checkpoint(1))
    overwrite(objects, f"checkpoints/{SPEC}/000001.safetensors", b"torn")
    assert kept.load() is None


def test_a_loaded_one_outlives_its_file(objects: Objects) -> None:
    kept = Registry(objects).checkpoints(SPEC)
    kept.save(checkpoint(1))
    loaded = kept.load()
    kept.clear()
    assert objects.keys("checkpoints") == []
    assert loaded is not None
    assert loaded.tensors["weights/w"].sum() == 6


def test_the_digest_of_a_spec_is_asked_for(objects: Objects) -> None:
    with pytest.raises(InvalidInput):
        Registry(objects).checkpoints("../x")
