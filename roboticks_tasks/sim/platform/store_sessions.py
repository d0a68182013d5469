"""Sessions and logs in the store. Every function gets the connection first."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable
from typing import Any, NamedTuple

from roboticks_tasks.sim.platform import store_devices
from roboticks_tasks.sim.platform.parse import iso

STATUSES = ("active", "completed", "failed")

END = """UPDATE sessions SET status = 'failed', ended_at = max(started_at, ?), kept_at = ?, presumed = 1
    WHERE status = 'active' AND"""
"""Presume that a session has failed; parameters: when, now, and those of the rest."""

ACTIVE = "SELECT s.id FROM devices d CROSS JOIN sessions s ON s.device_id = d.id AND s.status = 'active'"
"""From the few devices to their sessions: the other way round SQLite would look at every session."""

SESSION = "SELECT s.*, d.dsn FROM sessions s JOIN devices d ON d.id = s.device_id"


class Entry(NamedTuple):
    """One log message; `timestamp` in microseconds since 1970."""

    timestamp: int
    level: str
    module: str
    message: str


class Filter(NamedTuple):
    """Which log messages are asked for; `since` is included, `until` is not; None means any."""

    level: str | None = None
    module: str | None = None
    search: str | None = None
    since: int | None = None
    until: int | None = None


def _now() -> int:
    return time.time_ns() // 1000


def _document(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "device_id": row["device_id"],
        "dsn": row["dsn"],
        "name": row["name"],
        "status": row["status"],
        "metadata": json.loads(row["metadata"]),
        "tags": json.loads(row["tags"]),
        "started_at": iso(row["started_at"]),
        "ended_at": iso(row["ended_at"]),
    }


def find(connection: sqlite3.Connection, session: str) -> dict[str, Any] | None:
    """Return the session object."""
    row = connection.execute(f"{SESSION} WHERE s.id = ?", (session,)).fetchone()
    return _document(row) if row is not None else None


def page(
    connection: sqlite3.Connection,
    *,
    device: str | None,
    status: str | None,
    since: int | None,
    until: int | None,
    offset: int,
    limit: int,
) -> tuple[list[dict[str, Any]], int]:
    """Return the sessions from `offset`, newest first, and how many there are; `device` is an id or a DSN."""
    values = {"device": device, "status": status, "since": since, "until": until, "limit": limit, "offset": offset}
    tests = {
        "device": "s.device_id = (SELECT id FROM devices WHERE id = :device OR dsn = :device)",
        "status": "s.status = :status",
        "since": "s.started_at >= :since",
        "until": "s.started_at < :until",
    }
    wanted = " AND ".join(["WHERE true", *(test for key, test in tests.items() if values[key] is not None)])
    order = "ORDER BY s.started_at DESC, s.rowid DESC LIMIT :limit OFFSET :offset"
    rows = connection.execute(" ".join((SESSION, wanted, order)), values).fetchall()
    total = connection.execute(" ".join(("SELECT COUNT(*) FROM sessions s", wanted)), values).fetchone()[0]
    return [_document(row) for row in rows], total


def create(
    connection: sqlite3.Connection,
    device: str,
    *,
    request: str,
    name: str,
    metadata: dict[str, object],
    started_at: int,
) -> tuple[str, str]:
    """Create a session of a device (its id), return id and status; the same `request` again gives the same session.

    A device has one active session: one that it never completed, because it crashed, is presumed to have failed (our
    choice).
    """
    known = connection.execute(
        "SELECT id, status FROM sessions WHERE device_id = ? AND request = ?", (device, request)
    ).fetchone()
    if known is not None:
        return known["id"], known["status"]
    connection.execute(f"{END} device_id = ?", (started_at, _now(), device))
    identity = str(uuid.uuid4())
    connection.execute(
        "INSERT INTO sessions (id, device_id, request, name, status, metadata, started_at, kept_at)"
        " VALUES (?, ?, ?, ?, 'active', ?, ?, ?)",
        (identity, device, request, name, json.dumps(metadata), started_at, _now()),
    )
    return identity, "active"


def complete(connection: sqlite3.Connection, device: str, *, session: str, status: str, ended_at: int) -> str | None:
    """End a session of `device` and return its status, None when the device has no such session.

    A session ends once: when it has ended already, its status stays and is returned, unless that was only presumed.
    """
    connection.execute(
        """UPDATE sessions SET status = ?, ended_at = ?, kept_at = ?, presumed = 0
        WHERE id = ? AND device_id = ? AND (status = 'active' OR presumed)""",
        (status, ended_at, _now(), session, device),
    )
    row = connection.execute("SELECT status FROM sessions WHERE id = ? AND device_id = ?", (session, device)).fetchone()
    return str(row["status"]) if row is not None else None


def abandoned(connection: sqlite3.Connection) -> list[str]:
    """Return the active sessions of devices that are offline; one that has never sent a heartbeat is not missed."""
    rows = connection.execute(
        " ".join((ACTIVE, "WHERE d.last_heartbeat IS NOT NULL AND", store_devices.STATUS, "= 'offline'")),
        {"moment": store_devices.moment()},
    )
    return [row["id"] for row in rows]


def give_up(connection: sqlite3.Connection, session: str) -> None:
    """End a session whose device is gone, as failed: a presumption, which `revive` and `complete` may correct."""
    connection.execute(f"{END} id = ?", (_now(), _now(), session))


def revive(connection: sqlite3.Connection, device: str, session: str) -> None:
    """Take back the presumption that a session has failed: its device says that it is in it."""
    connection.execute(
        """UPDATE sessions SET status = 'active', ended_at = NULL, kept_at = ?, presumed = 0
        WHERE id = ? AND device_id = ? AND presumed
        AND NOT EXISTS (SELECT 1 FROM sessions WHERE device_id = ? AND status = 'active')""",
        (_now(), session, device, device),
    )


def remove(connection: sqlite3.Connection, session: str) -> bool:
    """Forget a session with its logs; False when there is none."""
    return connection.execute("DELETE FROM sessions WHERE id = ?", (session,)).rowcount > 0


def tag(connection: sqlite3.Connection, session: str, word: str, *, present: bool) -> list[str] | None:
    """Add or take away a tag and return the session's tags; None when there is no such session."""
    row = connection.execute("SELECT tags FROM sessions WHERE id = ?", (session,)).fetchone()
    if row is None:
        return None
    tags = [known for known in json.loads(row["tags"]) if known != word] + ([word] if present else [])
    connection.execute("UPDATE sessions SET tags = ? WHERE id = ?", (json.dumps(tags), session))
    return tags


def add_logs(
    connection: sqlite3.Connection,
    device: str,
    *,
    session: str | None,
    boot: str,
    sequence: int,
    entries: Iterable[Entry],
) -> bool:
    """Keep one batch of log messages; False when this very batch was kept before.

    Messages of a session that the device does not have are kept as logs outside sessions.
    """
    kept_at = _now()
    known = connection.execute("SELECT 1 FROM sessions WHERE id = ? AND device_id = ?", (session, device)).fetchone()
    kept = session if known is not None else None
    new = connection.execute(
        "INSERT OR IGNORE INTO log_batches (device_id, boot_id, sequence, session_id, kept_at) VALUES (?, ?, ?, ?, ?)",
        (device, boot, sequence, kept, kept_at),
    ).rowcount
    if not new:
        return False
    connection.executemany(
        "INSERT INTO logs (device_id, session_id, timestamp, level, module, message, kept_at, sequence)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ((device, kept, *entry, kept_at, sequence) for entry in entries),
    )
    return True


def logs(
    connection: sqlite3.Connection,
    *,
    session: str | None = None,
    device: str | None = None,
    wanted: Filter,
    offset: int,
    limit: int,
) -> tuple[list[dict[str, Any]], int]:
    """Return log messages of a session or of a device (its id) in the order of time, and how many match.

    Batches that came in the wrong order are put right where the device's clock was too coarse to tell.
    """
    values = {"session": session, "device": device, **wanted._asdict(), "limit": limit, "offset": offset}
    values["level"] = wanted.level.upper() if wanted.level is not None else None
    tests = {
        "session": "session_id = :session",
        "device": "device_id = :device",
        "level": "level = :level",
        "module": "module = :module",
        "search": "instr(casefold(message), casefold(:search))",
        "since": "timestamp >= :since",
        "until": "timestamp < :until",
    }
    selected = " AND ".join(["FROM logs WHERE true", *(test for key, test in tests.items() if values[key] is not None)])
    order = "ORDER BY timestamp, sequence, id LIMIT :limit OFFSET :offset"
    rows = connection.execute(" ".join(("SELECT *", selected, order)), values).fetchall()
    total = connection.execute(" ".join(("SELECT COUNT(*)", selected)), values).fetchone()[0]
    keys = ("level", "module", "message")
    return [{"timestamp": iso(row["timestamp"]), **{key: row[key] for key in keys}} for row in rows], total
