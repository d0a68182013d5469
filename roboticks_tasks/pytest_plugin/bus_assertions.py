"""The monitor of the device manager's message bus (documented: a ZeroMQ publisher, port 5556), for assertions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NoReturn

from roboticks_tasks.pytest_plugin.bus_monitor import Message, Monitor
from roboticks_tasks.pytest_plugin.shapes import mismatch
from roboticks_tasks.waiting import Deadline

Where = Callable[[dict[str, Any]], object]
Step = str | tuple[str, Where]


class Bus:
    """What modules have published since the test began; every wait ends with AssertionError and what came instead."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._next: dict[str, int] = {}

    def collect(self, topic: str, count: int, timeout: float = 5.0) -> list[dict[str, Any]]:
        """Return the first `count` messages of `topic`, in order; AssertionError when they do not come in time."""
        found: list[dict[str, Any]] = []
        for each in self._coming(topic, 0, Deadline(timeout)):
            found.append(each.body)
            if len(found) >= count:
                break
        if len(found) < count:
            self._fail(f"{len(found)} of {count} messages on {topic} within {timeout:g} s", topic)
        return found[:count]

    def messages(self, topic: str | None = None) -> list[Message]:
        """Return what has come so far, of one topic or of all: `topic`, `body`, `at` (monotonic seconds), `number`."""
        return [each for each in self._monitor.since(0)[0] if topic in {None, each.topic}]

    def expect(
        self, topic: str, where: Where | None = None, within: float = 5.0, *, like: object = None
    ) -> dict[str, Any]:
        """Wait for a message of `topic` behind the last expected one for which `where(message)` is true; return it.

        A message in which `where` does not find what it looks for is another one. With `like`, the message that is
        found must have this structure: `{"text": str, "position": {"x": float}}`, see `shapes.mismatch`.
        """
        found = self._first(topic, where, self._next.get(topic, 0), Deadline(within))
        if found is None:
            what = "message" if where is None else "such message"
            self._fail(f"no {what} on {topic} within {within:g} s", topic, since=self._next.get(topic, 0))
        self._next[topic] = found.number + 1
        if like is not None and (problem := mismatch(found.body, like)):
            raise AssertionError(f"a message on {topic} has another structure: {problem}; it is {found.body!r:.500}")
        return found.body

    def assert_order(self, *steps: Step, within: float = 5.0) -> list[Message]:
        """Wait until messages have come in this order, others between them or not; return them.

        A step is a topic, or a topic and a condition: `("/arm/state", lambda message: message["state"] == "ready")`.
        """
        deadline = Deadline(within)
        found: list[Message] = []
        for number, step in enumerate(steps, 1):
            topic, where = (step, None) if isinstance(step, str) else step
            behind = found[-1].number + 1 if found else 0
            message = self._first(topic, where, behind, deadline)
            if message is None:
                after = f" after that on {found[-1].topic}" if found else ""
                self._fail(f"no message on {topic}{after} within {within:g} s (step {number} of {len(steps)})", topic)
            found.append(message)
        return found

    def assert_rate(self, topic: str, hz: float, tolerance: float = 0.1, over: float = 2.0) -> float:
        """Count the messages of the next `over` seconds; return their rate, which is `hz` plus or minus `tolerance`.

        `tolerance` is a share: 0.1 is ten percent. One message more or less is the window's, not the module's.
        """
        end = time.monotonic() + over
        coming = self._coming(topic, self._monitor.count, Deadline(over))
        times = [each.at for each in coming if each.at <= end]
        rate = len(times) / over
        if not hz * (1 - tolerance) * over - 1 <= len(times) <= hz * (1 + tolerance) * over + 1:
            longest = max((later - earlier for earlier, later in pairwise(times)), default=over)
            self._fail(
                f"{topic} has {rate:g} messages per second, not {hz:g} ± {tolerance:.0%}: "
                f"{len(times)} in {over:g} s, the longest pause {longest:.3f} s",
                topic,
            )
        return rate

    def assert_silent(self, topic: str | None = None, over: float = 1.0) -> None:
        """Listen for `over` seconds, in which no message of `topic`, or none at all, may come."""
        deadline = Deadline(over)
        for each in self._coming(topic, self._monitor.count, deadline):
            raise AssertionError(
                f"a message on {each.topic} after {deadline.elapsed:.3f} of {over:g} s of silence: {each.body!r:.500}"
            )

    def gaps(self, topic: str, key: str = "sequence") -> list[tuple[int, int]]:
        """Return each pair of numbers that came one behind the other on `topic`, and are none: (4, 7), (7, 7), (7, 3).

        `key` is the message's counter. AssertionError for a message without one, and when this monitor has lost some:
        then nobody knows.
        """
        if self._monitor.lost:
            raise AssertionError(f"the monitor has lost {self._monitor.lost} messages: nobody knows about gaps")
        numbers = []
        for each in self.messages(topic):
            number = each.body.get(key)
            if not isinstance(number, int):
                raise AssertionError(f"a message on {topic} has no number {key!r}: {each.body!r:.500}")
            numbers.append(number)
        return [(before, after) for before, after in pairwise(numbers) if after != before + 1]

    def clear(self) -> None:
        """Forget what has come so far."""
        self._monitor.clear()

    def _first(self, topic: str, where: Where | None, behind: int, deadline: Deadline) -> Message | None:
        coming = self._coming(topic, behind, deadline)
        return next((each for each in coming if where is None or _fits(each, where)), None)

    def _coming(self, topic: str | None, behind: int, deadline: Deadline) -> Iterator[Message]:
        """Yield the messages from the number `behind` on, those that are there and those that come in time."""
        is_late = False
        while True:
            messages, behind = self._monitor.since(behind)
            yield from (each for each in messages if topic in {None, each.topic})
            if is_late:
                return
            is_late = not self._monitor.wait(behind, deadline)

    def _fail(self, sentence: str, topic: str, *, since: int = 0) -> NoReturn:
        """Raise AssertionError with what came instead."""
        last = [each.body for each in self.messages(topic) if each.number >= since][-1:]
        parts = [f"the last one on it is {last[0]!r:.500}"] if last else []
        parts.append(f"other topics: {sorted({each.topic for each in self.messages()} - {topic})[:20]}")
        if self._monitor.lost:
            parts.append(f"{self._monitor.lost} messages were too many and are lost")
        if self._monitor.malformed:
            parts.append(f"{self._monitor.malformed} messages were not two frames, a topic and a JSON object")
        raise AssertionError("; ".join([sentence, *parts]))


def _fits(message: Message, where: Where) -> bool:
    try:
        return bool(where(message.body))
    except (LookupError, TypeError, AttributeError):
        return False


@contextmanager
def open_bus(endpoint: str) -> Iterator[Bus]:
    """Subscribe to everything on `endpoint` for the block."""
    monitor = Monitor(endpoint)
    try:
        yield Bus(monitor)
    finally:
        monitor.close()
