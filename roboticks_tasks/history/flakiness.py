"""Tell flaky tests and flaky boards apart: pure functions over the history's rows.

What is compared is one change: the same commit, from a clean tree, under one profile. A test that failed in some of its
runs there and passed in others has *disagreed*; the code was the same, so it is the test or the board. A test that
always failed there is broken, which is the change's doing, and says nothing here. It is the first attempt that counts:
a test that passed when it was run again has disagreed as well.

- A **board** is flaky when, of the runs of the same changes in which a test disagreed, more were on it than its share
  of those runs makes likely. This is the Cochran-Mantel-Haenszel comparison of one board with all others, with changes
  as strata and runs as units (tests of one run fail together), by the bound that a binomial is for a sum of
  hypergeometrics. Its bench errors are compared in the same way.
- A **test** is flaky when, on the boards that are not, it disagrees more often than chance does: a binomial test of
  its failures among its runs against the rate of the tests that are not flaky, or one in 200 where they have less.
- A test that fails always on one board, and hardly ever on the others, for the same changes, is **board-specific**:
  neither the test nor the board is flaky; something is missing there.

Both kinds are named where the probability is below 0.001 after Holm's correction for the number of boards or tests, and
the rate is twice that of the others. Whose failures belong to a board do not count against a test, and the other way
round: the two are asked in turn until nothing changes.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from roboticks_tasks.history.always import Broken, Specific, add_up, find_broken, find_specific, tells
from roboticks_tasks.history.chances import at_least, holm
from roboticks_tasks.history.comparing import TIMES, Rate, compare, order
from roboticks_tasks.history.rows import Cell, Failure, Table

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
    mixed = {key for key, (runs, failed, rescued, _) in totals.items() if failed and (failed < runs or rescued)}
    disagreed = [each for each in table.failures if each.rescued or (each.change and (each.test, each.change) in mixed)]
    specific = find_specific(table, disagreed, totals)
    own = {(each.test, each.board) for each in specific}
    disagreed = [each for each in disagreed if (each.test, each.board) not in own]
    cells = [cell for cell in table.cells if (cell.test, cell.board) not in own and tells(cell, totals)]
    # What ran on one board alone tells nothing of it.
    shared = [each for each in disagreed if totals[each.test, each.change][3] > 1]
    flaky: set[int] = set()
    boards: list[Rate] = []
    tests: list[Rate] = []
    for _ in range(ROUNDS):
        boards = _boards(table, {each.run for each in shared if each.test not in flaky})
        bad = {each.number for each in boards if each.is_named}
        tests = _tests(table, cells, disagreed, bad)
        found = {each.number for each in tests if each.is_named}
        if found == flaky:
            break
        flaky = found
    bench = compare(
        Counter((ran.change, ran.board) for ran in table.runs if ran.counts),
        Counter((ran.change, ran.board) for ran in table.runs if ran.bench_error),
    )
    return Findings(boards, bench, tests, specific, find_broken(table, totals), disagreed)


def _boards(table: Table, runs: set[int]) -> list[Rate]:
    """Compare each board's runs in which a test disagreed with the others'."""
    with_tests = [ran for ran in table.runs if ran.cases]
    return compare(
        Counter((ran.change, ran.board) for ran in with_tests),
        Counter((ran.change, ran.board) for ran in with_tests if ran.id in runs),
    )


def _tests(table: Table, cells: list[Cell], disagreed: list[Failure], bad: set[int]) -> list[Rate]:
    """Compare how often each test disagrees on the boards that are not `bad` with what chance does."""
    trials: Counter[int] = Counter()
    for test, change, board, runs, failed, rescued in cells:
        if board not in bad:
            trials[test] += runs if change else runs - failed + rescued
    crowded = _crowded(table, disagreed)
    hits = Counter(each.test for each in disagreed if each.board not in bad and each.run not in crowded)
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
