"""In which form each model runs here: measured once per model and host, beside the service, and remembered."""

from __future__ import annotations

import json
import platform
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from moda_core.data.images import fit
from moda_core.errors import ModaError, StorageFailure, Untraceable
from moda_core.files import write_atomically
from moda_core.inference.executables import Executable, Form, executable, inputs_of
from moda_core.inference.forms import Pixels, choose
from moda_core.inference.mixing import MixedModel
from moda_core.modularity.models import Model, ModularModel
from moda_core.specs import InputSpec
from moda_core.storage.registry import Registry

__all__ = ["Forms", "real_images"]

_REAL_IMAGES = 2000


class Forms:
    """Chooses forms by root model; its compositions take its form.

    Until a model has been measured it is folded, which is right by construction, or plain where it cannot be
    traced. The measurement takes seconds, so it runs in a thread of its own, and what was ready before stays.

    Args:
        folder: where choices are remembered, one file per model.
        device: that answers.
        allow: forms to try beside `plain` and `folded`.
        images: real ones for a root, by digest, on which `bf16` may change next to no answer.
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        *,
        allow: Collection[Form] = (),
        images: Callable[[str, Sequence[InputSpec]], Pixels | None] = lambda _digest, _rules: None,
    ) -> None:
        self.device, self._folder, self._allow, self._images = device, folder, tuple(sorted(allow)), images
        self._choices: dict[str, dict[str, Any]] = {}
        self._asked: set[str] = set()
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forms")

    def executable(self, digest: str, root: Model, model: Model) -> Executable:
        """A model in its root's form, on the device.

        Args:
            digest: of the root's manifest.
            root: itself, which is measured unless it was.
            model: it, or one composed of it.
        """
        try:
            return executable(model, self._form(digest, root), self.device)
        except Untraceable:
            return executable(model, "plain", self.device)

    def mixed(self, digest: str, root: ModularModel) -> MixedModel:
        """A root that answers for many of its compositions at a time, in its form."""
        return MixedModel(root, self._form(digest, root), self.device)

    def choice(self, digest: str) -> dict[str, Any] | None:
        """What was measured of a root, as JSON; None before."""
        return self._choices.get(digest)

    def close(self) -> None:
        """End the measurement at hand; what has not begun is not done."""
        self._closing.set()
        self._thread.shutdown(cancel_futures=True)

    def _form(self, digest: str, root: Model) -> Form:
        choice = self.choice(digest) or self._remembered(digest)
        if choice is None:
            self._measure_later(digest, root)
            return "folded"
        form: Form = choice["form"]
        return form

    def _measure_later(self, digest: str, root: Model) -> None:
        with self._lock:
            if digest in self._asked:
                return
            self._asked.add(digest)
        with suppress(RuntimeError):  # when it is closing
            self._thread.submit(self._measure, digest, root)

    def _measure(self, digest: str, root: Model) -> None:
        with suppress(ModaError):  # of a model that cannot be traced there is one form only
            images = self._images(digest, inputs_of(root)) if "bf16" in self._allow else None
            found = choose(
                root, self.device, allow=self._allow, images=images, rounds=3, cancelled=self._closing.is_set
            )
            self._choices[digest] = found.to_json()
            with suppress(StorageFailure):  # then it is measured again after the next start
                write_atomically(self._path(digest), json.dumps(self._choices[digest] | self._place()).encode())

    def _remembered(self, digest: str) -> dict[str, Any] | None:
        """A choice made before on this host, with the same libraries and the same forms to try."""
        with suppress(OSError, ValueError, KeyError):
            kept: dict[str, Any] = json.loads(self._path(digest).read_bytes())
            if kept.items() >= self._place().items():
                self._choices[digest] = kept
        return self._choices.get(digest)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.json"

    def _place(self) -> dict[str, Any]:
        """What a choice holds for."""
        on_cuda = self.device.startswith("cuda")
        return {
            "host": platform.node(),
            "hardware": torch.cuda.get_device_name(self.device) if on_cuda else platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "tried": list(self._allow),
        }


def real_images(registry: Registry, digest: str, rules: Sequence[InputSpec]) -> Pixels | None:
    """Test images of the data set that a model was trained on, fitted to its inputs; None where they are not stored."""
    named = registry.manifest(digest).dataset
    if named is None:
        return None
    try:
        images = registry.dataset(named["digest"]).test.pixels[:_REAL_IMAGES]
    except ModaError:
        return None
    return tuple(fit(images, rule) for rule in rules) if len(images) else None
