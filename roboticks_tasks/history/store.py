"""The history: every run that has ended, its steps and its tests, in one file that many runs write at once."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from roboticks_tasks.history.schema import PATIENCE, connect, explained, writing
from roboticks_tasks.models import Provenance, RunResult
from roboticks_tasks.reporting.values import Case, Finished
from roboticks_tasks.reporting.words import count

DAY = 86_400.0

KEPT_DAYS, KEPT_RUNS = 400, 20_000
"""How long a run is remembered, and how many are: a year of nightly comparisons, about 40 MB for 40 tests each."""

SWEEP = 20
"""Runs that are forgotten at most when one is recorded: nobody waits for a clean-up."""

REFUSED = "refused"
"""The id of what never became a run: its board was in use, say."""

LONGEST = 1000
"""Characters of a name or a reason."""

MOST_CASES = 100_000
"""Tests of one run."""

RUN_COLUMNS = (
    'run_id, profile, board, verdict, exit_code, reason, began, duration, "commit", is_dirty, branch, ci, url, dsn, '
    "change_id, board_id, cases"
)

Counts = tuple[int, int, int, int, int]
"""Change, board, failures, rescues and runs of one test."""

COUNTS = (
    "SELECT change_id, board_id, SUM(failed), SUM(rescued), COUNT(failed) FROM outcome WHERE test = ?1 AND run != ?2 "
    "AND failed IS NOT NULL AND change_id IN ({changes}) GROUP BY 1, 2"
)

RECENT = 'SELECT id FROM change WHERE "commit" IS NOT ?3 ORDER BY id DESC LIMIT 100'
"""The commits that a note looks back on."""

ORPHANS = (
    "DELETE FROM test WHERE id NOT IN (SELECT test FROM outcome)",
    "DELETE FROM change WHERE id NOT IN (SELECT change_id FROM run)",
    "DELETE FROM board WHERE id NOT IN (SELECT board_id FROM run)",
)


class History:
    """An open history; every method raises HistoryError where the file cannot be used."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection

    @classmethod
    def open(cls, path: Path, *, patience: float = PATIENCE) -> Self:
        """Open the file at `path`; it is made when there is none. Others may have it locked for `patience` seconds."""
        return cls(path, connect(path, patience))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with explained(self.path):
            self.connection.close()

    def record(self, *runs: Finished) -> None:
        """Remember runs, all of them or none, in place of what was known of them; forget a few that are too old.

        A run that was refused its board never ran and is passed over.
        """
        with explained(self.path), writing(self.connection):
            for finished in runs:
                if finished.result.run_id != REFUSED:
                    _insert(self.connection, finished)
            _forget(self.connection, time.time() - KEPT_DAYS * DAY, keep=KEPT_RUNS, most=SWEEP)

    def prune(self, days: float) -> int:
        """Forget the runs that began more than `days` ago, give their room back, and return how many they were."""
        with explained(self.path):
            with writing(self.connection):
                gone = _forget(self.connection, time.time() - days * DAY, keep=KEPT_RUNS, most=-1)
                for statement in ORPHANS:
                    self.connection.execute(statement)
            if gone:
                with suppress(sqlite3.OperationalError):  # somebody reads, or there is no room for it
                    self.connection.execute("VACUUM")
        return gone

    def flaky_note(self, nodeid: str, commit: str | None, *, besides: str | None = None) -> str | None:
        """Say what other runs tell of a test that has failed at `commit` (None where the tree is not that commit).

        None when they say nothing, or that it always fails. The run with the id `besides` does not count.
        """
        with explained(self.path):
            ask = self.connection.execute
            test = ask("SELECT id FROM test WHERE nodeid = ?", (_text(nodeid),)).fetchone()
            but = ask("SELECT id FROM run WHERE run_id = ?", (_text(besides),)).fetchone()
            if test is None:
                return None
            known = (test[0], but[0] if but else 0, _text(commit))
            here = ask(COUNTS.format(changes='SELECT id FROM change WHERE "commit" = ?3'), known).fetchall()
            there = ask(COUNTS.format(changes=RECENT), known).fetchall()
        return _here(here, "other run" if besides else "run") or _elsewhere(there)


def _here(rows: list[Counts], noun: str) -> str | None:
    """Say how a test fared in the runs of one commit; None when it always failed."""
    failed, rescued, runs = (sum(row[index] for row in rows) for index in (2, 3, 4))
    if not runs or (failed == runs and not rescued):
        return None
    of = f"{count(runs, noun)} of this same commit, on {count(len({row[1] for row in rows}), 'board')}"
    again = f"; {rescued} of them passed when run again" if rescued else ""
    return f"failed in {failed} of {of}{again}" if failed else f"passed in {of}"


def _elsewhere(rows: list[Counts]) -> str | None:
    """Say on how many other commits a test has both failed and passed; None for one: that may have been the change."""
    changes: dict[int, tuple[int, int, int]] = {}
    for change, _, *more in rows:
        before = changes.get(change, (0, 0, 0))
        changes[change] = before[0] + more[0], before[1] + more[1], before[2] + more[2]
    mixed = {change: each for change, each in changes.items() if each[0] and (each[0] < each[2] or each[1])}
    if len(mixed) < 2:
        return None
    failed, runs = (sum(each[index] for each in mixed.values()) for index in (0, 2))
    boards = count(len({row[1] for row in rows if row[0] in mixed and row[2]}), "board")
    return f"failed in {failed} of {runs} runs of {len(mixed)} other commits on which it has passed, too, on {boards}"


def _insert(connection: sqlite3.Connection, finished: Finished) -> None:
    result, origin = finished.result, finished.result.provenance
    connection.execute("DELETE FROM run WHERE run_id = ?", (_text(result.run_id),))
    # Two changed trees at one commit are two changes: only what stands for itself, a test run again, says something.
    change = _change(connection, result) if origin.commit and not origin.is_dirty else 0
    board = _number(connection, "board", "name", result.board_id) if result.board_id else 0
    cases = _merged(finished.cases)
    row = (*_columns(result, origin), change, board, sum(each.outcome != "skipped" for each in cases))
    marks = ", ".join("?" * len(row))
    run = connection.execute(f"INSERT INTO run ({RUN_COLUMNS}) VALUES ({marks})", row).lastrowid  # noqa: S608
    connection.executemany(
        "INSERT OR REPLACE INTO step VALUES (?, ?, ?, ?)",
        [(run, _text(step.name), step.outcome, _seconds(step.duration)) for step in result.steps],
    )
    connection.executemany(
        "INSERT INTO outcome VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(run, _number(connection, "test", "nodeid", case.nodeid), change, board, *_outcome(case)) for case in cases],
    )


def _columns(result: RunResult, origin: Provenance) -> tuple[object, ...]:
    words = (result.run_id, result.profile, result.board_id, result.verdict)
    later = (origin.commit, origin.is_dirty, origin.branch, origin.ci, origin.url, result.dsn)
    return (
        *map(_text, words),
        result.exit_code,
        _text(result.reason),
        began(result.started_at),
        _seconds(result.duration),
        *(_text(word) if isinstance(word, str) else word for word in later),
    )


def _outcome(case: Case) -> tuple[object, ...]:
    bad = case.outcome in {"failed", "error"}
    again = case.attempts > 1
    known = case.outcome != "skipped"
    counts = (int(bad or again), int(again and not bad)) if known else (None, None)
    return (case.outcome, *counts, min(max(case.attempts, 1), 1_000_000), _seconds(case.duration))


def _merged(cases: tuple[Case, ...]) -> list[Case]:
    """Return one case for each name, the last one: some tools' JUnit files have several."""
    found: dict[str | None, Case] = {}
    for case in cases:
        if (name := _text(case.nodeid)) in found or len(found) < MOST_CASES:
            found[name] = case
    return list(found.values())


def _change(connection: sqlite3.Connection, result: RunResult) -> int:
    key = (_text(result.provenance.commit), _text(result.profile))
    connection.execute('INSERT OR IGNORE INTO change ("commit", profile) VALUES (?, ?)', key)
    return int(connection.execute('SELECT id FROM change WHERE "commit" = ? AND profile = ?', key).fetchone()[0])


def _number(connection: sqlite3.Connection, table: str, column: str, word: str) -> int:
    """Return the number of a name, a new one for a new name."""
    key = (_text(word),)
    found = connection.execute(f"SELECT id FROM {table} WHERE {column} = ?", key).fetchone()  # noqa: S608
    if found is None:
        return int(connection.execute(f"INSERT INTO {table} ({column}) VALUES (?)", key).lastrowid or 0)  # noqa: S608
    return int(found[0])


def _forget(connection: sqlite3.Connection, before: float, *, keep: int, most: int) -> int:
    """Remove the oldest runs, at most so many: those that began before a time, and more than `keep` of them."""
    surplus = connection.execute("SELECT COUNT(*) FROM run").fetchone()[0] - keep
    oldest = "DELETE FROM run WHERE id IN (SELECT id FROM run"
    removed = connection.execute(f"{oldest} WHERE began < ? ORDER BY began LIMIT ?)", (before, most)).rowcount
    surplus -= removed
    if surplus > 0:
        few = surplus if most < 0 else min(surplus, most)
        removed += connection.execute(f"{oldest} ORDER BY began LIMIT ?)", (few,)).rowcount
    return removed


def began(started_at: str) -> float:
    """Return an ISO 8601 time as seconds since the epoch; one that says nothing is now."""
    try:
        moment = datetime.fromisoformat(started_at)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return time.time()


def _text(word: str | None) -> str | None:
    """Return a word as the file can hold it."""
    return None if word is None else word[:LONGEST].encode("utf-8", "backslashreplace").decode()


def _seconds(duration: float) -> float:
    return duration if math.isfinite(duration) and 0 <= duration <= 1e9 else 0.0
