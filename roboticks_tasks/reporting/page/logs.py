"""Parts of the merged log for the page: the lines nearest to what went wrong, as far as there is room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from roboticks_tasks.events import StepStarted
from roboticks_tasks.reporting.page.text import Budget, shorten, size
from roboticks_tasks.reporting.page.wording import relative
from roboticks_tasks.reporting.values import Case, Finished, Line, Source

TOTAL = 1_200_000
"""Bytes of all log lines in a page; the tests that failed come first."""

SLICE, LEAST = 48_000, 3_000
"""Bytes of the lines around one failure, and what it has at least while there is any room left."""

LINES = 400
"""Lines around one failure."""

TAIL = 60
"""Lines of each source at the end of the page."""

EVIDENCE = 20

LONGEST = 2_000
"""Characters of one line."""

ROW = 64
"""Bytes that a line takes besides its text."""

ALERTS = {"warning", "error"}

BEFORE, AFTER = 2.0, 1.0
"""Seconds around a failure that are asked for."""

FILE = "timeline.jsonl"

SOURCES: dict[Source, str] = {
    "lifecycle": "the run's steps",
    "device": "the device manager's log",
    "console": "the serial console",
    "test": "where tests begin and end",
    "target": "commands of the tests on the board",
    "bus": "the modules' messages",
    "platform": "the platform",
}


class Timeline(Protocol):
    """All that was said during a run, sorted by time: what this page asks of it."""

    @property
    def lines(self) -> int:
        """Return how many lines there are."""
        ...

    def slice_of(self, nodeid: str, *, most: int = ..., before: float = ..., after: float = ...) -> Sequence[Line]:
        """Return the lines of a test, and of so many seconds before and after it."""
        ...

    def span(self, begin: float, end: float, *, most: int) -> Sequence[Line]:
        """Return the lines between two moments, in seconds since the epoch."""
        ...

    def tail(self, source: Source, count: int) -> Sequence[Line]:
        """Return the last lines of a source."""
        ...


class Shown(NamedTuple):
    """A line as the page has it; `is_moment` for the first one after the moment the times are relative to.

    `is_decisive` for the one that is to be seen first.

    `level` colours it, `word` is the level where the line does not say it itself. `gap` counts the lines that are left
    out before it.
    """

    when: str
    source: str
    level: str
    word: str
    text: str
    is_moment: bool
    is_decisive: bool
    gap: int


class Slice(NamedTuple):
    """Lines in order; `moment` tells that their times are relative to one, `left_out` what is missing, in words."""

    lines: list[Shown]
    moment: bool
    left_out: str = ""


def shown(
    lines: Sequence[Line],
    budget: Budget,
    *,
    most: int,
    moment: float | None = None,
    evidence: Sequence[Line] = (),
) -> Slice:
    """Return those lines that fit: warnings and errors in half of the room, then what is nearest to `moment`."""
    centre = moment if moment is not None else max((line.at for line in lines), default=0.0)
    nearest = sorted(range(len(lines)), key=lambda number: (abs(lines[number].at - centre), -number))
    room = min(most, budget.left)
    alerts, left = _fitting(lines, [number for number in nearest if lines[number].level in ALERTS], room // 2)
    near, left = _fitting(lines, [number for number in nearest if number not in alerts], room - (room // 2 - left))
    budget.spend(room - left)
    fit = alerts | near
    kept = sorted(fit)
    after = next((number for number in kept if moment is not None and lines[number].at > moment), None)
    gaps = [number - before - 1 for before, number in pairwise([-1, *kept])]
    first = _decisive(lines, [each for each in nearest if each in fit], evidence) if moment is not None else None
    rows = [
        _shown(lines[each], moment, is_moment=each == after, is_decisive=each == first, gap=gap)
        for each, gap in zip(kept, gaps, strict=True)
    ]
    missing = len(lines) - len(kept)
    return Slice(rows, moment is not None, f"{missing} lines are left out here, they are in {FILE}" if missing else "")


def _decisive(lines: Sequence[Line], numbers: Sequence[int], evidence: Sequence[Line]) -> int | None:
    """Return which of `numbers`, the nearest first, the diagnosis rests on, else that of an error, else a warning.

    That tests and steps have failed is no news.
    """
    told = [number for number in numbers if lines[number].source not in {"test", "lifecycle"}]
    wanted: tuple[Callable[[Line], bool], ...] = (
        lambda line: line in evidence,
        lambda line: line.level == "error",
        lambda line: line.level == "warning",
    )
    return next((number for is_wanted in wanted for number in told if is_wanted(lines[number])), None)


def _fitting(lines: Sequence[Line], numbers: Sequence[int], room: int) -> tuple[set[int], int]:
    """Return the first of `numbers` whose lines fit into `room` bytes, and what is left of that."""
    kept = set()
    for number in numbers:
        cost = ROW + size(shorten(lines[number].text, LONGEST))
        if cost > room:
            break
        room -= cost
        kept.add(number)
    return kept, room


def _shown(line: Line, moment: float | None, *, is_moment: bool, is_decisive: bool, gap: int) -> Shown:
    level = line.level if line.level in {"warning", "error", "debug"} else ""
    text = shorten(line.text, LONGEST)
    is_said = level == "debug" or (level or "").upper()[:4] in text[:80].upper()
    return Shown(
        relative(line.at, moment),
        line.source,
        level or "",
        "" if is_said else level or "",
        text,
        is_moment,
        is_decisive,
        gap,
    )


def around(
    case: Case, timeline: Timeline | None, evidence: Sequence[Line], budget: Budget, *, most: int
) -> Slice | None:
    """Return the lines around the end of a test that failed; None when nothing was recorded."""
    if timeline is None or budget.left < ROW:
        return None
    lines = timeline.slice_of(case.nodeid, most=LINES, before=BEFORE, after=AFTER)
    found = shown(lines, budget, most=most, moment=case.end, evidence=evidence)
    if len(lines) >= LINES and not found.left_out:
        found = found._replace(left_out=f"This is not all, the rest is in {FILE}")
    return found if lines else None


def broken_step(
    finished: Finished, timeline: Timeline | None, evidence: Sequence[Line], budget: Budget
) -> tuple[str, Slice] | None:
    """Return the step that failed, and what was said before it ended; None when none did."""
    step = next((each for each in finished.result.steps if each.outcome != "ok"), None)
    if step is None or timeline is None:
        return None
    began = [event.at for event in finished.events if isinstance(event, StepStarted) and event.name == step.name]
    if not began:
        return None
    end = began[-1] + step.duration
    lines = timeline.span(began[-1] - BEFORE, end + AFTER, most=LINES)
    return (step.name, shown(lines, budget, most=SLICE, moment=end, evidence=evidence)) if lines else None


def tails(timeline: Timeline | None, budget: Budget) -> list[tuple[str, Slice]]:
    """Return the last lines of each source that said anything."""
    if timeline is None:
        return []
    found = ((source, timeline.tail(source, TAIL)) for source in SOURCES)
    return [(source, shown(lines, budget, most=SLICE // 4)) for source, lines in found if lines]
