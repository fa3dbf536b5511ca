"""The checkpoints of a run on the disk, so that a stopped one goes on after its last saved epoch."""

from __future__ import annotations

import time
from pathlib import Path

from moda_core.files import write_atomically
from moda_core.storage.tensorfiles import check_content, load_tensors, read_header, save_tensors
from moda_core.training.checkpoints import Checkpoint

__all__ = ["CheckpointFolder"]


class CheckpointFolder:
    """The checkpoints of one run in a local folder; only the last is kept, with the processor time until then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cpu_s_before = 0.0
        self._begun = time.process_time()

    @property
    def cpu_s(self) -> float:
        """Processor time of the run until now, that of the processes before this one included."""
        return self._cpu_s_before + time.process_time() - self._begun

    def load(self) -> Checkpoint | None:
        """The latest checkpoint, or None."""
        paths = self._paths()
        if not paths:
            return None
        header = read_header(paths[-1])
        check_content(paths[-1], header)
        tensors = {name: tensor.clone() for name, tensor in load_tensors(paths[-1], header, verify=False).items()}
        self._cpu_s_before, self._begun = header.meta.get("cpu_s", 0.0), time.process_time()
        return Checkpoint(epoch=header.meta["epoch"], tensors=tensors, state=header.meta["state"])

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then drop those before it."""
        before = self._paths()
        meta = {"epoch": checkpoint.epoch, "state": checkpoint.state, "cpu_s": self.cpu_s}
        write_atomically(self.folder / f"{checkpoint.epoch:06d}.safetensors", save_tensors(checkpoint.tensors, meta))
        for path in before:
            if path.name != f"{checkpoint.epoch:06d}.safetensors":
                path.unlink()

    def clear(self) -> None:
        """Drop all of them."""
        for path in self._paths():
            path.unlink()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))
