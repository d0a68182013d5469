"""Read the history and put what it tells into one value."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from roboticks_tasks.history.always import MOSTLY
from roboticks_tasks.history.chances import differ, quantile, wilson
from roboticks_tasks.history.comparing import Rate
from roboticks_tasks.history.flakiness import Findings, find
from roboticks_tasks.history.rows import (
    Listed,
    StepTime,
    Table,
    Window,
    read_runs,
    read_steps,
    read_table,
    read_verdicts,
)
from roboticks_tasks.history.store import History
from roboticks_tasks.history.values import BrokenLine, FlakyLine, Report, RunLine, SpecificLine, StepLine

LISTED = 20
"""Runs that are listed where nobody says how many."""

SUSPECTS = 10
"""Tests that have disagreed, but not more often than chance does, that are shown at most."""

ENOUGH = 8
"""Durations in each half from which on a trend is told."""


class Looked(NamedTuple):
    """A report, and what its plots are made of."""

    report: Report
    steps: list[StepTime]
    verdicts: list[tuple[float, str]]


def look(history: History, window: Window) -> Looked:
    """Read the history and say what it tells."""
    count, latest = read_runs(history, window, window.last or LISTED)
    table = read_table(history, window)
    times = read_steps(history, window)
    verdicts = read_verdicts(history, window)
    found = find(table)
    report = Report(
        history=str(history.path),
        runs=count,
        latest=tuple(map(_run, latest)),
        verdicts=_verdicts(verdicts),
        steps=_steps(times),
        tests=_tests(found, table),
        boards=tuple(_flaky(each, table.boards, _mainly(each, found, table)) for each in found.boards),
        bench_errors=tuple(_flaky(each, table.boards) for each in found.bench if each.hits),
        board_specific=tuple(
            SpecificLine(
                test=table.tests[each.test],
                board=table.boards[each.board],
                failed=each.failed,
                runs=each.runs,
                commits=each.changes,
                others_failed=each.others_failed,
                others_runs=each.others_runs,
            )
            for each in found.specific
        ),
        broken=tuple(
            BrokenLine(
                test=table.tests[each.test], commit=table.commits[each.change], failed=each.failed, runs=each.runs
            )
            for each in found.broken
        ),
    )
    return Looked(report, times, verdicts)


def _run(run: Listed) -> RunLine:
    return RunLine(**{**run._asdict(), "began": _moment(run.began)})


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""


def _verdicts(verdicts: list[tuple[float, str]]) -> dict[str, int]:
    return dict(Counter(verdict for _, verdict in verdicts).most_common())


def _steps(times: list[StepTime]) -> tuple[StepLine, ...]:
    """Return each step's times, the slowest first."""
    by_name: dict[str, list[float]] = defaultdict(list)
    for time in times:
        by_name[time.name].append(time.duration)
    lines = [_step(name, durations) for name, durations in by_name.items()]
    return tuple(sorted(lines, key=lambda line: (-line.median, line.name)))


def _step(name: str, durations: list[float]) -> StepLine:
    ordered = sorted(durations)
    line = StepLine(name=name, runs=len(ordered), median=quantile(ordered, 0.5), p95=quantile(ordered, 0.95))
    half = len(durations) // 2
    if half < ENOUGH:
        return line
    earlier, later = sorted(durations[:half]), sorted(durations[half:])
    before, after = quantile(earlier, 0.5), quantile(later, 0.5)
    return msgspec.structs.replace(
        line,
        earlier_median=before,
        later_median=after,
        change=after / before - 1 if before > 0 else None,
        p=differ(earlier, later),
    )


def _tests(found: Findings, table: Table) -> tuple[FlakyLine, ...]:
    named = [each for each in found.tests if each.is_named]
    suspects = [each for each in found.tests if each.hits and not each.is_named]
    return tuple(_flaky(each, table.tests) for each in (*named, *suspects[:SUSPECTS]))


def _flaky(rate: Rate, names: dict[int, str], mainly: str | None = None) -> FlakyLine:
    low, high = wilson(rate.hits, rate.trials)
    return FlakyLine(
        name=names[rate.number],
        is_flaky=rate.is_named,
        hits=rate.hits,
        runs=rate.trials,
        rate=rate.hits / rate.trials if rate.trials else 0.0,
        low=low,
        high=high,
        others_hits=rate.other_hits,
        others_runs=rate.other_trials,
        p=rate.chance,
        mainly=mainly,
    )


def _mainly(board: Rate, found: Findings, table: Table) -> str | None:
    """Return the test that nearly all disagreements on a flaky board are of: it may be its part of the board."""
    if not board.is_named:
        return None
    counts = Counter(each.test for each in found.disagreed if each.board == board.number)
    test, count = counts.most_common(1)[0]
    return table.tests[test] if count >= MOSTLY * counts.total() else None
