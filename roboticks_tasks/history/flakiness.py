"""Tell flaky tests and flaky boards apart: pure functions over the history's rows.

What is compared is one change: the same commit, from a clean tree, under one profile. A test that failed in some of its
runs there and passed in others has *disagreed*; the code was the same, so it is the test or the board. A test that
failed there in four of five runs or more is broken, which is the change's doing, and says nothing here. It is the first
attempt that counts: a test that passed when it was run again has disagreed as well.

Runs of one change on one board follow each other, and an outage spoils all that it lasts for: failures in a row there
count once. Nor does a test disagree more often at a change than it passes there.

- A **board** is flaky when, of the runs of the same changes in which a test disagreed, more were on it than its share
  of those runs makes likely. This is the Cochran-Mantel-Haenszel comparison of one board with all others, with changes
  as strata and runs as units (tests of one run fail together), by the bound that a binomial is for a sum of
  hypergeometrics. Its bench errors are compared in the same way.
- A **test** is flaky when, on the boards that are not, it disagrees more often than chance does: a binomial test of
  its failures among its runs against the rate of the tests that are not flaky, or one in 200 where they have less.
- A test that nearly always fails on one board, and hardly ever on the others, for the same changes, is
  **board-specific**: neither the test nor the board is flaky; something is missing there.

Both kinds are named where the probability is below 0.001 after Holm's correction for the number of boards or tests, and
the rate is twice that of the others. Whose failures belong to a board do not count against a test, and the other way
round: the two are asked in turn until nothing changes.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from roboticks_tasks.history.always import Broken, Key, Specific, add_up, find_broken, find_specific, has_passed
from roboticks_tasks.history.chances import at_least, holm
from roboticks_tasks.history.comparing import TIMES, Rate, compare, order
from roboticks_tasks.history.rows import Cell, Failure, Ran, Table

NOISE = 0.005
"""Rate at which any test may disagree: no bench is better than that."""

TOGETHER = (3, 4)
"""A run in which so many tests, and one of so many of its tests, disagree at once says nothing of a single test."""

ROUNDS = 5
"""Times that tests and boards are asked in turn, at most."""


class Findings(NamedTuple):
    """All rates, the most unlikely first, those that are named and the rest."""

    boards: list[Rate]
    bench: list[Rate]
    tests: list[Rate]
    specific: list[Specific]
    broken: list[Broken]
    disagreed: list[Failure]


def find(table: Table) -> Findings:
    """Return what is flaky, what is specific to a board, and what is broken."""
    totals = add_up(table.cells)
    failures = [each for each in table.failures if each.rescued or (each.change and has_passed(totals[_key(each)]))]
    crowded = _crowded(table, failures)
    table = table._replace(cells=_without(table.cells, [each for each in failures if each.run in crowded]))
    specific = find_specific(table, [each for each in failures if each.run not in crowded], totals)
    own = {(each.test, each.board) for each in specific}
    cells = [cell for cell in table.cells if (cell.test, cell.board) not in own]
    places, latest = find_broken(table, add_up(cells))
    disagreed = [each for each in failures if (each.test, each.board) not in own and _key(each) not in places]
    before = _before([ran for ran in table.runs if ran.cases])
    once = _once(disagreed, before)
    of_tests = [each for each in once if each.run not in crowded]
    # What ran on one board alone tells nothing of it.
    of_boards = [each for each in once if totals[_key(each)][3] > 1]
    flaky: set[int] = set()
    boards: list[Rate] = []
    tests: list[Rate] = []
    for _ in range(ROUNDS):
        boards = _compare(
            [ran for ran in table.runs if ran.cases], {each.run for each in of_boards if each.test not in flaky}
        )
        bad = {each.number for each in boards if each.is_named}
        tests = _tests(cells, of_tests, bad)
        found = {each.number for each in tests if each.is_named}
        if found == flaky:
            break
        flaky = found
    counted = [ran for ran in table.runs if ran.counts]
    errors = {ran.id for ran in counted if ran.bench_error}
    before = _before(counted)
    bench = _compare(counted, {run for run in errors if before[run] not in errors})
    return Findings(boards, bench, tests, specific, latest, disagreed)


def _without(cells: list[Cell], failures: list[Failure]) -> list[Cell]:
    """Return the cells as if these failures had never been."""
    lost = Counter((each.test, each.change, each.board) for each in failures if not each.rescued)
    if not lost:
        return cells
    less = (cell._replace(runs=cell.runs - n, failed=cell.failed - n) for cell in cells for n in (lost[cell[:3]],))
    return [cell for cell in less if cell.runs]


def _key(failure: Failure) -> Key:
    return failure.test, failure.change


def _compare(runs: list[Ran], hits: set[int]) -> list[Rate]:
    """Compare how many of each board's runs are `hits` with the others'."""
    return compare(
        Counter((ran.change, ran.board) for ran in runs),
        Counter((ran.change, ran.board) for ran in runs if ran.id in hits),
    )


def _before(runs: list[Ran]) -> dict[int, int]:
    """Return the run before each one, of the same change on the same board; 0 for the first."""
    before: dict[int, int] = {}
    last: dict[tuple[int, int], int] = {}
    for ran in runs:
        place = ran.change, ran.board
        before[ran.id] = last.get(place, 0)
        last[place] = ran.id
    return before


def _once(failures: list[Failure], before: dict[int, int]) -> list[Failure]:
    """Return the failures without those that follow one of the same test, of the same change on the same board."""
    bad = {(each.run, each.test) for each in failures if not each.rescued}
    return [each for each in failures if each.rescued or (before.get(each.run), each.test) not in bad]


def _tests(cells: list[Cell], disagreed: list[Failure], bad: set[int]) -> list[Rate]:
    """Compare how often each test disagrees on the boards that are not `bad` with what chance does."""
    trials: Counter[int] = Counter()
    passed: Counter[Key] = Counter()
    for test, change, board, runs, failed, rescued in cells:
        if board not in bad:
            passes = runs - failed + rescued
            passed[test, change] += passes
            trials[test] += runs if change else passes
    hits: Counter[int] = Counter()
    for key, count in Counter(_key(each) for each in disagreed if each.board not in bad).items():
        hits[key[0]] += min(count, passed[key])
    named: set[int] = set()
    rates: list[Rate] = []
    for _ in range(ROUNDS):  # what is named is no measure for the others
        all_hits = sum(count for test, count in hits.items() if test not in named)
        all_trials = sum(count for test, count in trials.items() if test not in named)
        rates = []
        for test, count in trials.items():
            mine = (0, 0) if test in named else (hits[test], count)
            others, other_trials = all_hits - mine[0], all_trials - mine[1]
            noise = max(NOISE, others / other_trials if other_trials else 0.0)
            worse = count > 0 and hits[test] / count >= TIMES * noise
            chance = at_least(hits[test], count, noise)
            rates.append(Rate(test, hits[test], count, others, other_trials, chance, worse))
        chances = holm([each.chance for each in rates])
        rates = [each._replace(chance=chance) for each, chance in zip(rates, chances, strict=True)]
        found = {each.number for each in rates if each.is_named}
        if found <= named:
            break
        named |= found
    return sorted(rates, key=order)


def _crowded(table: Table, disagreed: list[Failure]) -> set[int]:
    """Return the runs in which so many tests disagreed at once that no single one is to blame."""
    most, share = TOGETHER
    cases = {ran.id: ran.cases for ran in table.runs}
    counts = Counter(each.run for each in disagreed)
    return {run for run, count in counts.items() if count >= most and count * share >= cases.get(run, 0)}
