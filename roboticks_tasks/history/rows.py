"""What the statistics are made of: rows of the history, counted by SQLite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from roboticks_tasks.history.schema import explained
from roboticks_tasks.history.store import History

COUNTED = ("passed", "failed", "bench-error")
"""Verdicts that say something of a board; the platform, the profile and whoever cancels a run are not its fault."""


class Window(NamedTuple):
    """Which runs count: of one profile, begun at `since` (seconds since the epoch) or later, the `last` of them."""

    profile: str | None = None
    since: float | None = None
    last: int | None = None


class Cell(NamedTuple):
    """How often a test ran for one change on one board, how often its first attempt failed, and a later one passed.

    A change is a commit with a clean tree under one profile, 0 where the code is not known to be a commit's. Board 0
    is an unknown one.
    """

    test: int
    change: int
    board: int
    runs: int
    failed: int
    rescued: int


class Failure(NamedTuple):
    """A test whose first attempt failed in a run; `rescued`: a later one passed."""

    run: int
    test: int
    change: int
    board: int
    rescued: int


class Ran(NamedTuple):
    """A run: when it began, where, how many tests it ran, whether its verdict tells of the board, and is bad."""

    id: int
    began: float
    change: int
    board: int
    cases: int
    counts: int
    bench_error: int


class Table(NamedTuple):
    """All that tells flaky tests from flaky boards; the names stand under the numbers in the rows."""

    cells: list[Cell]
    failures: list[Failure]
    runs: list[Ran]
    tests: dict[int, str]
    boards: dict[int, str]
    commits: dict[int, str]


class Listed(NamedTuple):
    """A run as the list shows it; times in seconds, `began` since the epoch."""

    run_id: str
    profile: str
    board: str | None
    verdict: str
    reason: str
    began: float
    duration: float
    commit: str | None
    is_dirty: bool | None
    branch: str | None
    ci: str | None


class StepTime(NamedTuple):
    """How long a step that succeeded took, in seconds, in the run that began then."""

    began: float
    name: str
    duration: float


def read_table(history: History, window: Window) -> Table:
    """Read what the statistics need."""
    clause, values = _clause(history, window)
    with explained(history.path):
        ask = history.connection.execute
        # Without a condition the index alone has the answer.
        join, run = ("", "") if clause == "1" else (" JOIN run ON run.id = run", f" AND {clause}")
        columns = "test, outcome.change_id, outcome.board_id"
        cells = ask(
            f"SELECT {columns}, COUNT(failed), SUM(failed), SUM(rescued) FROM outcome{join} "  # noqa: S608
            f"WHERE failed IS NOT NULL{run} GROUP BY 1, 2, 3",
            values,
        )
        failures = ask(f"SELECT run, {columns}, rescued FROM outcome{join} WHERE failed = 1{run}", values)  # noqa: S608
        words = ", ".join(f"'{verdict}'" for verdict in COUNTED)
        runs = ask(
            f"SELECT id, began, change_id, board_id, cases, verdict IN ({words}), verdict = 'bench-error' "  # noqa: S608
            f"FROM run WHERE {clause} ORDER BY began",
            values,
        )
        return Table(
            cells=list(map(Cell._make, cells)),
            failures=list(map(Failure._make, failures)),
            runs=list(map(Ran._make, runs)),
            tests=_names(ask("SELECT id, nodeid FROM test")),
            boards=_names(ask("SELECT id, name FROM board")),
            commits=_names(ask('SELECT id, "commit" FROM change')),
        )


def read_runs(history: History, window: Window, most: int) -> tuple[int, list[Listed]]:
    """Return how many runs there are, and the latest of them, the newest first."""
    clause, values = _clause(history, window)
    with explained(history.path):
        count = history.connection.execute(f"SELECT COUNT(*) FROM run WHERE {clause}", values).fetchone()[0]  # noqa: S608
        rows = history.connection.execute(
            'SELECT run_id, profile, board, verdict, reason, began, duration, "commit", is_dirty, branch, ci '  # noqa: S608
            f"FROM run WHERE {clause} ORDER BY began DESC, id DESC LIMIT ?",
            (*values, most),
        ).fetchall()
    return count, [Listed(*row)._replace(is_dirty=None if row[8] is None else bool(row[8])) for row in rows]


def read_verdicts(history: History, window: Window) -> list[tuple[float, str]]:
    """Return when each run began, and its verdict, the oldest first."""
    clause, values = _clause(history, window)
    with explained(history.path):
        return history.connection.execute(
            f"SELECT began, verdict FROM run WHERE {clause} ORDER BY began",  # noqa: S608
            values,
        ).fetchall()


def read_steps(history: History, window: Window) -> list[StepTime]:
    """Return the steps that succeeded, the oldest first."""
    clause, values = _clause(history, window)
    with explained(history.path):
        rows = history.connection.execute(
            "SELECT began, name, step.duration FROM run JOIN step ON step.run = run.id "  # noqa: S608
            f"WHERE outcome = 'ok' AND {clause} ORDER BY began, run.id",
            values,
        )
        return list(map(StepTime._make, rows))


def _clause(history: History, window: Window) -> tuple[str, tuple[Any, ...]]:
    """Return the condition that a run has to meet, with its values; "1" where there is none."""
    parts: list[str] = []
    values: list[Any] = []
    if window.profile is not None:
        parts.append("run.profile = ?")
        values.append(window.profile)
    if window.since is not None:
        parts.append("run.began >= ?")
        values.append(window.since)
    if window.last is not None:
        # Of several that began at once, all count: one more does no harm.
        before = f"SELECT began FROM run WHERE {' AND '.join(parts) or '1'} ORDER BY began DESC LIMIT 1 OFFSET ?"  # noqa: S608
        with explained(history.path):
            oldest = history.connection.execute(before, (*values, max(window.last, 1) - 1)).fetchone()
        if oldest is not None:
            parts.append("run.began >= ?")
            values.append(oldest[0])
    return " AND ".join(parts) or "1", tuple(values)


def _names(rows: Iterable[tuple[int, str]]) -> dict[int, str]:
    return dict(rows)
