"""Find the tests that always fail: for one change, which is the change's doing, or on one board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from roboticks_tasks.history.rows import Cell, Failure, Table

ALWAYS = 5
"""Runs in a row that make "always"."""

MOSTLY = 0.8
"""Share of a test's failures on a board that has to be in that row: before and after it there may be noise."""

HARDLY = 0.1
"""Rate at which others may fail where a failure is one board's own."""

Totals = dict[tuple[int, int], tuple[int, int, int, int]]
"""Runs, failures, rescues and number of boards by test and change."""


class Specific(NamedTuple):
    """A test that always fails on one board: `failed` runs on `changes` changes; the others failed `others_failed`."""

    test: int
    board: int
    failed: int
    changes: int
    others_failed: int
    others_runs: int


class Broken(NamedTuple):
    """A test that has failed in every run of the latest change that it ran in."""

    test: int
    change: int
    runs: int


def add_up(cells: Iterable[Cell]) -> Totals:
    totals: Totals = {}
    for test, change, _, runs, failed, rescued in cells:
        key = test, change
        if key in totals:
            before = totals[key]
            totals[key] = before[0] + runs, before[1] + failed, before[2] + rescued, before[3] + 1
        else:
            totals[key] = runs, failed, rescued, 1
    return totals


def tells(cell: Cell, totals: Totals) -> bool:
    """Tell whether a test's runs there say something of the test: they do not where it is broken."""
    runs, failed, rescued, _ = totals[cell.test, cell.change]
    return failed < runs or rescued > 0


def find_specific(table: Table, disagreed: list[Failure], totals: Totals) -> list[Specific]:
    """Find the tests that fail on one board in every run from some change to another one, and hardly on the others."""
    counts = Counter((each.test, each.board) for each in disagreed if each.change and each.board)
    pairs = {pair for pair, count in counts.items() if count >= ALWAYS}
    began = {ran.change: ran.began for ran in reversed(table.runs)}
    by_test: dict[int, list[Cell]] = {test: [] for test, _ in pairs}
    for cell in table.cells:
        if cell.test in by_test and cell.change and tells(cell, totals):
            by_test[cell.test].append(cell)
    found = []
    for test, board in pairs:
        cells = sorted(by_test[test], key=lambda cell: began[cell.change])
        streak = _streak([cell for cell in cells if cell.board == board])
        changes = {cell.change for cell in streak}
        others = [cell for cell in cells if cell.board != board and cell.change in changes]
        failed = sum(cell.failed for cell in streak)
        others_runs, others_failed = sum(cell.runs for cell in others), sum(cell.failed for cell in others)
        always = failed >= ALWAYS and failed >= MOSTLY * counts[test, board]
        if always and others_runs > 0 and others_failed <= HARDLY * others_runs:
            found.append(Specific(test, board, failed, len(changes), others_failed, others_runs))
    return sorted(found, key=lambda each: (-each.failed, each.test, each.board))


def _streak(cells: list[Cell]) -> list[Cell]:
    """Return the longest part of the cells in which all runs failed."""
    best: list[Cell] = []
    streak: list[Cell] = []
    for cell in cells:
        streak = [*streak, cell] if cell.failed == cell.runs and not cell.rescued else []
        best = max(best, streak, key=len)
    return best


def find_broken(table: Table, totals: Totals) -> list[Broken]:
    """Return the tests that have failed in all runs, two or more, of the latest change that they ran in."""
    began = {ran.change: ran.began for ran in table.runs}
    latest: dict[int, int] = {}
    for test, change in totals:
        if change and totals[test, change][0] and (test not in latest or began[change] > began[latest[test]]):
            latest[test] = change
    return [
        Broken(test, change, runs)
        for test, change in sorted(latest.items())
        for runs, failed, rescued, _ in (totals[test, change],)
        if runs >= 2 and failed == runs and not rescued
    ]
