"""Moments of a run: the start of a step or its end, as the run itself tells them, and a while after.

What comes after the verdict, the reports and their way to the platform, is no step: it begins where the run has ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

PUBLISHING = "publishing"
"""What begins when the run has told its verdict; nobody tells its end."""

TYPICAL = {
    "spawn": 0.35,
    "ensure_board": 0.01,
    "ensure_binary": 0.03,
    "ensure_backend": 0.3,
    "launch_dm": 0.15,
    "await_dsn": 0.05,
    "await_session": 0.05,
    "deploy": 0.2,
    "pytest_session": 0.7,
    "teardown": 0.15,
    PUBLISHING: 0.15,
}
"""Seconds that each takes, and the start of the program before the first of them."""

PACE = 0.001
"""Seconds between two looks."""


class Moment(NamedTuple):
    """`delay` seconds after a step's start or end; of step "spawn", after the program was started."""

    step: str
    edge: str = "start"
    delay: float = 0.0

    def __str__(self) -> str:
        after = f" + {self.delay * 1000:.0f} ms" if self.delay else ""
        return f"{self.edge} of {self.step}{after}"


def await_moment(moment: Moment, events: Path, *, alive: Callable[[], bool], timeout: float = 60.0) -> bool:
    """Return at the moment; False when it does not come, because the run has ended."""
    deadline = time.monotonic() + timeout
    while moment.step != "spawn" and not _has_come(moment, events):
        if not alive() and not _has_come(moment, events):
            return False
        assert time.monotonic() < deadline, f"{moment} did not come within {timeout:g} s"
        time.sleep(PACE)
    time.sleep(moment.delay)
    return True


def finished_steps(events: Path) -> list[str]:
    """Return the steps that the run has told to have ended well."""
    return [
        each["name"] for each in read_events(events) if each["event"] == "step-finished" and each["outcome"] == "ok"
    ]


def read_events(events: Path) -> list[dict[str, Any]]:
    """Return what the run has told so far; ValueError when a line is no event."""
    text = events.read_text() if events.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True)]


def _has_come(moment: Moment, events: Path) -> bool:
    name = {"start": "step-started", "end": "step-finished"}[moment.edge]
    try:
        text = events.read_text()
    except OSError:
        return False
    return ('"run-finished"' if moment.step == PUBLISHING else f'"{name}","name":"{moment.step}"') in text
