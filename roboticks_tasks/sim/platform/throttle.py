"""A log that what devices send cannot fill."""

from __future__ import annotations

import logging
from collections import Counter


class Throttle:
    """Counts trouble by its kind; kinds are words of ours, so that there are few."""

    def __init__(self, log: logging.Logger) -> None:
        """Write to `log`."""
        self.counts: Counter[str] = Counter()
        self._log = log

    def note(self, kind: str, text: str, *values: object, level: int = logging.WARNING) -> None:
        """Count trouble of a kind, and log it the 1st, 2nd, 4th, 8th … time."""
        self.counts[kind] += 1
        count = self.counts[kind]
        if count & (count - 1) == 0:
            self._log.log(level, text + " (%s times)", *values, count)
