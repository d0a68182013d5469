"""How much of a log to read at once, and when reading all of it is in vain: learnt from how fast it comes."""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST, FIRST, MOST = 4096, 16_384, 1_048_576
"""Bytes in one look, the first ones half a second and two of a serial console at 115200 baud."""

QUICK, SLOW = 0.25, 1.0
"""Seconds; a full look that took less is followed by a larger one, one that took more by a smaller one."""

TOO_FAR_BEHIND = 10.0
"""Seconds of reading that are made up for; beyond that the log is followed from near its end on."""


class Pacing:
    """The bytes to read in the next look are `most`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin = clock()
        self._read = self._behind = 0
        self.most = FIRST

    def begin(self) -> bool:
        """Take note that a look begins; tell whether it should begin near the end of the log.

        What a look costs counts up to the next one: whoever looks has to search what came.
        """
        now = self._clock()
        took, self._begin = max(now - self._begin, 1e-6), now
        if self._read < self.most:
            return False
        if took < QUICK and self.most < MOST:
            self.most = min(MOST, self.most * 4)
            return False
        if took > SLOW:
            self.most = max(LEAST, self.most // 4)
        return self._behind > max(FIRST, self._read / took * TOO_FAR_BEHIND)

    def end(self, read: int, behind: int) -> None:
        """Take note that a look has read so many bytes of log, and that there were so many behind them."""
        self._read, self._behind = read, behind
