"""``docs/results.md``, written wholly from the result files: the paper's value, ours, the difference, and where from.

python -m experiments.document            write the page, and draw the figures of every file
python -m experiments.document --check    1 if the page is not what would be written
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.evidence.files import evidence
from experiments.figures import drawing
from experiments.figures.beyond_relu import draw as draw_beyond_relu
from experiments.models import ways
from experiments.page.beyond_relu import QUESTION, beyond_relu
from experiments.page.full_size import full_size
from experiments.page.glance import glance
from experiments.page.narrowed import narrowed
from experiments.page.not_measured import TUNED, not_measured
from experiments.page.speed import speed
from experiments.paper import study, table_2
from experiments.records.result_file import ResultFile
from experiments.setup.program import program_parser, run
from experiments.setup.setting import RESULTS
from moda_core.files import write_atomically

__all__ = ["BENCHMARKS", "PAGE", "draw", "main", "page"]

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
BENCHMARKS = Path(__file__).parent.parent / "benchmarks" / "results"

_BEGINNING = f"""# Results

Written by `python -m experiments.document` from the files of `experiments/results`; not by hand. The paper is
*{study.TITLE}* (MODA), by Tuan Ngo, Abid Hassan, Saad Shafiq and Nenad
Medvidovic, University of Southern California; its website is <https://sites.google.com/view/dnn-moda>.

- [What was measured](#what-was-measured), with what came out
- [How to repeat](#how-to-repeat)
- [Not measured yet](#not-measured-yet)

## How to read

- **RQ1** asks for accuracy and time of training, **RQ2** for the reuse and the replacement of modules, **RQ3** for what
  compactness does, **RQ4** for the weights of the loss and the threshold.
- **alpha**, **beta**, **gamma** weigh the three terms of the modular loss beside the cross-entropy: affinity (images of a class
  use the same units), dispersion (those of different classes use different ones), compactness (few units are used).
- **τ** is the share of a class's training images on which a unit must be active to be in the class's module.
- **ST** is standard training, asked for the best of a sub-task's classes. **ST-composed** is the same standard model
  decomposed and composed like MODA's: what composing alone would give, with its size. **MODA-** is MODA without
  compactness (gamma = 0).
- **MwT** is the baseline that trains masks beside the weights; its modules are composed without fine-tuning.
  **MwT+generators** keeps the mask generators in what is composed, **MwT+ft** fine-tunes it on the sub-task's images.
- **CNNSplitter** is the baseline of replacement: it scales a module's logit by a range and learns nothing.
- *ours* is the mean over seeds, ± the sample's deviation where there are two or more; *difference* is ours minus the
  paper's. *n* counts test images.
- A sub-task is averaged over seeds first; *worst* is then the largest loss against ST of any sub-task, and *> 3 points*
  says how many of them lose more.
- Sizes are shares of the original's parameters: as sliced, and *as the paper counts*, where every activation keeps its
  whole mask whoever reads it.
- A commit with a `+` had changes that were not committed yet. Commands name data files without their folders.
- The means that the paper's section 5.2 states over 20 cells of table 2 ({", ".join(f"{mean.target:g}" for mean in table_2.STATED_MEANS.values())})
  are those of the ten CIFAR-10 cells.
- The paper's hours are those of a server with two V100; it does not say how many of them were used.

"""

_REPEAT = f"""## How to repeat

Every row of every file carries the id of the conditions it was measured under, which state the command. In general:

    python -m experiments.rq1 --dataset cifar10=cifar10.npz --model resnet18 --seeds 5          # table 1
    python -m experiments.rq2 reuse --dataset cifar10=cifar10.npz --model resnet18 --seeds 5 \\
        --fine-tune-tasks {TUNED}                                                                    # figure 3
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
    beyond = [file for file in files if file.question == QUESTION]
    timed = [file for file in files if file.question == ways.QUESTION]
    others = [file for file in files if file not in (*beyond, *timed)]
    beside_the_paper = [file for file in others if file.full_size]
    text = (
        _BEGINNING
        + glance(files)
        + full_size(beside_the_paper, place)
        + speed(timed, benchmarks, place)
        + narrowed([file for file in others if not file.full_size], place)
        + beyond_relu(beyond, place)
        + _REPEAT
        + not_measured(beside_the_paper, timed, benchmarks)
    )
    return text.rstrip() + "\n"


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
    _draw_beyond_relu(results)


def _draw_beyond_relu(results: Path) -> None:
    """One figure of all networks of a data set that were trained as long as their recipes say."""
    files = [file for file in evidence(results) if file.question == QUESTION and "-e" not in file.path.stem[-5:]]
    draw_beyond_relu(results, {file.model: file.rows() for file in files})


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
