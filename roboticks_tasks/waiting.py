"""Deadlines on the monotonic clock, and the one place where tenacity is wrapped."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Deadline:
    """A moment that does not move when the wall clock jumps; in seconds from its creation.

    The time that a process is stopped counts, as for everyone who waits for it; that for which the machine sleeps does
    not: nothing could happen in it.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._start = clock()

    @property
    def elapsed(self) -> float:
        """Return the seconds since the creation."""
        return self._clock() - self._start

    @property
    def remaining(self) -> float:
        """Return the seconds that are left, never less than 0."""
        return max(0.0, self.seconds - self.elapsed)

    @property
    def expired(self) -> bool:
        """Tell whether nothing is left."""
        return self.remaining == 0.0


class Pace:
    """Something that is due now, and then every `seconds` at most."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = clock()

    def is_due(self) -> bool:
        """Tell whether it is time, and count from now on when it is."""
        if self._clock() < self._next:
            return False
        self._next = self._clock() + self._seconds
        return True


def first(
    probe: Callable[[], T | None],
    *,
    deadline: Deadline,
    interval: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
) -> T | None:
    """Call `probe` until it returns something else than None, or until `deadline`; return that, or None.

    "Not yet" is a value, not an exception: whatever `probe` raises ends the wait at once. Probes that block until
    something changes need no `interval` (seconds between two calls).
    """
    from tenacity import RetryError, Retrying, retry_if_result, wait_fixed

    retrying = Retrying(
        retry=retry_if_result(lambda value: value is None),
        stop=lambda _: deadline.remaining <= interval,
        wait=wait_fixed(interval),
        sleep=sleep,
    )
    try:
        return retrying(probe)
    except RetryError:
        return None
