"""The run on a time axis: a bar for each step, a strip for the tests, one for the teardown's parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from roboticks_tasks.events import RunStarted, StepFinished, StepStarted
from roboticks_tasks.reporting.page.wording import seconds
from roboticks_tasks.reporting.values import Case, Finished

MOST = 40
"""Steps that are drawn."""

SLOTS = 300
"""How finely the tests' strip tells them apart; of the tests in one slot the worst is shown."""

THINNEST = 0.25
"""Percent of the axis that the shortest bar is wide."""

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)

WORST = ("failed", "error", "skipped", "passed")


class Bar(NamedTuple):
    """A stretch of time, in percent of the axis; `tone` is the outcome that colours it."""

    x: float
    width: float
    tone: str
    title: str


class Row(NamedTuple):
    """A line of the chart; `start` and `duration` in words."""

    name: str
    outcome: str
    start: str
    duration: str
    bars: list[Bar]
    error: str = ""
    is_part: bool = False


class Chart(NamedTuple):
    """The rows, the ticks as percent and words, and the moments of failures in percent."""

    rows: list[Row]
    ticks: list[tuple[float, str]]
    failures: list[float]


class _Axis(NamedTuple):
    begin: float
    length: float

    def at(self, moment: float) -> float:
        return round(min(max((moment - self.begin) / self.length * 100, 0.0), 100.0), 2)

    def bar(self, begin: float, end: float, tone: str, title: str) -> Bar:
        x = min(self.at(begin), 100 - THINNEST)
        return Bar(x, round(max(self.at(end) - x, THINNEST), 2), tone, title)


class _Step(NamedTuple):
    name: str
    outcome: str
    begin: float
    end: float
    error: str


def draw(finished: Finished) -> Chart:
    """Return the chart of a run; of a run whose events are lost, its steps end to end."""
    steps = _steps(finished)[:MOST]
    timed = [(case.begin, case.end, case) for case in finished.cases if case.begin is not None and case.end is not None]
    began = [event.at for event in finished.events if isinstance(event, RunStarted)]
    begin = min([*began[:1], *(step.begin for step in steps)], default=0.0)
    end = max([step.end for step in steps], default=begin)
    axis = _Axis(begin, max(end - begin, 0.001))
    rows = []
    for step in steps:
        length = seconds(step.end - step.begin)
        bar = axis.bar(step.begin, step.end, step.outcome, f"{step.name}, {step.outcome}: {length}")
        error = "" if step.error == finished.result.reason else step.error  # it has been told already
        rows.append(Row(step.name, step.outcome, seconds(step.begin - begin), length, [bar], error))
        if step.name == "pytest_session" and timed:
            rows.append(_tests(axis, timed))
        if step.name == "teardown" and finished.result.teardown and finished.result.teardown.parts:
            rows.append(_parts(axis, step, finished))
    failed = sorted({axis.at(moment) for _, moment, case in timed if case.outcome in {"failed", "error"}})
    return Chart(rows, _ticks(axis.length), _apart(failed))


def _steps(finished: Finished) -> list[_Step]:
    begun: dict[str, float] = {}
    steps: list[_Step] = []
    for event in finished.events:
        if isinstance(event, StepStarted):
            begun[event.name] = event.at
        elif isinstance(event, StepFinished):
            begin = begun.pop(event.name, event.at - event.duration)
            steps.append(_Step(event.name, event.outcome, begin, begin + event.duration, event.error or ""))
    if steps:
        return steps
    at = 0.0
    for each in finished.result.steps:
        steps.append(_Step(each.name, each.outcome, at, at + each.duration, each.error or ""))
        at += each.duration
    return steps


def _tests(axis: _Axis, timed: Sequence[tuple[float, float, Case]]) -> Row:
    """Return the strip of the tests: neighbours of one outcome are one bar."""
    slots: dict[int, str] = {}
    for begin, end, case in timed:
        for slot in range(int(axis.at(begin) * SLOTS / 100), int(axis.at(end) * SLOTS / 100) + 1):
            slots[slot] = min(slots.get(slot, "passed"), case.outcome, key=WORST.index)
    width = 100 / SLOTS
    bars: list[Bar] = []
    for slot, tone in sorted(slots.items()):
        x = min(slot, SLOTS - 1) * width
        if bars and bars[-1].tone == tone and x - (bars[-1].x + bars[-1].width) < width / 2:
            bars[-1] = bars[-1]._replace(width=round(x + width - bars[-1].x, 2))
        else:
            bars.append(Bar(round(x, 2), round(width, 2), tone, tone))
    first, last = min(begin for begin, _, _ in timed), max(end for _, end, _ in timed)
    outcome = min((case.outcome for _, _, case in timed), key=WORST.index)
    return Row("tests", outcome, seconds(first - axis.begin), seconds(last - first), bars, is_part=True)


def _parts(axis: _Axis, step: _Step, finished: Finished) -> Row:
    """Return the strip of the teardown's parts, of which only the order and the durations are known."""
    report = finished.result.teardown
    assert report is not None
    bars, at = [], step.begin
    for part in report.parts[:50]:
        tone = "ok" if part.ok else "failed"
        bars.append(axis.bar(at, at + part.duration, tone, f"{part.name}: {seconds(part.duration)}"))
        at += part.duration
    start, length = seconds(step.begin - axis.begin), seconds(at - step.begin)
    return Row("parts", "ok" if report.ok else "failed", start, length, bars, is_part=True)


def _ticks(length: float) -> list[tuple[float, str]]:
    distance = next((each for each in TICKS if length / each <= 8), length / 4)
    return [
        (round(number * distance / length * 100, 2), seconds(number * distance, short=True))
        for number in range(int(length / distance) + 1)
    ]


def _apart(places: Sequence[float]) -> list[float]:
    """Return the places without those that would be drawn on top of another."""
    kept: list[float] = []
    for place in places:
        if not kept or place - kept[-1] >= THINNEST:
            kept.append(place)
    return kept
