"""Compiled executables; in a process of their own, without shape checks."""

import os
import subprocess
import sys
from pathlib import Path

import compiled_forms

ROOT = Path(__file__).parents[3]


def test_every_model_is_compiled_before_it_is_asked_however_many_there_are():
    command = [sys.executable, compiled_forms.__file__]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
