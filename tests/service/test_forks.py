"""Forks of a process, and the signals that end them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from service.forks import Forked
from service.processes import Tree
from service.signals import Signalled, until_signalled

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

TOLD_AT_ONCE = """
import time
from service.forks import Forked
from service.signals import until_signalled

with until_signalled() as stop:
    forks = [Forked(str(number), lambda: time.sleep(60)) for number in range(5)]
    for fork in forks:
        fork.start()
        fork.tell()
    began = time.monotonic()
    for fork in forks:
        fork.stop()
    print(time.monotonic() - began < 10, {fork.exited() for fork in forks}, stop.is_set())
"""


def test_a_fork_hears_a_signal_from_its_first_moment_on() -> None:
    done = subprocess.run([sys.executable, "-c", TOLD_AT_ONCE], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == f"True {{{-signal.SIGTERM}}} False"


def test_a_fork_that_may_not_be_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_process: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr("multiprocessing.context.ForkProcess.start", refuse)
    with pytest.raises(BlockingIOError), Tree([Forked("one", lambda: None)], report=print):
        pass


def test_a_wait_ends_with_the_signal_and_all_is_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with until_signalled() as stop:
        assert not stop.wait(0.01)
        told = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        told.start()
        assert stop.wait(30)
        told.join()
        assert stop.wait(30)
    assert signal.getsignal(signal.SIGTERM) == before


def test_it_may_be_set_in_the_midst_of_a_wait() -> None:
    """An event would wait for its own lock here."""
    stop = Signalled()
    signal.signal(signal.SIGALRM, lambda *_: stop.set())
    try:
        for _ in range(200):
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            assert stop.wait(30)
            stop = Signalled()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
