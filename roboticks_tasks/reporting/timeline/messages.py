"""What the modules said on their bus, and what the platform has of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import isfinite

import msgspec

from roboticks_tasks.reporting.timeline.board_log import Entry
from roboticks_tasks.reporting.timeline.levels import WORDS
from roboticks_tasks.reporting.timeline.lines import WIDEST, as_line


class BusMessage(msgspec.Struct, frozen=True):
    """A line of bus.jsonl; `message` stays as it was sent."""

    at: float
    topic: str
    message: msgspec.Raw = msgspec.Raw(b"null")


class PlatformLine(msgspec.Struct, frozen=True):
    """A line of platform.jsonl; by the board's clock where `clock` is "board", else by this machine's."""

    at: float
    text: str
    level: str | None = None
    clock: str | None = None


def bus_entries(messages: Iterable[BusMessage]) -> Iterator[Entry]:
    """Yield a line a message: its topic, and the object as it was sent."""
    for message in messages:
        if isfinite(message.at):
            said = bytes(message.message)[: 4 * WIDEST].decode("utf-8", "backslashreplace")
            yield message.at, as_line(f"{message.topic} {said}"), None


def platform_entries(lines: Iterable[PlatformLine], to_bench: Callable[[float], float]) -> Iterator[Entry]:
    """Yield what the platform has, by time; `to_bench` turns the board's stamps into moments of this machine's clock.

    How session and device stand in the end comes before the session's log in the file, which is bounded.
    """
    entries: list[Entry] = []
    for line in lines:
        if isfinite(line.at):
            at = to_bench(line.at) if line.clock == "board" else line.at
            entries.append((at, as_line(line.text), WORDS.get((line.level or "").lower())))
    yield from sorted(entries, key=lambda entry: entry[0])
