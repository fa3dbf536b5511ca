"""Compiled training against eager, and against itself; in processes of their own, without shape checks."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import compiled_and_eager
import compiled_and_resumed
import pytest

ROOT = Path(__file__).parents[3]
COMPILES = shutil.which(os.environ.get("CXX", "g++")) and Path(sysconfig.get_path("include"), "Python.h").exists()


def run(program, **environment):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, program.__file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr


def test_a_compiled_criterion_has_the_loss_and_the_gradients_of_the_eager_one():
    run(compiled_and_eager)  # its backend needs no C++ compiler and differentiates alike


@pytest.mark.skipif(not COMPILES, reason="a C++ compiler and Python's headers")
def test_a_compiled_training_that_was_stopped_and_resumed_ends_as_the_one_that_was_not(tmp_path):
    run(compiled_and_resumed, TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
