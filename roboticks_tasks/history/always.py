"""Find the tests that always fail, or nearly so: for a change, which is the change's doing, or on one board."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from roboticks_tasks.history.rows import Cell, Failure, Table

ALWAYS = 5
"""Failures on one board that make a test its own matter."""

MOSTLY = 0.8
"""Share of the runs in which a test has to fail to be broken there: now and then a broken test passes, too."""

NEIGHBOURS = 2
"""Changes before, and after, that are looked at with one whose runs are too few to tell."""

HARDLY = 0.1
"""Rate at which others may fail where a failure is one board's own."""

Key = tuple[int, int]
"""Test and change."""

Totals = dict[Key, tuple[int, int, int, int]]
"""Runs, failures, rescues and number of boards."""


class Specific(NamedTuple):
    """A test that fails on one board: in `failed` of `runs` on `changes` changes, on the others in `others_failed`."""

    test: int
    board: int
    failed: int
    runs: int
    changes: int
    others_failed: int
    others_runs: int


class Broken(NamedTuple):
    """A test that has failed in `failed`, nearly all, of the runs of the latest change that it ran in."""

    test: int
    change: int
    failed: int
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


def find_broken(table: Table, totals: Totals) -> tuple[set[Key], list[Broken]]:
    """Return where each test is broken, and what is broken at the latest change that it ran in.

    It is where it fails in nearly all runs of a change, or of that one and its neighbours: what one change broke stays
    broken with the next, and the few runs of one may happen to be those that passed.
    """
    began = _began(table)
    changes: dict[int, list[int]] = defaultdict(list)
    for test, change in totals:
        if change:
            changes[test].append(change)
    places: set[Key] = set()
    latest: list[Broken] = []
    for test, its in sorted(changes.items()):
        its.sort(key=began.__getitem__)
        counts = [(failed - rescued, runs) for change in its for runs, failed, rescued, _ in (totals[test, change],)]
        if not any(failed for failed, _ in counts):
            continue
        for place, change in enumerate(its):
            around = counts[max(0, place - NEIGHBOURS) : place + NEIGHBOURS + 1]
            if _is_broken(*counts[place]) or _is_broken(sum(f for f, _ in around), sum(n for _, n in around)):
                places.add((test, change))
        failed, runs = counts[-1]
        if runs >= 2 and _is_broken(failed, runs):
            latest.append(Broken(test, its[-1], failed, runs))
    return places, latest


def find_specific(table: Table, failures: list[Failure], totals: Totals) -> list[Specific]:
    """Find the tests that fail on one board in nearly all runs from some change to another, hardly on the others."""
    counts = Counter((each.test, each.board) for each in failures if each.change and each.board)
    pairs = {pair for pair, count in counts.items() if count >= ALWAYS}
    began = _began(table)
    by_test: dict[int, list[Cell]] = {test: [] for test, _ in pairs}
    for cell in table.cells:
        if cell.test in by_test and cell.change and has_passed(totals[cell.test, cell.change]):
            by_test[cell.test].append(cell)
    found = []
    for test, board in pairs:
        cells = sorted(by_test[test], key=lambda cell: began[cell.change])
        stretch = _stretch([cell for cell in cells if cell.board == board])
        changes = {cell.change for cell in stretch}
        others = [cell for cell in cells if cell.board != board and cell.change in changes]
        failed, runs = sum(cell.failed for cell in stretch), sum(cell.runs for cell in stretch)
        others_runs, others_failed = sum(cell.runs for cell in others), sum(cell.failed for cell in others)
        always = failed >= ALWAYS and failed >= MOSTLY * counts[test, board]
        if always and others_runs > 0 and others_failed <= HARDLY * others_runs:
            found.append(Specific(test, board, failed, runs, len(changes), others_failed, others_runs))
    return sorted(found, key=lambda each: (-each.failed, each.test, each.board))


def has_passed(total: tuple[int, int, int, int]) -> bool:
    """Tell whether a test has passed anywhere at a change, if only when it was run again."""
    runs, failed, rescued, _ = total
    return failed < runs or rescued > 0


def _is_broken(failed: int, runs: int) -> bool:
    return failed > 0 and failed >= MOSTLY * runs


def _stretch(cells: list[Cell]) -> list[Cell]:
    """Return the part of the cells with the most failures for its passes: as many as make four of five runs fail."""
    best, best_score, begin, score = (0, 0), 0.0, 0, 0.0
    for place, cell in enumerate(cells):
        if score <= 0:
            begin, score = place, 0.0
        bad = cell.failed - cell.rescued
        score += (1 - MOSTLY) * bad - MOSTLY * (cell.runs - bad)
        if score > best_score:
            best, best_score = (begin, place + 1), score
    return cells[slice(*best)]


def _began(table: Table) -> dict[int, float]:
    """Return when the first run of each change began."""
    return {ran.change: ran.began for ran in reversed(table.runs)}
