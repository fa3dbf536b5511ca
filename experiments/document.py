"""``docs/results.md``, written wholly from the result files: the paper's value, ours, the difference, and where from.

python -m experiments.document            write the page, and draw the figures of every file
python -m experiments.document --check    1 if the page is not what would be written
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import drawing, trainer_speed
from experiments.beyond_relu_tables import QUESTION, beyond_relu
from experiments.evidence import Evidence, by_setting, evidence
from experiments.full_size import full_size
from experiments.markdown import table
from experiments.narrowed import narrowed
from experiments.program import program_parser, run
from experiments.results import ResultFile
from experiments.settings import RESULTS
from experiments.sources import hardware_of
from experiments.speed import speed
from moda_core.files import write_atomically

__all__ = ["BENCHMARKS", "PAGE", "draw", "main", "page"]

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
BENCHMARKS = Path(__file__).parent.parent / "benchmarks" / "results"

_BEGINNING = """# Results

Written by `python -m experiments.document` from the files of `experiments/results`; not by hand. The paper is
*MODA*, its tables 1 to 3 and figures 3 and 4.

How to read it:

- *ours* is the mean over seeds, ± the sample's deviation where there are two or more; *difference* is ours minus the
  paper's. *n* counts test images: no accuracy is given without them.
- **ST** is standard training, asked for the best of a sub-task's classes. **ST-composed** is the same standard model
  decomposed and composed like MODA's: what composing alone would give, with its size. **MODA-** is MODA without
  compactness. **MwT** is composed without fine-tuning, **MwT+ft** with it.
- An empty cell was not measured; the command that measures it stands below its table.
- Sizes are shares of the original's parameters: as sliced, and *as the paper counts*, where every activation keeps its
  whole mask whoever reads it.
- A commit with a `+` had changes that were not committed yet. Commands name data files without their folders.
- Two readings of the paper that matter here: the means that its section 5.2 states over 20 cells of table 2 (10.11,
  13.97, 0.9, 0.31) are those of the ten CIFAR-10 cells; and its hours are of two V100.

"""

_END = """## How to repeat

Every row of every file carries the id of the conditions it was measured under, which state the command. In general:

    python -m experiments.rq1 --dataset cifar10=cifar10.npz --model resnet18 --seeds 5          # table 1
    python -m experiments.rq2 reuse --dataset cifar10=cifar10.npz --model resnet18 --seeds 5    # figure 3
    python -m experiments.rq2 replacement --dataset cifar10=cifar10.npz --seeds 5               # table 2
    python -m experiments.rq3 --dataset cifar10=cifar10.npz --model resnet18 --seeds 5          # table 3
    python -m experiments.rq4 threshold --dataset cifar10=cifar10.npz --model resnet18          # figure 4
    python -m experiments.rq4 weights --dataset digits --model cnn --epochs 40                  # weights of the loss
    python -m experiments.beyond_relu                                                           # GELU, attention
    python -m experiments.trainer_speed --dataset cifar10=cifar10.npz --model resnet18          # speed of training
    python -m experiments.gpu --minutes 25 --data cifar10=cifar10.npz                           # all of it, by value

What a file has is not measured again; a program that was stopped goes on where it was. `make results`
(`python -m experiments.document`) then writes this page anew.
"""


def page(results: Path, place: Path, benchmarks: Path = BENCHMARKS) -> str:
    """The page as it lies in the folder `place`, from the result files of `results` and `benchmarks`.

    Raises:
        UnreadableFile: for a result file that cannot be used.
    """
    files = evidence(results)
    beside_the_paper = [file for file in files if file.full_size]
    beyond = [file for file in files if file.question == QUESTION]
    timed = [file for file in files if file.question == trainer_speed.QUESTION]
    others = [file for file in files if not file.full_size and file not in (*beyond, *timed)]
    return (
        _BEGINNING
        + _glance(files)
        + full_size(beside_the_paper, place)
        + narrowed(others, place)
        + speed(timed, benchmarks, place)
        + beyond_relu(beyond, place)
        + _END
    )


def _glance(files: Sequence[Evidence]) -> str:
    """What there is, setting by setting."""
    columns = ["data set, model", "width", "epochs", "measured", "hardware"]
    rows = [
        [
            f"{dataset}, {model}",
            f"{width:g}",
            str(epochs),
            ", ".join(file.question for file in alike),
            hardware_of(alike),
        ]
        for (dataset, model, width, epochs), alike in by_setting(files).items()
    ]
    return f"## What was measured\n\n{table(columns, rows)}\n" if rows else ""


def draw(results: Path) -> None:
    """Draw the figures of every result file."""
    for file in evidence(results):
        rows = ResultFile(file.path)
        if file.question == "rq1":
            drawing.rq1(rows, file.model)
        elif file.question == "rq2-reuse":
            drawing.rq2_reuse(rows)
        elif file.question == "rq4-threshold":
            drawing.rq4_threshold(rows)
        elif file.question == "rq4-weights":
            drawing.rq4_weights(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page, or check it."""
    parser = program_parser("python -m experiments.document", __doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="(default: experiments/results)")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="(default: docs/results.md)")
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if the page is out of date")
    options = parser.parse_args(arguments)
    if options.check:
        if not options.page.exists() or options.page.read_text() != page(options.results, options.page.parent):
            sys.exit(f"{options.page} is not what the result files say: run python -m experiments.document")
        return
    draw(options.results)
    write_atomically(options.page, page(options.results, options.page.parent).encode())
    print(options.page)


if __name__ == "__main__":
    run(main)
