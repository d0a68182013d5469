"""Files of test runs in the store: announced, then stored, then bound to the run whose results name them.

Their bytes are in a folder, each under its id. Every function gets the connection first.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from roboticks_tasks.sim.platform.junit import Reference
from roboticks_tasks.sim.platform.parse import iso

QUOTA = 2_000_000_000
"""Bytes of all files together (our choice): beyond, the oldest ones go."""

UNUSED_DAYS = 1
"""How long a file is kept that no run's results have named."""

BUCKET = "s3://roboticks-local/"

UNSAFE = re.compile(r"[^\w.-]+")
"""What has no place in a file's name, wherever somebody may store it."""


class Announced(NamedTuple):
    """A file that will come."""

    id: str
    filename: str
    size: int


class FullError(ValueError):
    """There is no room for what was announced; the message is one sentence."""


def announce(
    connection: sqlite3.Connection, files: Sequence[tuple[str, int]], *, patience: int
) -> tuple[list[Announced], list[str]]:
    """Make room for files (name, size in bytes), and return them with their ids, and the ids of those that had to go.

    Of those that were announced more than `patience` microseconds ago and never came nothing is left. FullError.
    """
    now = _now()
    gone = [
        row["id"]
        for row in connection.execute(
            "SELECT id FROM files WHERE stored_at IS NULL AND created_at < ?", (now - patience,)
        )
    ]
    room = QUOTA - sum(size for _, size in files)
    taken = connection.execute(
        "SELECT coalesce(sum(size), 0) FROM files WHERE stored_at IS NOT NULL OR created_at >= ?", (now - patience,)
    ).fetchone()[0]
    oldest = connection.execute("SELECT id, size FROM files WHERE stored_at IS NOT NULL ORDER BY created_at, rowid")
    while taken > room:
        row = oldest.fetchone()
        if row is None:
            raise FullError(f"files: the platform keeps {QUOTA} bytes of files, and there is no room for these")
        gone.append(row["id"])
        taken -= row["size"]
    connection.executemany("DELETE FROM files WHERE id = ?", ((each,) for each in gone))
    made = [Announced(str(uuid.uuid4()), name, size) for name, size in files]
    connection.executemany(
        "INSERT INTO files (id, filename, size, created_at) VALUES (?, ?, ?, ?)",
        ((each.id, each.filename, each.size, now) for each in made),
    )
    return made, gone


def find(connection: sqlite3.Connection, file: str) -> dict[str, Any] | None:
    """Return what is known of the file with this id."""
    row = connection.execute("SELECT * FROM files WHERE id = ?", (file,)).fetchone()
    return dict(row) if row is not None else None


def stored(connection: sqlite3.Connection, file: str) -> bool:
    """Take note that a file has come; False when it is not wanted any more."""
    return connection.execute("UPDATE files SET stored_at = ? WHERE id = ?", (_now(), file)).rowcount > 0


def bind(connection: sqlite3.Connection, run: str, references: Iterable[Reference]) -> None:
    """Have a run (its id) own the files that its results name, and no others; each gets a key that tells them apart."""
    connection.execute("UPDATE files SET run_id = NULL, key = NULL WHERE run_id = ?", (run,))
    taken: set[str] = set()
    for reference in references:
        if not reference.value.startswith(BUCKET):
            continue
        file = find(connection, reference.value.removeprefix(BUCKET).partition("/")[0])
        if file is None or file["run_id"] is not None:
            continue
        folder = f"test-runs/{run}/{case_folder(reference.nodeid)}{UNSAFE.sub('_', reference.kind)}"
        key = f"{folder}/{safe(file['filename'])}"
        if key in taken:
            key = f"{folder}/{file['id'][:8]}-{safe(file['filename'])}"
        taken.add(key)
        connection.execute("UPDATE files SET run_id = ?, key = ? WHERE id = ?", (run, key, file["id"]))


def of_run(connection: sqlite3.Connection, run: str, *, prefix: str, recursive: bool) -> list[dict[str, Any]]:
    """Return the files of a run (its id) whose key below the run's folder begins with `prefix`."""
    begin = f"test-runs/{run}/{prefix}"
    rows = connection.execute(
        "SELECT * FROM files WHERE run_id = ? AND stored_at IS NOT NULL AND substr(key, 1, ?) = ? ORDER BY key",
        (run, len(begin), begin),
    )
    return [
        {"key": row["key"], "size": row["size"], "last_modified": iso(row["stored_at"])}
        for row in rows
        if recursive or "/" not in row["key"][len(begin) :].lstrip("/")
    ]


def by_key(connection: sqlite3.Connection, run: str, key: str) -> str | None:
    """Return the id of a run's stored file; `key` is whole, or what stands behind the run's own folder in it."""
    row = connection.execute(
        "SELECT id FROM files WHERE run_id = ? AND stored_at IS NOT NULL AND key IN (?, ?)",
        (run, key, f"test-runs/{run}/{key}"),
    ).fetchone()
    return str(row["id"]) if row is not None else None


def all_ids(connection: sqlite3.Connection) -> set[str]:
    """Return the id of every file."""
    return {row["id"] for row in connection.execute("SELECT id FROM files")}


def case_folder(nodeid: str | None) -> str:
    """Return a case's folder below that of its run (documented), nothing for what belongs to the run as a whole."""
    return f"test-cases/{hashlib.sha256(nodeid.encode()).hexdigest()[:16]}/" if nodeid is not None else ""


def safe(filename: str) -> str:
    """Return a name that is one part of a path, and no other's."""
    return UNSAFE.sub("_", filename.replace("\\", "/").rpartition("/")[2]).lstrip(".")[:120] or "file"


def _now() -> int:
    return time.time_ns() // 1000
