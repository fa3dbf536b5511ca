"""Freed memory goes back to the system, though not every time."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource
from service.memory import Tidying

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

large, between = [], []
for _ in range(2000):
    large.append(bytearray(64 * 1024))
    between.append(bytearray(600))  # Python's own allocator has no block so large: it lies among the others
del large
sizes = [resident()]
for pause_s in (60, 0):
    Tidying(pause_s).now_and_then()
    sizes.append(resident())
print(*sizes)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep less")
def test_what_lies_between_values_that_stay_is_given_back_when_it_is_time():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    freed, too_early, given_back = map(int, done.stdout.split())
    assert abs(too_early - freed) < 1e6
    assert given_back < freed - 100e6
