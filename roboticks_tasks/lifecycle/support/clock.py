"""How far a board's wall clock is from this machine's, by Cristian's method: ask, and halve the way there and back."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

from roboticks_tasks.errors import RoboticksError
from roboticks_tasks.models import ClockReading
from roboticks_tasks.targets import Target
from roboticks_tasks.targets.local import LocalTarget

log = logging.getLogger(__name__)

ROUNDS = 5
"""Questions at most; the answer that came fastest is the best one."""

ENOUGH = 1.0
"""Seconds after which there is no further question: a serial console is slow."""

TIMEOUT = 3.0
"""Seconds that an answer may take."""

ANSWER = re.compile(r"\s*(\d{1,12})(?:\.(\d{1,9})(?!\d))?", re.ASCII)
"""Of a date(1) that knows no %N, such as busybox's, it is whole seconds and then anything."""


def read_clock(
    target: Target, *, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
) -> ClockReading | None:
    """Return how far the board's clock is from this machine's, None when it does not say; never raises an error.

    What each answer allows is intersected: `error` is the half of what is left, in seconds. It is sure, but for a
    clock that is set meanwhile. This machine itself is not asked.
    """
    if isinstance(target, LocalTarget):
        return ClockReading(at=wall(), offset=0.0, error=0.0)
    begin = monotonic()
    ranges: list[tuple[float, float]] = []
    try:
        while len(ranges) < ROUNDS and monotonic() - begin < ENOUGH:
            ranges.append(_ask(target, wall, monotonic))
    except (RoboticksError, OSError, ValueError) as error:
        if not ranges:
            log.debug("the board's clock could not be read: %s", error)
            return None
    ranges.sort(key=lambda each: each[1] - each[0])
    low, high = ranges[0]
    for least, most in ranges[1:]:
        if max(low, least) <= min(high, most):
            low, high = max(low, least), min(high, most)
    return ClockReading(at=wall(), offset=round((low + high) / 2, 6), error=round((high - low) / 2, 6))


def _ask(target: Target, wall: Callable[[], float], monotonic: Callable[[], float]) -> tuple[float, float]:
    """Return the least and the most that the board's clock is ahead; ValueError when it does not tell the time."""
    asked, begin = wall(), monotonic()
    done = target.run(["date", "+%s.%N"], timeout=TIMEOUT, repeatable=True)
    took = monotonic() - begin
    found = ANSWER.match(done.text)
    if not done.ok or found is None:
        raise ValueError(f"`date` answered {done.last_words[:100]!r}")
    whole, fraction = found.groups()
    shown = int(whole) + (int(fraction) / 10 ** len(fraction) if fraction else 0.0)
    resolution = 10.0 ** -len(fraction) if fraction else 1.0
    return shown - (asked + took), shown + resolution - asked
