"""What is named as flaky, and what is not: on histories whose faults are known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.history import History
from roboticks_tasks.history.chances import at_least, differ, holm, quantile, wilson
from roboticks_tasks.history.comparing import Rate
from roboticks_tasks.history.flakiness import Findings, find
from roboticks_tasks.history.report import look as look_at
from roboticks_tasks.history.rows import Window
from tests.unit.made_history import Made, finished, make, table

SMALL: dict[str, Any] = {"runs": 600, "tests": 15, "boards": 6, "runs_per_commit": 20}


def named(rates: list[Rate]) -> set[int]:
    """Return the numbers, as the history was made with, of what is named."""
    return {each.number - 1 for each in rates if each.is_named}


def look(seed: int, change: Callable[[list[Made]], list[Made]] = list, **options: Any) -> Findings:
    return find(table(change(make(seed, **{**SMALL, **options}))))


def summary(found: Findings) -> tuple[set[int], set[int], set[int], set[tuple[int, int]]]:
    """Return the flaky tests, the flaky boards, those with bench errors, and what is specific to a board."""
    specific = {(each.test - 1, each.board - 1) for each in found.specific}
    return named(found.tests), named(found.boards), named(found.bench), specific


@pytest.mark.parametrize("seed", range(20))
def test_a_flaky_test_and_a_flaky_board_are_named_and_nothing_else(seed: int) -> None:
    assert summary(look(seed, flaky_tests={7: 0.1}, flaky_boards={3: 0.05})) == ({7}, {3}, set(), set())


def test_ten_thousand_runs_read_from_the_file_name_the_flaky_test_and_the_flaky_board(tmp_path: Path) -> None:
    made = make(1, runs=10_000, tests=12, flaky_tests={7: 0.08}, flaky_boards={3: 0.05})
    with History.open(tmp_path / "h") as history:
        history.record(*(finished(each, number) for number, each in enumerate(made)))
        report = look_at(history, Window()).report
    assert [each.name for each in report.tests if each.is_flaky] == ["tests/test_robot.py::test_7"]
    assert [each.name for each in report.boards if each.is_flaky] == ["board-3"]
    assert (report.runs, report.bench_errors, report.board_specific) == (10_000, (), ())


@pytest.mark.parametrize("noise", [0.0005, 0.01])
def test_histories_with_nothing_flaky_name_nothing(noise: float) -> None:
    found = [summary(look(seed, noise=noise)) for seed in range(30)]
    assert found == [(set(), set(), set(), set())] * 30


@pytest.mark.parametrize("seed", range(3))
def test_a_flaky_test_alone_names_no_board_and_a_flaky_board_alone_no_test(seed: int) -> None:
    assert summary(look(seed, flaky_tests={2: 0.5, 4: 0.1})) == ({2, 4}, set(), set(), set())
    assert summary(look(seed, flaky_boards={1: 0.1})) == (set(), {1}, set(), set())


@pytest.mark.parametrize("seed", range(3))
def test_a_test_that_fails_always_on_one_commit_is_broken_and_not_flaky(seed: int) -> None:
    made = [
        run._replace(tests={**run.tests, 5: (run.commit >= 25, False)})
        for run in make(seed, **SMALL, breaks=0, noise=0)
    ]
    found = find(table(made))
    assert summary(found) == (set(), set(), set(), set())
    assert [(each.test - 1, each.change - 1, each.failed, each.runs) for each in found.broken] == [(5, 29, 20, 20)]


@pytest.mark.parametrize("commits", [1, 6, 500])
@pytest.mark.parametrize(("boards", "runs_per_commit"), [(1, 20), (1, 3), (2, 2), (6, 20), (8, 3)])
def test_a_regression_that_passes_now_and_then_is_broken_and_not_flaky(
    boards: int, runs_per_commit: int, commits: int
) -> None:
    for seed in range(3):
        chance = random.Random(seed)
        made = make(seed, **{**SMALL, "boards": boards, "runs_per_commit": runs_per_commit}, breaks=0)
        last = made[-1].commit
        found = find(
            table(
                [
                    run._replace(tests={**run.tests, 5: (chance.random() < 0.93, False)})
                    if run.commit > last - commits
                    else run
                    for run in made
                ]
            )
        )
        assert summary(found) == (set(), set(), set(), set())
        if runs_per_commit == 20:
            assert [(each.test - 1, each.change - 1) for each in found.broken] == [(5, last)]


@pytest.mark.parametrize("runs_per_commit", [2, 8, 40])
def test_a_board_that_is_dead_for_a_day_is_neither_flaky_nor_lacks_what_its_tests_need(runs_per_commit: int) -> None:
    for seed in range(5):
        chance = random.Random(seed)
        options = {**SMALL, "runs": 500, "boards": 3, "runs_per_commit": runs_per_commit, "noise": 0.02}
        made = make(seed, **options, breaks=0)
        dead = [
            run._replace(tests={test: (chance.random() < 0.7, False) for test in run.tests})
            if run.board == 1 and 200 <= number < 224
            else run
            for number, run in enumerate(made)
        ]
        assert summary(find(table(dead))) == (set(), set(), set(), set())


def test_a_test_disagrees_no_more_often_than_it_passes_there() -> None:
    made = [
        Made(commit, board, {0: (commit == 3 and board < 2, False), 1: (False, False)})
        for commit in range(9)
        for board in range(3)
    ]
    assert [each.hits for each in find(table(made)).tests] == [1, 0]


def test_a_camera_that_is_off_for_a_day_on_the_only_board_is_one_outage() -> None:
    made = make(1, **{**SMALL, "boards": 1, "runs_per_commit": 60}, breaks=0)
    dark = [
        run._replace(tests={**run.tests, 5: (True, False)}) if 200 <= number < 224 else run
        for number, run in enumerate(made)
    ]
    found = find(table(dark))
    assert summary(found) == (set(), set(), set(), set())
    assert next(each.hits for each in found.tests if each.number == 6) <= 2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("since", [0, 15])
def test_a_test_that_fails_always_on_one_board_is_that_boards_own_and_neither_is_flaky(seed: int, since: int) -> None:
    assert summary(look(seed, always={(3, 2): since})) == (set(), set(), set(), {(3, 2)})
    assert summary(look(seed, always={(3, 2): since}, flaky_boards={4: 0.08}, flaky_tests={1: 0.1})) == (
        {1},
        {4},
        set(),
        {(3, 2)},
    )


@pytest.mark.parametrize("seed", range(3))
def test_bench_errors_count_against_the_board(seed: int) -> None:
    assert summary(look(seed, bench_errors={4: 0.2})) == (set(), set(), {4}, set())


@pytest.mark.parametrize("seed", range(3))
def test_a_test_that_passes_when_it_is_run_again_is_flaky_though_each_commit_ran_once(seed: int) -> None:
    once: dict[str, Any] = {"runs_per_commit": 1, "flaky_tests": {2: 0.1}}
    assert summary(look(seed, **once, reruns=True)) == ({2}, set(), set(), set())
    assert summary(look(seed, **once)) == (set(), set(), set(), set())  # it may have been the change each time


@pytest.mark.parametrize("seed", range(3))
def test_runs_in_which_everything_fails_at_once_blame_no_test(seed: int) -> None:
    def outage(made: list[Made]) -> list[Made]:
        chance = random.Random(seed)
        return [
            run._replace(tests={test: (bad or chance.random() < 0.7, False) for test, (bad, _) in run.tests.items()})
            if chance.random() < 0.02
            else run
            for run in made
        ]

    assert summary(look(seed, outage)) == (set(), set(), set(), set())


@pytest.mark.parametrize("seed", range(3))
def test_a_board_that_runs_most_of_the_tests_or_one_that_only_it_runs_is_not_flaky_for_that(seed: int) -> None:
    def mostly_there(made: list[Made]) -> list[Made]:
        chance = random.Random(seed)
        return [run._replace(board=0) if chance.random() < 0.6 else run for run in made]

    def only_there(made: list[Made]) -> list[Made]:
        few = {test: outcome for test, outcome in made[0].tests.items() if test < 4}
        return [run if run.board == 0 else run._replace(tests={test: run.tests[test] for test in few}) for run in made]

    assert summary(look(seed, mostly_there, flaky_tests={1: 0.2})) == ({1}, set(), set(), set())
    assert summary(look(seed, only_there, flaky_tests={9: 0.2})) == ({9}, set(), set(), set())


@pytest.mark.parametrize("seed", range(3))
def test_a_test_that_nearly_always_fails_on_one_board_is_that_boards_own(seed: int) -> None:
    def loose(made: list[Made]) -> list[Made]:
        chance = random.Random(seed)
        return [
            run._replace(tests={**run.tests, 5: (chance.random() < 0.95, False)}) if run.board == 2 else run
            for run in made
        ]

    assert summary(look(seed, loose, breaks=0)) == (set(), set(), set(), {(5, 2)})


def test_with_one_board_a_flaky_test_is_still_told_from_a_bench_on_which_all_are_alike() -> None:
    assert summary(look(1, boards=1, flaky_tests={1: 0.1})) == ({1}, set(), set(), set())
    assert summary(look(1, boards=1, noise=0.05)) == (set(), set(), set(), set())


@pytest.mark.parametrize("seed", range(3))
def test_a_test_that_disagrees_on_one_board_alone_is_held_against_the_board(seed: int) -> None:
    def loose_cable(made: list[Made]) -> list[Made]:
        chance = random.Random(seed)
        return [
            run._replace(tests={**run.tests, 5: (True, False)}) if run.board == 2 and chance.random() < 0.4 else run
            for run in made
        ]

    assert summary(look(seed, loose_cable, breaks=0)) == (set(), {2}, set(), set())


def test_an_empty_history_names_nothing() -> None:
    empty = table(make(0, runs=1, tests=1, boards=1))._replace(cells=[], failures=[], runs=[])
    assert summary(find(empty)) == (set(), set(), set(), set())


@pytest.mark.parametrize(
    ("hits", "trials", "rate"), [(3, 10, 0.1), (1, 5, 0.5), (4, 9, 0.7), (9, 9, 0.3), (60, 200, 0.2)]
)
def test_the_binomials_tail_is_the_sum_of_its_terms(hits: int, trials: int, rate: float) -> None:
    terms = (
        math.comb(trials, count) * rate**count * (1 - rate) ** (trials - count) for count in range(hits, trials + 1)
    )
    assert at_least(hits, trials, rate) == pytest.approx(sum(terms), rel=1e-9)


def test_the_binomials_tail_holds_at_its_ends() -> None:
    assert [at_least(0, 5, 0.1), at_least(6, 5, 0.1), at_least(1, 5, 0), at_least(2, 5, 1)] == [1, 0, 0, 1]
    assert 0 <= at_least(5000, 10_000, 1e-9) < 1e-300


def test_the_wilson_interval_is_the_published_one() -> None:
    low, high = wilson(1, 29)  # Newcombe 1998, table I, method 3
    assert (round(low, 4), round(high, 4)) == (0.0061, 0.1718)
    assert wilson(0, 0) == (0, 1)
    assert wilson(0, 20)[0] == pytest.approx(0)
    assert wilson(20, 20)[1] == pytest.approx(1)


def test_holms_correction_grows_with_the_number_of_questions_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_a_rank_test_agrees_with_the_count_of_all_arrangements() -> None:
    first, second = [1.0, 2.0, 3.0, 5.0, 7.0, 8.0, 11.0, 14.0], [4.0, 6.0, 9.0, 10.0, 12.0, 13.0, 15.0, 16.0]
    everything = [*first, *second]

    def excess(indexes: tuple[int, ...]) -> float:
        return abs(sum(sorted(everything).index(everything[index]) + 1 for index in indexes) - 68)

    found = excess(tuple(range(8)))
    ways = list(combinations(range(16), 8))
    exact = sum(excess(way) >= found for way in ways) / len(ways)
    assert differ(first, second) == pytest.approx(exact, abs=0.01)
    assert differ([1.0] * 9, [1.0] * 9) == differ([], [1.0]) == 1


def test_a_quantile_is_interpolated() -> None:
    assert [quantile([1, 2, 3, 4], share) for share in (0, 0.5, 1)] == [1, 2.5, 4]
    assert quantile([7], 0.95) == 7
