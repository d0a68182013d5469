"""A short campaign, always the same one; `nox -s chaos` does longer ones."""

from __future__ import annotations

from pathlib import Path

from tests.faults.campaign import draw, play_all, table
from tests.faults.cases import Outcome
from tests.faults.injections import FAULTS

SEED = 5
RUNS = 12


def test_a_seed_draws_the_same_cases_each_time_and_every_fault_in_turn() -> None:
    cases = draw(SEED, 2 * len(FAULTS))
    assert cases == draw(SEED, 2 * len(FAULTS)) != draw(SEED + 1, 2 * len(FAULTS))
    assert {case.fault for case in cases[: len(FAULTS)]} == set(FAULTS)


def test_harm_at_random_moments_leaves_nothing_behind_and_loses_nothing() -> None:
    problems = {}

    def tell(number: int, outcome: Outcome, folder: Path) -> None:
        if outcome.problems:
            problems[f"{number}: {outcome.case} ({folder})"] = outcome.problems

    outcomes = play_all(enumerate(draw(SEED, RUNS, kinds=("sim",))), jobs=2, tell=tell)
    assert problems == {}
    assert f"| all | sim | {len({each.case.moment[:2] for each in outcomes})} | {RUNS} |" in table(outcomes)
    assert sum(each.missed for each in outcomes) < RUNS / 2
