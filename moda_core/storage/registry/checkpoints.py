"""Training checkpoints on the store, so that another host can go on."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from moda_core.errors import Corrupt, NotFound, UnreadableFile
from moda_core.storage.manifests import FORMAT
from moda_core.storage.references import check_digest
from moda_core.storage.registry.objects import Objects
from moda_core.storage.tensorfiles import check_content, load_tensors, read_header, save_tensors
from moda_core.training.checkpoints import Checkpoint

__all__ = ["StoredCheckpoints"]

_KEPT = 2
_EPOCH = re.compile(r"([0-9]{6,})\.safetensors")


class StoredCheckpoints:
    """The checkpoints of one training run: ``checkpoints/<spec digest>/000012.safetensors``, the last two kept.

    Each file holds the digest of its own content, so a torn one is told from a whole one.
    """

    def __init__(self, objects: Objects, spec_digest: str) -> None:
        self._objects = objects
        self._folder = f"checkpoints/{check_digest('spec_digest', spec_digest)}"

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None without one."""
        for epoch in reversed(self._epochs()):
            try:
                return self._read(epoch)
            except (NotFound, Corrupt, UnreadableFile):
                continue
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Store a checkpoint, then drop all but the last two.

        Raises:
            StorageFailure: when it cannot be written; the ones before it stay.
        """
        meta = {"format": FORMAT, "kind": "checkpoint", "epoch": checkpoint.epoch, "state": checkpoint.state}
        self._objects.put(self._key(checkpoint.epoch), save_tensors(checkpoint.tensors, meta))
        epochs = self._epochs()
        for epoch in set(epochs) - {checkpoint.epoch, *epochs[-_KEPT:]}:
            self._objects.delete(self._key(epoch))

    def clear(self) -> None:
        """Drop all of them: the run has ended well."""
        for epoch in self._epochs():
            self._objects.delete(self._key(epoch))

    def _epochs(self) -> list[int]:
        names = (key.rpartition("/")[2] for key in self._objects.keys(self._folder))
        return sorted(int(match[1]) for match in map(_EPOCH.fullmatch, names) if match)

    def _key(self, epoch: int) -> str:
        return f"{self._folder}/{epoch:06d}.safetensors"

    def _read(self, epoch: int) -> Checkpoint:
        local = self._objects.path(self._key(epoch))
        if local is not None:
            return _parse(local, epoch)
        with tempfile.TemporaryDirectory(prefix="moda-") as folder:
            copy = Path(folder) / "checkpoint"
            self._objects.fetch(self._key(epoch), copy)
            return _parse(copy, epoch)


def _parse(path: Path, epoch: int) -> Checkpoint:
    header = read_header(path)
    meta = header.meta
    if (meta.get("format"), meta.get("kind"), meta.get("epoch")) != (FORMAT, "checkpoint", epoch):
        raise UnreadableFile("file", path.name, f"not a checkpoint of epoch {epoch}", "remove it and train on")
    check_content(path, header)
    tensors = {name: tensor.clone() for name, tensor in load_tensors(path, header, verify=False).items()}
    return Checkpoint(epoch=epoch, tensors=tensors, state=meta["state"])
