"""What programs of reuse are asked: how many sub-tasks to measure."""

from __future__ import annotations

import argparse

from experiments.reuse.subtasks import Subtask, drawn, subtasks
from experiments.setup.options import check_positive
from experiments.setup.setting import Setting

__all__ = ["add_tasks", "tasks_of"]


def add_tasks(parser: argparse.ArgumentParser) -> None:
    """Add the option that measures fewer sub-tasks."""
    says = "a random sample of N sub-tasks (default: all of 10 classes, the paper's sample of 100)"
    parser.add_argument("--tasks", type=int, default=None, metavar="N", help=says)


def tasks_of(options: argparse.Namespace, setting: Setting) -> tuple[Subtask, ...]:
    """The sub-tasks asked for."""
    check_positive(options, "tasks")
    return drawn(subtasks(len(setting.dataset.classes)), options.tasks)
