"""Show what a device logs as fast as people can follow, and say how much is not shown: the whole is in its own log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from roboticks_tasks.bounded import narrow

device_log = logging.getLogger("roboticks_tasks.device")
"""Every line that a device manager logged while somebody waited for it, unless there are too many."""

BURST, STEADY = 500, 50
"""Lines that are shown at once, and per second of a flood: a device's whole boot, and less than a log file can bear."""

WORTHWHILE = 20
"""Lines that there must be room for before a flood is shown again: one at a time tells nothing."""


class Echo:
    """Hands on lines as long as they do not come too fast; in a flood the latest ones."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._room = float(BURST)
        self._hidden = 0

    def show(self, lines: Sequence[str]) -> None:
        """Show the lines, or the last of them and how many there were before."""
        now = self._clock()
        self._room = min(BURST, self._room + (now - self._last) * STEADY)
        self._last = now
        count = len(lines) if len(lines) <= self._room else int(self._room) - 1
        if count < min(len(lines), WORTHWHILE):
            self._hidden += len(lines)
            return
        self._hidden += len(lines) - count
        if self._hidden and lines:
            device_log.info("(%d lines that came too fast are not shown)", self._hidden)
            self._hidden = 0
        for line in lines[len(lines) - count :]:
            device_log.info("%s", narrow(line))
        self._room -= count
