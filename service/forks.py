"""Functions that run in forks of this process, as parts of a tree of processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.context import ForkProcess

from service.processes import ending_with_parent
from service.signals import ENDING, blocked

__all__ = ["Forked"]


class Forked:
    """A function that runs in a fork of this process: what is imported here is shared with it.

    This process should have one thread when it starts one.

    Args:
        patience_s: how long SIGTERM may take before SIGKILL follows.
    """

    def __init__(self, name: str, run: Callable[[], None], *, patience_s: float = 20.0) -> None:
        self.name, self._run, self._patience_s = name, run, patience_s
        self._process: ForkProcess | None = None
        self._told = False

    def start(self) -> None:
        """Fork.

        Raises:
            OSError: when there may be no more processes.
        """
        process = multiprocessing.get_context("fork").Process(target=self._begin, name=self.name)
        with blocked():  # a signal to the new process would reach this one's handlers, and be lost
            process.start()
        self._process, self._told = process, False

    def exited(self) -> int | None:
        """The exit status, negative for a signal, or None while it runs."""
        return self._process.exitcode if self._process else None

    def tell(self) -> None:
        """SIGTERM, once; `stop` waits for what comes of it."""
        if self._process is not None and not self._told:
            self._told = True
            self._process.terminate()

    def stop(self) -> None:
        """SIGTERM, and after `patience_s` SIGKILL."""
        if self._process is None:
            return
        self.tell()
        self._process.join(self._patience_s)
        self._process.kill()
        self._process.join()

    def _begin(self) -> None:
        for number in ENDING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        if end_with_parent := ending_with_parent():
            end_with_parent()
        self._run()
