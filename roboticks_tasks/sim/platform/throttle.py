"""A log that what devices send cannot fill."""

from __future__ import annotations

import logging
from collections import Counter


class Sparse(logging.Filter):
    """Lets the 1st, 2nd, 4th, 8th … record of each kind of message pass; its arguments do not count."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is logged."""
        kind = str(record.msg)[:100]
        self._counts[kind] += 1
        return self._counts[kind] & (self._counts[kind] - 1) == 0


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
