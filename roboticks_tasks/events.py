"""What happens in a run, as frozen values; whoever shows or stores them implements one method."""

from __future__ import annotations

import io
import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from roboticks_tasks.models import Attachment

log = logging.getLogger(__name__)


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something that happened; `at` is the wall clock in seconds since the epoch.

    It is for people, and goes back when the clock is set back: what came first is told by the order of the lines, how
    long something took by its `duration`.
    """

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


class CaseStarted(Event, frozen=True, tag="case-started"):
    """A test began; `worker` is that of pytest-xdist."""

    nodeid: str
    worker: str | None = None


class CaseFinished(Event, frozen=True, tag="case-finished"):
    """A test ended: one event for each attempt, that of one which is run again has the outcome `rerun`.

    `begin` is the wall clock like `at`, `duration` seconds of set-up, call and tear-down. `classname` and `name` are
    what pytest's JUnit file calls the test. `message` is the first line of what went wrong or of why it was skipped,
    `file` and `line` (from 1, `file` relative to pytest's root directory) are where.
    """

    nodeid: str
    classname: str
    name: str
    outcome: Literal["passed", "failed", "error", "skipped", "rerun"]
    begin: float
    duration: float
    worker: str | None = None
    message: str | None = None
    file: str | None = None
    line: int | None = None
    attachments: tuple[Attachment, ...] = ()


class Commanded(Event, frozen=True, tag="commanded"):
    """A test ran a command on the target, or moved a file; `output` is what it printed, cut to its end."""

    nodeid: str | None
    command: str
    exit_code: int | None
    begin: float
    duration: float
    output: str = ""


AnyEvent = RunStarted | StepStarted | StepFinished | RunFinished | CaseStarted | CaseFinished | Commanded
"""Every kind of event, told apart by the word under `event`."""


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
    """Return a sink that appends each event to `path` as one line of JSON, in one write; `read_events` reads them."""

    def append(event: Event) -> None:
        line = _encode(event)
        # A full disk ends no run here: what has to be on disk is in run.json and result.json.
        with suppress(OSError), path.open("a+b", buffering=0) as stream:
            stream.write(line if _ends_whole(stream) else b"\n" + line)

    return append


def read_events(path: Path) -> list[AnyEvent]:
    """Read what `write_jsonl` has written, however its writer ended, in the order in which it happened.

    A last line that was cut off and lines that are no event are passed over; a file that cannot be read holds none.
    """
    events: list[AnyEvent] = []
    with suppress(OSError):
        decoder = msgspec.json.Decoder(AnyEvent)
        for line in path.read_bytes().split(b"\n"):
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                events.append(decoder.decode(line))
    return events


def _ends_whole(stream: io.FileIO) -> bool:
    """Tell whether the file is empty or its last line complete: one whose writer was killed must not swallow ours."""
    if stream.seek(0, os.SEEK_END) == 0:
        return True
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


def _encode(event: Event) -> bytes:
    try:
        return msgspec.json.encode(event) + b"\n"
    except UnicodeEncodeError:  # a path that is no text is part of a sentence
        values = msgspec.to_builtins(event)
        words = {name: value for name, value in values.items() if isinstance(value, str)}
        printable = {name: word.encode("utf-8", "backslashreplace").decode() for name, word in words.items()}
        return msgspec.json.encode({**values, **printable}) + b"\n"


def ignore(event: Event) -> None:
    """Forget an event: the sink of those who do not care."""
