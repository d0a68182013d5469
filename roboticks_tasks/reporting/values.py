"""What the reports are made of: values that are read from a run's folder, and nothing else."""

from __future__ import annotations

from typing import Literal

from roboticks_tasks.events import AnyEvent
from roboticks_tasks.models import Attachment, RunResult, Value
from roboticks_tasks.state import RunState

Source = Literal["lifecycle", "device", "console", "test", "target", "bus", "platform"]
"""Who said a line: the run's steps, the device manager's log, the serial console, the tests' boundaries, the commands
that tests ran on the board, the modules' messages, the platform."""

Level = Literal["debug", "info", "warning", "error"]


class Line(Value, frozen=True, kw_only=True):
    """One line of the timeline; `at` is in seconds since the epoch by this machine's clock, whoever's clock it had."""

    at: float
    source: Source
    text: str
    level: Level | None = None


class Case(Value, frozen=True, kw_only=True):
    """One test, as its last attempt ended; `begin` and `end` in seconds since the epoch, None where nobody noted them.

    `detail` is what pytest or another tool says of the failure (a traceback), `output` what the test printed, both cut.
    `file` and `line` are where it failed. `attempts` counts: more than one, and it was run again.
    """

    nodeid: str
    classname: str
    name: str
    outcome: Literal["passed", "failed", "error", "skipped"]
    duration: float
    message: str = ""
    detail: str = ""
    output: str = ""
    file: str | None = None
    line: int | None = None
    begin: float | None = None
    end: float | None = None
    worker: str | None = None
    attempts: int = 1
    attachments: tuple[Attachment, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()


class Finished(Value, frozen=True, kw_only=True):
    """A run that has its verdict, with all that its folder holds but the logs; `cases` in the order they ran in.

    `problems` are sentences about what could not be read there.
    """

    result: RunResult
    state: RunState | None = None
    events: tuple[AnyEvent, ...] = ()
    cases: tuple[Case, ...] = ()
    problems: tuple[str, ...] = ()


class Diagnosis(Value, frozen=True, kw_only=True):
    """The answer to the question of a red run: is it the change, the test, or the bench?

    `sentence` comes first in every report: who is to blame, what happened, and the device's own word for it where it
    has one. `advice` is what to do next, `evidence` the lines that the sentence rests on.
    """

    cause: Literal["none", "change", "test", "bench", "platform", "profile", "cancelled", "bug"]
    sentence: str
    advice: str = ""
    evidence: tuple[Line, ...] = ()
