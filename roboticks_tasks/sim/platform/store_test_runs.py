"""Test runs and their cases in the store. Every function gets the connection first.

A run is named by its id, which the platform makes, or by the name that its sender gave it: who sends progress knows no
id yet (our choice).
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from roboticks_tasks.sim.platform import store_files, store_tokens
from roboticks_tasks.sim.platform.junit import Case, Report
from roboticks_tasks.sim.platform.parse import iso

STATUSES = ("pending", "queued", "running", "passed", "failed", "error", "cancelled", "timed_out", "completed")
"""All that one may ask for: documentation and the platform's own client each have words of their own. A run here is
`running`, `passed`, `failed`, or `error` when it has no test or was never heard of again."""

OVER = ("passed", "failed", "error", "skipped")
"""How a case ends; `rerun` is an attempt that is made again."""

MOST_CASES = 20_000

RUN = """SELECT r.*, count(c.nodeid) AS known, coalesce(sum(c.status = 'passed'), 0) AS passed,
    coalesce(sum(c.status IN ('failed', 'error')), 0) AS failed, coalesce(sum(c.status = 'skipped'), 0) AS skipped
    FROM test_runs r LEFT JOIN test_cases c ON c.run_id = r.id"""

SELECTED = """WHERE r.id IN (SELECT id FROM test_runs WHERE (:status IS NULL OR status = :status)
    AND (:branch IS NULL OR branch = :branch) ORDER BY started_at DESC, rowid DESC LIMIT :limit)
    GROUP BY r.id ORDER BY r.started_at DESC, r.rowid DESC"""

METADATA = ("branch", "commit_sha", "pr_number", "release", "ci_provider", "ci_run_url")


class Ingested(NamedTuple):
    """What an ingestion has made."""

    id: str
    is_new: bool
    status: str
    links: int


class Progress(NamedTuple):
    """What became of a case at a time; `status` is `running` from its beginning on."""

    nodeid: str
    at: float
    status: str
    classname: str = ""
    name: str = ""
    duration: float | None = None
    message: str | None = None


class TooManyCasesError(ValueError):
    """A run would have more cases than are kept; the message is one sentence."""


def _now() -> int:
    return time.time_ns() // 1000


def _document(row: sqlite3.Row) -> dict[str, Any]:
    end = row["completed_at"]
    lasted = (end or _now()) - row["started_at"]
    return {
        "id": row["id"],
        "run_name": row["name"],
        "status": row["status"],
        **{key: row[key] for key in METADATA},
        "tests_total": max(row["known"], row["announced"] or 0),
        "tests_passed": row["passed"],
        "tests_failed": row["failed"],
        "tests_skipped": row["skipped"],
        "requirement_coverage_pct": None,
        "started_at": iso(row["started_at"]),
        "completed_at": iso(end),
        "duration_seconds": row["duration"] if row["duration"] is not None else max(0.0, lasted / 1e6),
    }


def identify(connection: sqlite3.Connection, key: str) -> str | None:
    """Return the id of the run with this id or name."""
    row = connection.execute("SELECT id FROM test_runs WHERE id = :key OR name = :key", {"key": key}).fetchone()
    return str(row["id"]) if row is not None else None


def find(connection: sqlite3.Connection, key: str) -> dict[str, Any] | None:
    """Return the run with this id or name."""
    row = connection.execute(f"{RUN} WHERE r.id = ? GROUP BY r.id", (identify(connection, key),)).fetchone()
    return _document(row) if row is not None else None


def page(connection: sqlite3.Connection, *, status: str | None, branch: str | None, limit: int) -> list[dict[str, Any]]:
    """Return runs, newest first."""
    rows = connection.execute(
        " ".join((RUN, SELECTED)),
        {"status": status, "branch": branch, "limit": limit},
    )
    return [_document(row) for row in rows]


def cases(connection: sqlite3.Connection, run: str) -> list[dict[str, Any]]:
    """Return the cases of a run (its id), in their order."""
    rows = connection.execute("SELECT * FROM test_cases WHERE run_id = ? ORDER BY position", (run,))
    return [
        {
            **{key: row[key] for key in ("name", "classname", "nodeid", "status", "message")},
            "duration_seconds": row["duration"],
            "confirms": [word for word in row["confirms"].split(",") if word],
        }
        for row in rows
    ]


def ingest(
    connection: sqlite3.Connection, report: Report, *, name: str, metadata: dict[str, Any], token: int | None = None
) -> Ingested:
    """Keep a finished run; one of the same name, its progress included, is replaced.

    `token` (its id) has been used once more; UsedUpError when it may not be.
    """
    if token is not None:
        store_tokens.use(connection, token)
    known = identify(connection, name)
    run, now = known or str(uuid.uuid4()), _now()
    connection.execute(
        """INSERT INTO test_runs (id, name, status, started_at, kept_at) VALUES (?, ?, 'running', ?, ?)
        ON CONFLICT (id) DO NOTHING""",
        (run, name, report.started_at or now - round((report.duration or 0) * 1e6), now),
    )
    values = {key: metadata.get(key) for key in METADATA}
    connection.execute(
        """UPDATE test_runs SET status = :status, branch = :branch, commit_sha = :commit_sha, pr_number = :pr_number,
        release = :release, ci_provider = :ci_provider, ci_run_url = :ci_run_url, announced = NULL,
        started_at = min(started_at, coalesce(:started, started_at)), duration = :duration, completed_at = :now,
        kept_at = :now WHERE id = :run""",
        {
            **values,
            "status": report.status,
            "started": report.started_at,
            "duration": report.duration,
            "now": now,
            "run": run,
        },
    )
    connection.execute("DELETE FROM test_cases WHERE run_id = ?", (run,))
    connection.executemany(
        """INSERT INTO test_cases (run_id, position, nodeid, classname, name, status, duration, message, confirms)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        ((run, position, *_columns(case)) for position, case in enumerate(report.cases)),
    )
    store_files.bind(connection, run, report.references)
    links = {(case.nodeid, each) for case in report.cases for each in case.confirms}
    return Ingested(run, known is None, report.status, len(links))


def _columns(case: Case) -> tuple[object, ...]:
    confirms = ",".join(case.confirms)
    return case.nodeid, case.classname, case.name, case.status, case.duration, case.message, confirms


def progress(connection: sqlite3.Connection, name: str, events: Sequence[Progress], *, total: int | None) -> int:
    """Take note of how a run gets on, and begin it if need be; return how many events told something new.

    What is older than what is known of a case is passed over, and so is everything about a run that is over: a
    message may arrive twice, or late. TooManyCasesError beyond `MOST_CASES`.
    """
    run, now = identify(connection, name), _now()
    if run is None:
        run = str(uuid.uuid4())
        first = min((round(event.at * 1e6) for event in events), default=now)
        connection.execute(
            "INSERT INTO test_runs (id, name, status, started_at, kept_at) VALUES (?, ?, 'running', ?, ?)",
            (run, name, first, now),
        )
    if connection.execute("SELECT status FROM test_runs WHERE id = ?", (run,)).fetchone()["status"] != "running":
        return 0
    connection.execute(
        "UPDATE test_runs SET kept_at = ?, announced = coalesce(?, announced) WHERE id = ?", (now, total, run)
    )
    return sum(_note(connection, run, event) for event in events)


def _note(connection: sqlite3.Connection, run: str, event: Progress) -> int:
    row = connection.execute(
        "SELECT position, at, status FROM test_cases WHERE run_id = ? AND nodeid = ?", (run, event.nodeid)
    ).fetchone()
    if row is not None:
        # By the same clock both may have the same time: then a case that is over has begun before.
        if (event.at, event.status in OVER) <= (row["at"], row["status"] in OVER):
            return 0
        return connection.execute(
            """UPDATE test_cases SET status = ?, at = ?, duration = ?, message = ?,
            classname = coalesce(nullif(?, ''), classname), name = coalesce(nullif(?, ''), name)
            WHERE run_id = ? AND position = ?""",
            (
                *(event.status, event.at, event.duration, event.message),
                *(event.classname, event.name, run, row["position"]),
            ),
        ).rowcount
    position = connection.execute(
        "SELECT coalesce(max(position) + 1, 0) FROM test_cases WHERE run_id = ?", (run,)
    ).fetchone()[0]
    if position >= MOST_CASES:
        raise TooManyCasesError(f"events: a run has at most {MOST_CASES} cases")
    connection.execute(
        """INSERT INTO test_cases (run_id, position, nodeid, classname, name, status, duration, message, at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            *(run, position, event.nodeid, event.classname, event.name or event.nodeid),
            *(event.status, event.duration, event.message, event.at),
        ),
    )
    return 1


def give_up(connection: sqlite3.Connection, *, before: int) -> int:
    """End runs of which nothing was heard since `before` (microseconds since 1970), and return how many."""
    return connection.execute(
        "UPDATE test_runs SET status = 'error', completed_at = kept_at WHERE status = 'running' AND kept_at < ?",
        (before,),
    ).rowcount
