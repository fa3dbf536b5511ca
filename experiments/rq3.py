"""RQ3: what compactness does: MODA beside MODA- (gamma = 0), and the standard model composed (table 3 of the paper).

    python -m experiments.rq3 --dataset cifar10=cifar10.npz --model resnet18 --width 0.25 --epochs 10

Rows: `experiments.reuse.recording`. What RQ2 measured of the same models is not measured again.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.evidence import printing
from experiments.models.decomposition import THRESHOLD
from experiments.records.result_file import ResultFile
from experiments.reuse.options import add_tasks, tasks_of
from experiments.reuse.recording import COMPOSED, Recorder
from experiments.setup.options import add_approaches, add_options, approaches_of, setting_of
from experiments.setup.program import program_parser, run

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what was not trained, decompose, compose every sub-task."""
    parser = program_parser("python -m experiments.rq3", __doc__)
    add_options(parser)
    add_approaches(parser, tuple(COMPOSED), ("MODA", "MODA-", "ST-composed"))
    add_tasks(parser)
    options = parser.parse_args(arguments)
    setting = setting_of(options)
    approaches = approaches_of(options, tuple(COMPOSED))
    file = ResultFile(setting.result_path("rq3"))
    file.begin(setting.invocation())
    recorder, tasks = Recorder(setting, file), tasks_of(options, setting)
    for seed in setting.seeds:
        for approach in approaches:
            recorder.composed(approach, seed, THRESHOLD, tasks)
    printing.show_reuse(file)


if __name__ == "__main__":
    run(main)
