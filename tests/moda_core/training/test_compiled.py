"""The compiled criterion against the eager one; the backend needs no C++ compiler and differentiates alike."""

import os
import subprocess
import sys
from pathlib import Path

import compiled_and_eager

ROOT = Path(__file__).parents[3]


def test_a_compiled_criterion_has_the_loss_and_the_gradients_of_the_eager_one():
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, compiled_and_eager.__file__]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
