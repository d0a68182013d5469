"""Histories whose faults are known, made by chance from a seed."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from roboticks_tasks.history.rows import Cell, Failure, Ran, Table
from roboticks_tasks.models import Provenance, RunResult, StepResult
from roboticks_tasks.reporting.values import Case, Finished

NONE: Mapping[Any, Any] = MappingProxyType({})

BEGIN = datetime.now(UTC) - timedelta(days=100)


class Made(NamedTuple):
    """One run: its commit and board by number, per test (first attempt failed, a later one passed)."""

    commit: int
    board: int
    tests: dict[int, tuple[bool, bool]]
    bench_error: bool = False


def make(
    seed: int,
    *,
    runs: int,
    tests: int = 40,
    boards: int = 8,
    runs_per_commit: int = 25,
    noise: float = 0.0005,
    breaks: float = 0.15,
    flaky_tests: Mapping[int, float] = NONE,
    flaky_boards: Mapping[int, float] = NONE,
    bench_errors: Mapping[int, float] = NONE,
    always: Mapping[tuple[int, int], int] = NONE,
    reruns: bool = False,
) -> list[Made]:
    """Return runs of a product that breaks and is mended again, with rates by number for what is flaky.

    `always` holds (test, board) pairs that fail from a commit on.
    """
    chance = random.Random(seed)
    made: list[Made] = []
    broken: set[int] = set()
    for number in range(runs):
        commit = number // runs_per_commit
        if number % runs_per_commit == 0:
            broken = {test for test in broken if chance.random() < 0.7}
            if chance.random() < breaks:
                broken |= set(chance.sample(range(tests), chance.randint(1, 3)))
        board = chance.randrange(boards)
        outcomes = {}
        for test in range(tests):
            rate = max(noise, flaky_tests.get(test, 0), flaky_boards.get(board, 0))
            sure = test in broken or always.get((test, board), runs) <= commit
            failed = sure or chance.random() < rate
            outcomes[test] = failed, failed and reruns and not sure and chance.random() > rate
        made.append(Made(commit, board, outcomes, chance.random() < bench_errors.get(board, 0)))
    return made


def table(made: list[Made]) -> Table:
    """Return the rows that the history would have of these runs."""
    counts: Counter[tuple[int, int, int]] = Counter()
    failed: Counter[tuple[int, int, int]] = Counter()
    rescued: Counter[tuple[int, int, int]] = Counter()
    failures, ran = [], []
    for number, run in enumerate(made, 1):
        tests = {} if run.bench_error else run.tests
        ran.append(Ran(number, float(number), run.commit + 1, run.board + 1, len(tests), 1, int(run.bench_error)))
        for test, (bad, saved) in tests.items():
            key = test + 1, run.commit + 1, run.board + 1
            counts[key] += 1
            failed[key] += bad
            rescued[key] += saved
            if bad:
                failures.append(Failure(number, *key, int(saved)))
    return Table(
        cells=[Cell(*key, count, failed[key], rescued[key]) for key, count in counts.items()],
        failures=failures,
        runs=ran,
        tests={each + 1: f"test_{each}" for run in made[:1] for each in run.tests},
        boards={each + 1: f"board-{each}" for each in range(1 + max(run.board for run in made))},
        commits={each + 1: commit_of(each) for each in range(1 + made[-1].commit)},
    )


def finished(made: Made, number: int, *, begin: datetime = BEGIN) -> Finished:
    """Return a run as it is recorded; they begin an hour apart."""
    cases = [] if made.bench_error else [_case(test, *outcome) for test, outcome in made.tests.items()]
    failed = sum(case.outcome == "failed" for case in cases)
    verdict = "bench-error" if made.bench_error else "failed" if failed else "passed"
    chance = random.Random(number)
    times = {"await_dsn": chance.gauss(2.1 if number % 9 else 2.6, 0.2), "await_session": chance.gauss(0.6, 0.05)}
    steps = [StepResult(name=name, outcome="ok", duration=seconds) for name, seconds in times.items()]
    return Finished(
        result=RunResult(
            run_id=f"run-{number}",
            profile="jetson",
            verdict=verdict,
            exit_code=int(verdict != "passed"),
            reason="the board did not answer" if made.bench_error else f"{failed} of {len(cases)} tests failed",
            started_at=(begin + timedelta(hours=number)).isoformat(),
            duration=30.0,
            steps=tuple(steps),
            dsn=f"DSN-{made.board}",
            board_id=f"board-{made.board}",
            provenance=Provenance(commit=commit_of(made.commit), is_dirty=False, branch="main"),
        ),
        cases=tuple(cases),
    )


def commit_of(number: int) -> str:
    """Return a hash for a commit's number."""
    return hashlib.sha256(str(number).encode()).hexdigest()[:40]


def _case(test: int, failed: bool, rescued: bool) -> Case:
    return Case(
        nodeid=f"tests/test_robot.py::test_{test}",
        classname="tests.test_robot",
        name=f"test_{test}",
        outcome="failed" if failed and not rescued else "passed",
        duration=0.1,
        attempts=2 if rescued else 1,
    )
