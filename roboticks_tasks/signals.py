"""SIGINT, SIGTERM and SIGHUP end a run in order: the first one raises, the later ones cannot break the clean-up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from roboticks_tasks.errors import Cancelled

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """What the handlers know: the first signal that came, and whether it may still raise."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.shielded = False

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Raise Cancelled on the first signal outside a shield; only remember it otherwise."""
        if self.received is not None:
            return
        self.received = number
        if not self.shielded:
            raise Cancelled(number)

    def shield(self) -> None:
        """From now on a signal is remembered and raises nothing: the clean-up has begun."""
        self.shielded = True


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
