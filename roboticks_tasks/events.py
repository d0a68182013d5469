"""What happens in a run, as frozen values; whoever shows or stores them implements one method."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

log = logging.getLogger(__name__)


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something that happened; `at` is the wall clock in seconds since the epoch."""

    at: float = msgspec.field(default_factory=time.time)


class RunStarted(Event, frozen=True, tag="run-started"):
    """A run began."""

    run_id: str
    profile: str


class StepStarted(Event, frozen=True, tag="step-started"):
    """A step began and may take `timeout` seconds."""

    name: str
    timeout: float | None = None


class StepFinished(Event, frozen=True, tag="step-finished"):
    """A step ended after `duration` seconds; `error` is its sentence when it failed."""

    name: str
    outcome: str
    duration: float
    error: str | None = None


class RunFinished(Event, frozen=True, tag="run-finished"):
    """A run has its verdict."""

    run_id: str
    verdict: str
    exit_code: int
    reason: str
    duration: float


class Sink(Protocol):
    """Whoever wants to know."""

    def __call__(self, event: Event, /) -> None:
        """Take note of one event; must not raise and not take long."""


def fan_out(sinks: Iterable[Sink]) -> Sink:
    """Return one sink that hands every event to all of `sinks`."""
    everyone = tuple(sinks)

    def tell(event: Event) -> None:
        for sink in everyone:
            try:
                sink(event)
            except Exception:
                # Whoever only shows a run must not be able to end it, let alone to skip its teardown.
                log.exception("%s could not be told", type(event).__name__)

    return tell


def write_jsonl(path: Path) -> Sink:
    """Return a sink that appends each event to `path` as one line of JSON."""

    def append(event: Event) -> None:
        # A full disk ends no run here: what has to be on disk is in run.json and result.json.
        with suppress(OSError), path.open("ab") as stream:
            stream.write(msgspec.json.encode(event) + b"\n")

    return append


def ignore(event: Event) -> None:
    """Forget an event: the sink of those who do not care."""
