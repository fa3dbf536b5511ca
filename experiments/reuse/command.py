"""RQ2, reuse: composed models for sub-tasks, beside the standard model and MwT's (figures 3a and 3b).

All sub-tasks of a 10-class set, the paper's sample of a 100-class set. Rows: `experiments.reuse.recording`.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.evidence import printing
from experiments.figures import drawing
from experiments.models.decomposition import THRESHOLD
from experiments.records.result_file import ResultFile
from experiments.reuse.options import add_tasks, tasks_of
from experiments.reuse.recording import COMPOSED, FINE_TUNED, MWT_COMPOSED, Recorder
from experiments.reuse.subtasks import drawn
from experiments.setup.options import add_approaches, add_options, approaches_of, setting_of
from experiments.setup.program import program_parser
from experiments.setup.setting import Setting
from moda_core.errors import InvalidInput

__all__ = ["main"]

_KNOWN = ("ST", *COMPOSED, *MWT_COMPOSED)
_DEFAULT = ("ST", "ST-composed", "MODA", *MWT_COMPOSED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what was not trained, decompose, compose every sub-task, draw."""
    parser = program_parser("python -m experiments.rq2 reuse", __doc__)
    add_options(parser)
    add_approaches(parser, _KNOWN, _DEFAULT)
    add_tasks(parser)
    says = "fine-tune for a random sample of N sub-tasks (default: for all with CUDA, for none on a CPU)"
    parser.add_argument("--fine-tune-tasks", type=int, default=None, metavar="N", help=says)
    options = parser.parse_args(arguments)
    setting = setting_of(options)
    approaches = approaches_of(options, _KNOWN)
    file = ResultFile(setting.result_path("rq2-reuse"))
    file.begin(setting.invocation())
    recorder, tasks = Recorder(setting, file), tasks_of(options, setting)
    tuned = drawn(tasks, _fine_tuned(options.fine_tune_tasks, setting))
    for seed in setting.seeds:
        for approach in approaches:
            if approach in COMPOSED:
                recorder.composed(approach, seed, THRESHOLD, tasks)
            elif approach == "ST":
                recorder.standard(seed, tasks)
            elif approach != FINE_TUNED:
                recorder.mwt(approach, seed, tasks)
            elif tuned:
                recorder.mwt(approach, seed, tuned)
    printing.show_reuse(file)
    drawing.rq2_reuse(file)


def _fine_tuned(asked: int | None, setting: Setting) -> int | None:
    """For how many sub-tasks to fine-tune; None for all."""
    if asked is None:
        return None if setting.device.startswith("cuda") else 0
    if asked < 0:
        raise InvalidInput("--fine-tune-tasks", asked, "out of range", "give 0 or more")
    return asked
