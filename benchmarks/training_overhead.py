"""What modular training costs beside standard training: `python -m benchmarks.training_overhead --model resnet18`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from benchmarks.conditions import Report, conditions, parser
from benchmarks.overhead_steps import measure, noise
from moda_core.data.dataset import Images
from moda_core.data.sources import load
from moda_core.training.execution import Execution
from moda_core.training.surroundings import borrowed_generators

__all__ = ["main"]


def main() -> None:
    """Measure, print, and write where asked."""
    options = parser(__doc__)
    options.add_argument("--model", default="resnet18", help="an architecture of the catalogue")
    options.add_argument("--width", type=float, default=1.0)
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--images", type=int, help="how many images an epoch has (default: 2560, on CUDA 25600)")
    options.add_argument("--batch-size", type=int, default=128)
    options.add_argument("--dataset", metavar="FILE", help="train on these (npz) images; default: noise")
    options.add_argument("--device", default="cpu")
    options.add_argument("--compiled", action="store_true", help="standard and modular through torch.compile")
    options.add_argument("--captured", action="store_true", help="standard and modular as CUDA graphs")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    on_cuda = torch.device(chosen.device).type == "cuda"
    images, classes = _images(chosen.dataset, chosen.images or (25_600 if on_cuda else 2560))
    execution = Execution(compiled=chosen.compiled, captured=chosen.captured)
    with borrowed_generators(torch.device(chosen.device), 0):
        rows = measure(
            chosen.model,
            width=chosen.width,
            images=images,
            classes=classes,
            batch_size=chosen.batch_size,
            epochs=chosen.epochs,
            device=chosen.device,
            execution=execution,
            progress=lambda line: print(f"\r{line} ", end="", file=sys.stderr, flush=True),
        )
    print(file=sys.stderr)
    hardware = torch.cuda.get_device_name(chosen.device) if on_cuda else "CPU"
    data = Path(chosen.dataset).name if chosen.dataset else "noise"
    report = Report(
        "training overhead",
        conditions(device=hardware, images=len(images), dataset=data, precision="bfloat16" if on_cuda else "float32"),
        {"Modular beside standard training, batch by batch in one process (medians)": rows},
        {"peak assumed": "989 TFLOP/s, dense bfloat16 (H100 and H200 SXM)"} if on_cuda else {},
    )
    report.show()
    if chosen.json:
        report.write(chosen.json)


def _images(source: str | None, count: int) -> tuple[Images, int]:
    if source is None:
        return noise(count), 10
    dataset = load(str(Path(source)))
    return Images(dataset.train.pixels[:count], dataset.train.labels[:count]), len(dataset.classes)


if __name__ == "__main__":
    main()
