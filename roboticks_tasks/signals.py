"""SIGINT, SIGTERM and SIGHUP end a run in order: the first one ends the work, none can break the clean-up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from roboticks_tasks.errors import Cancelled

PARENT_VARIABLE = "ROBOTICKS_END_WITH"
"""The pid of the parent whose death is to end the run."""

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """What the handlers know: the first signal that came, and whether it may raise at this moment."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._armed = False

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Remember the first signal, and raise Cancelled if the work is under way; every later one is ignored."""
        if self.received is None:
            self.received = number
            if self._armed:
                raise Cancelled(number)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Let a signal end the block by Cancelled; before and after it a signal is only remembered.

        So the clean-up behind the block cannot be broken, and no moment is left in which it could be skipped.
        """
        self._armed = True
        try:
            if self.received is not None:
                raise Cancelled(self.received)
            yield
        finally:
            self._armed = False


@contextmanager
def handled() -> Iterator[Interruption]:
    """Install the handlers for the block; in another thread than the main one nothing is installed."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    # Whoever starts us with nohup wants us to survive the terminal.
    wanted = [number for number in SIGNALS if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN)]
    previous = {number: signal.signal(number, interruption.handle) for number in wanted}
    try:
        yield interruption
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def end_with_parent(environ: Mapping[str, str]) -> None:
    """Have the kernel send us SIGTERM when our parent dies, if whoever started us asked for it.

    nox dies of SIGTERM at once and leaves its children running; the variable that asks is set by our noxfile.
    """
    parent = environ.get(PARENT_VARIABLE, "")
    if not parent.isdecimal():
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)
