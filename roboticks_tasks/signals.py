"""SIGINT, SIGTERM and SIGHUP end a run in order: the first one ends the work, none can break the clean-up."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from roboticks_tasks.errors import Cancelled

PARENT_VARIABLE = "ROBOTICKS_END_WITH"
"""The pid of the process whose death is to end the run."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """What the handlers know: the first signal that came, and whether it may raise at this moment."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._received_at = 0.0
        self._armed = False

    @property
    def elapsed(self) -> float:
        """Return the seconds since the first signal, 0.0 when none has come."""
        return 0.0 if self.received is None else time.monotonic() - self._received_at

    def inherit(self, handler: object) -> None:
        """Take over what the handlers of an outer block have received between its beginning and that of ours."""
        outer = getattr(handler, "__self__", None)
        if self.received is None and isinstance(outer, Interruption):
            self.received, self._received_at = outer.received, outer._received_at

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Remember the first signal, and raise Cancelled if the work is under way; every later one is ignored."""
        if self.received is None:
            self._received_at = time.monotonic()
            self.received = number
            if self._armed:
                raise Cancelled(number)

    def check(self) -> None:
        """Raise Cancelled if a signal has come: what it raised may have been swallowed, by an import say."""
        if self._armed and self.received is not None:
            raise Cancelled(self.received)

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
def ended_by_ctrl_c() -> Iterator[None]:
    """Let SIGINT end the process at once during the block, as SIGTERM does, for imports before anything has begun.

    An exception would do where nobody swallows it; extension modules that are being loaded do, now and then.
    """
    if signal.getsignal(signal.SIGINT) != signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
    for handler in previous.values():
        interruption.inherit(handler)
    try:
        yield interruption
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def ignore() -> None:
    """Ignore the signals to the end of the process: its exit code is decided."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_with_parent(environ: Mapping[str, str]) -> None:
    """Send ourselves SIGTERM when another process dies, if whoever started us asked for it.

    nox dies of SIGTERM at once and leaves its children running; the variable that asks is set by our noxfile. So do the
    shells of CI systems, which signal nobody else: where `CI` is set our parent counts, unless the variable is 0.
    """
    in_ci = environ.get("CI", "").lower() not in {"", "0", "false"}
    parent = os.getppid()
    named = environ.get(PARENT_VARIABLE) or (str(parent) if in_ci else "")
    if not named.isdecimal() or int(named) == 0:
        return
    # The kernel's own means, PR_SET_PDEATHSIG, would count the end of the thread that has started us.
    try:
        handle = os.pidfd_open(int(named))
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGTERM)
        return
    threading.Thread(target=_end_with, args=(handle,), name="end-with-parent", daemon=True).start()


def _end_with(handle: int) -> None:
    select.select([handle], [], [])
    os.close(handle)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
