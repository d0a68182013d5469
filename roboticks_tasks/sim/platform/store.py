"""The platform's SQLite file: opening it safely, and running work on it off the event loop.

One thread writes, one reads (WAL lets them); each piece of work is a plain function that gets the connection first.
Times are whole microseconds since 1970, by the clocks of the devices but for `kept_at`, when the platform got it, and
`heard_at`, which is monotonic: a clock that is set makes no device silent. At a start none is online.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from roboticks_tasks.sim.platform.store_tables import TEST_RUNS

P = ParamSpec("P")
T = TypeVar("T")

VERSION = 3
"""Schema version in the file's user_version; a file with a higher one belongs to a newer program."""

BUSY_SECONDS = 5.0

SCHEMA = (
    """CREATE TABLE devices (
        id TEXT PRIMARY KEY, serial TEXT NOT NULL UNIQUE, dsn TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
        type TEXT NOT NULL, environment TEXT NOT NULL, test_device INTEGER NOT NULL, created_at INTEGER NOT NULL,
        online INTEGER NOT NULL DEFAULT 0, last_heartbeat INTEGER, heartbeat_interval INTEGER NOT NULL DEFAULT 5000000,
        heard_at INTEGER, metrics TEXT NOT NULL DEFAULT '{}', compositions TEXT NOT NULL DEFAULT '[]')""",
    """CREATE TABLE sessions (
        id TEXT PRIMARY KEY, device_id TEXT NOT NULL REFERENCES devices(id) ON DELETE CASCADE, request TEXT NOT NULL,
        name TEXT NOT NULL, status TEXT NOT NULL, metadata TEXT NOT NULL, tags TEXT NOT NULL DEFAULT '[]',
        started_at INTEGER NOT NULL, ended_at INTEGER, kept_at INTEGER NOT NULL, presumed INTEGER NOT NULL DEFAULT 0,
        UNIQUE (device_id, request))""",
    "CREATE INDEX sessions_of_device ON sessions (device_id, status, started_at)",
    "CREATE INDEX sessions_by_time ON sessions (started_at)",
    """CREATE TABLE log_batches (
        device_id TEXT NOT NULL REFERENCES devices(id) ON DELETE CASCADE, boot_id TEXT NOT NULL,
        sequence INTEGER NOT NULL, session_id TEXT, kept_at INTEGER NOT NULL,
        PRIMARY KEY (device_id, boot_id, sequence)) WITHOUT ROWID""",
    """CREATE TABLE logs (
        id INTEGER PRIMARY KEY, device_id TEXT NOT NULL REFERENCES devices(id) ON DELETE CASCADE,
        session_id TEXT REFERENCES sessions(id) ON DELETE CASCADE, timestamp INTEGER NOT NULL, level TEXT NOT NULL,
        module TEXT NOT NULL, message TEXT NOT NULL, kept_at INTEGER NOT NULL, sequence INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX logs_of_session ON logs (session_id, timestamp, sequence)",
    "CREATE INDEX logs_of_device ON logs (device_id, timestamp, sequence)",
    *TEST_RUNS,
    f"PRAGMA user_version = {VERSION}",
)

UPGRADE_2 = (*TEST_RUNS, f"PRAGMA user_version = {VERSION}")
"""From version 2, which knew nothing of test runs."""

UPGRADE = (
    "ALTER TABLE devices ADD COLUMN heard_at INTEGER",
    "ALTER TABLE sessions ADD COLUMN presumed INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE logs ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0",
    "DROP INDEX logs_of_session",
    "DROP INDEX logs_of_device",
    "CREATE INDEX logs_of_session ON logs (session_id, timestamp, sequence)",
    "CREATE INDEX logs_of_device ON logs (device_id, timestamp, sequence)",
    *UPGRADE_2,
)
"""From version 1, which had no order among messages of the same microsecond and no sessions presumed to have failed."""


class NewerStateError(Exception):
    """The file was written by a newer program and must stay as it is."""


def _file_version(path: Path) -> int:
    """Read the schema version without a lock, a journal or any other trace in the folder."""
    if not path.exists() or path.stat().st_size == 0:
        return 0
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open the file at `path` and make its tables when it is new.

    Raises NewerStateError (the file is untouched then) and sqlite3.Error.
    """
    found = _file_version(path)
    if found > VERSION:
        raise NewerStateError(
            f"{path} has schema version {found}, this program knows up to {VERSION}: use the newer program"
        )
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.create_function("casefold", 1, str.casefold, deterministic=True)
        # Asked again: a start that was killed while it wrote the new version left a file that is now taken back.
        if connection.execute("PRAGMA user_version").fetchone()[0] < VERSION:
            # Before WAL is switched on, so that the version never stands in the write-ahead log alone.
            connection.execute("PRAGMA journal_mode = DELETE")
            transaction(connection, create)
        connection.execute("PRAGMA journal_mode = WAL")
    except BaseException:
        connection.close()
        raise
    return connection


def create(connection: sqlite3.Connection) -> None:
    """Make the tables of the present version, or bring older ones up to it."""
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    for statement in {0: SCHEMA, 1: UPGRADE, 2: UPGRADE_2}.get(found, ()):
        connection.execute(statement)


def transaction(
    connection: sqlite3.Connection, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kw: P.kwargs
) -> T:
    """Run `work` in one transaction: all of it is kept, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection, *args, **kw)
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return result


class Store:
    """The open file; `write` and `read` await work that is done on its own thread."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`; raises like `connect`."""
        self._writer = connect(path)
        self._reader = connect(path)
        self._reader.execute("PRAGMA query_only = ON")
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix="store-read")

    async def write(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kw: P.kwargs) -> T:
        """Run `work(connection, ...)` in one transaction; raises what it raises, and sqlite3.Error."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._write_thread, lambda: transaction(self._writer, work, *args, **kw))

    async def read(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kw: P.kwargs) -> T:
        """Run `work(connection, ...)`, which only asks, beside a writer."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._read_thread, lambda: work(self._reader, *args, **kw))

    async def close(self) -> None:
        """Let the writing under way end, and close the file."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._read_thread, self._reader.close)
        # Last, because the last connection to close empties the write-ahead log into the file.
        await loop.run_in_executor(self._write_thread, self._writer.close)
        self._write_thread.shutdown(wait=False)
        self._read_thread.shutdown(wait=False, cancel_futures=True)
