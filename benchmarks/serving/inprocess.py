"""How fast our executable is without any server: `python -m benchmarks.serving.inprocess FILE FORM SECONDS BATCH...`.

Prints images per second as JSON, by batch size. Fitted pixels in, logits out: what a server that cost nothing
would answer.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from moda_core.inference.executables import FORMS, Form, executable
from moda_core.modularity.models import TrainedModel
from moda_core.storage.artifacts import decode

__all__ = ["main", "rates"]


def rates(file: Path, form: Form, seconds: float, batches: Sequence[int]) -> dict[int, float]:
    """Images per second at each batch size, after a short warm-up."""
    model = decode(file)
    assert isinstance(model, TrainedModel)
    run, rule = executable(model, form), model.input
    found = {}
    for batch in batches:
        pixels = torch.randint(0, 256, (batch, rule.channels, rule.image_size, rule.image_size), dtype=torch.uint8)
        _calls_per_s(run, pixels, seconds / 4)
        found[batch] = batch * _calls_per_s(run, pixels, seconds)
    return found


def main() -> None:
    """The program."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file", type=Path)
    options.add_argument("form", choices=FORMS)
    options.add_argument("seconds", type=float)
    options.add_argument("batches", type=int, nargs="+")
    given = options.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    print(json.dumps(rates(given.file, given.form, given.seconds, given.batches)))


def _calls_per_s(run: Callable[[Tensor], Tensor], pixels: Tensor, seconds: float) -> float:
    began, calls = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        run(pixels)
        calls += 1
    return calls / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
