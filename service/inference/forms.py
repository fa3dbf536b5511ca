"""In which form each model runs here: measured once per model and host, beside the service, and remembered."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

from moda_core.data.images import fit
from moda_core.errors import Cancelled, InvalidInput, ModaError, StorageFailure, Untraceable
from moda_core.files import locked, write_atomically
from moda_core.inference.components import inputs_of
from moda_core.inference.executables import FORMS, Executable, Form, executable
from moda_core.inference.forms import Choice, Pixels, candidates, choose
from moda_core.inference.mixing import MixedModel
from moda_core.modularity.models import Model, ModularModel
from moda_core.specs import InputSpec
from moda_core.storage.registry import Registry

__all__ = ["Forms", "real_images"]

_REAL_IMAGES = 2000
_MADE_OF_IT = ("composed", "mixed")
"""What a choice tells of beside the root: its compositions, and the root as it answers for many of them."""
_NICENESS = 10

_logger = logging.getLogger(__name__)


class Forms:
    """Chooses forms by root model: for itself, for its compositions, and for many of these at a time.

    Until a model has been measured it is folded, which is right by construction, or plain where it cannot be
    traced. The measurement takes seconds, so it runs in a thread of its own, which gives way to those that
    serve. A model that nobody holds any more when its turn comes is measured when it is loaded again.

    Args:
        folder: where choices are remembered, one file per model.
        device: that answers.
        allow: forms to try beside those that are always tried.
        images: real ones for a root, by digest, on which `bf16` may change next to no answer. While there are
            none they are looked for whenever something of the root is loaded.
        chosen: told a root's digest, in the thread that measures, when its form is no longer the one that
            `executable` and `mixed` made so far.
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        *,
        allow: Collection[Form] = (),
        images: Callable[[str, Sequence[InputSpec]], Pixels | None] = lambda _digest, _rules: None,
        chosen: Callable[[str], None] = lambda _digest: None,
    ) -> None:
        self.device, self._folder, self._allow = device, folder, tuple(sorted(allow))
        self._images, self._chosen = images, chosen
        self._choices: dict[str, dict[str, Any]] = {}
        self._asked: set[str] = set()
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forms", initializer=_give_way)

    def executable(self, digest: str, root: Model, model: Model) -> Executable:
        """A model in the form that was chosen for it, on the device; folded where it does not have that one.

        Args:
            digest: of the root's manifest.
            root: itself, which is measured unless it was.
            model: it, or one composed of it.
        """
        form = self._form(digest, root, None if model is root else "composed")
        try:
            return _or_folded(lambda known: executable(model, known, self.device), form)
        except Untraceable:
            return executable(model, "plain", self.device)

    def mixed(self, digest: str, root: ModularModel) -> MixedModel:
        """A root that answers for many of its compositions at a time."""
        return _or_folded(lambda known: MixedModel(root, known, self.device), self._form(digest, root, "mixed"))

    def choice(self, digest: str) -> dict[str, Any] | None:
        """What was measured of a root, now or before a restart, as JSON; None before."""
        if digest not in self._choices and (kept := self._remembered(digest)) is not None:
            self._choices.setdefault(digest, kept)
        return self._choices.get(digest)

    def close(self) -> None:
        """End the measurement at hand; what has not begun is not done."""
        self._closing.set()
        self._thread.shutdown(cancel_futures=True)

    def _form(self, digest: str, root: Model, what: str | None) -> Form:
        choice = self.choice(digest)
        if choice is None or ("bf16" in self._allow and not choice["images"]):
            self._measure_later(digest, root)
        return _form_of(choice, what)

    def _measure_later(self, digest: str, root: Model) -> None:
        with self._lock:
            if digest in self._asked:
                return
            self._asked.add(digest)
        with suppress(RuntimeError):  # when it is closing
            self._thread.submit(self._measure, digest, weakref.ref(root))

    def _measure(self, digest: str, held: Callable[[], Model | None]) -> None:
        try:
            root = held()
            if root is not None:
                self._choose(digest, root)
        except Cancelled:
            pass
        except Exception:  # nobody reads the future
            _logger.exception("the form of model %s was not chosen; it is tried again when it is loaded", digest)
        finally:
            with self._lock:
                self._asked.discard(digest)

    def _choose(self, digest: str, root: Model) -> None:
        before = self.choice(digest)
        images = self._images(digest, inputs_of(root)) if "bf16" in self._allow else None
        if before is not None and images is None:
            return
        with self._alone(digest):
            kept = self._remembered(digest)
            if kept is None or (images is not None and not kept["images"]):  # else another process has measured it
                with _stream_of_its_own(self.device):
                    kept = choose(
                        root, self.device, allow=self._allow, images=images, rounds=3, cancelled=self._closing.is_set
                    ).to_json()
                said = {"place": self._place(), "choice": kept}
                with suppress(StorageFailure):  # then it is measured again after the next start
                    write_atomically(self._path(digest), json.dumps(said).encode())
            self._choices[digest] = kept
        if any(_form_of(kept, what) != _form_of(before, what) for what in (None, *_MADE_OF_IT)):
            self._chosen(digest)

    @contextmanager
    def _alone(self, digest: str) -> Iterator[None]:
        """Meanwhile no other process of this home measures the model: they would slow each other down."""
        with ExitStack() as stack:
            with suppress(OSError):  # then each measures for itself
                self._folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self._path(digest).with_suffix(".lock")))
            yield

    def _remembered(self, digest: str) -> dict[str, Any] | None:
        """A choice made before on this host, with the same libraries and the same forms to try."""
        with suppress(OSError, ValueError):
            kept = json.loads(self._path(digest).read_bytes())
            if isinstance(kept, dict) and kept.get("place") == self._place():
                return _whole_choice(kept.get("choice"))
        return None

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
            "onnxruntime": version("onnxruntime"),
            "tried": candidates(self.device, self._allow),
        }


def _form_of(choice: dict[str, Any] | None, what: str | None = None) -> Form:
    """Of a root itself, or of what is made of it."""
    if choice is None:
        return "folded"
    of_it = choice[what] if what else None
    form: Form = (of_it or choice)["form"]
    return form


_Made = TypeVar("_Made")


def _or_folded(make: Callable[[Form], _Made], form: Form) -> _Made:
    try:
        return make(form)
    except InvalidInput:
        return make("folded")


def _whole_choice(kept: object) -> dict[str, Any] | None:
    """What was read, if it is a choice."""
    known = {field.name for field in fields(Choice)}
    if not isinstance(kept, dict) or kept.keys() != known:
        return None
    made = [kept[what] for what in _MADE_OF_IT if kept[what] is not None]
    return kept if all(isinstance(one, dict) and one.get("form") in FORMS for one in (kept, *made)) else None


def _give_way() -> None:
    """Whatever this thread and those that it starts compute, others of the process come first; Linux only."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # where a sandbox forbids it
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)


def _stream_of_its_own(device: str) -> AbstractContextManager[object]:
    """Kernels that wait for no other thread's; on CUDA only."""
    if not device.startswith("cuda"):
        return nullcontext()
    own: AbstractContextManager[object] = torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
    return own


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
