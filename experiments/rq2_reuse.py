"""RQ2, reuse: composed models for sub-tasks, beside the standard model and MwT's (figures 3a and 3b).

All sub-tasks of a 10-class set, the paper's sample of a 100-class set. Rows: `experiments.recording`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from experiments import drawing, tables
from experiments.conditions import invocation
from experiments.decomposition import THRESHOLD
from experiments.program import run
from experiments.recording import COMPOSED, Recorder
from experiments.results import ResultFile
from experiments.settings import add_approaches, add_options, add_tasks, approaches_of, setting_of, tasks_of

__all__ = ["main"]

_KNOWN = ("ST", "ST-composed", "MODA", "MODA-")
_DEFAULT = ("ST", "ST-composed", "MODA")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what was not trained, decompose, compose every sub-task, draw."""
    parser = argparse.ArgumentParser(prog="python -m experiments.rq2 reuse", description="reuse of modules")
    add_options(parser)
    add_approaches(parser, _KNOWN, _DEFAULT)
    add_tasks(parser)
    options = parser.parse_args(arguments)
    setting = setting_of(options)
    approaches = approaches_of(options, _KNOWN)
    file = ResultFile(setting.result_path("rq2-reuse"))
    file.begin(invocation(setting.device))
    recorder = Recorder(setting, file, tasks_of(options, setting))
    for seed in setting.seeds:
        for approach in approaches:
            if approach in COMPOSED:
                recorder.composed(approach, seed, THRESHOLD)
            else:
                recorder.standard(seed)
    tables.show_reuse(file)
    drawing.rq2_reuse(file)


if __name__ == "__main__":
    run(main)
