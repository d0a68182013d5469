"""The history's file: where it is, its tables, and what keeps it from being used."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from roboticks_tasks.errors import ConfigError

VARIABLE = "ROBOTICKS_HISTORY"

OURS = 0x52424854
"""SQLite's `application_id` of a history."""

PATIENCE = 5.0
"""Seconds for which a run waits until another one has written."""

CREATE = (
    "CREATE TABLE test (id INTEGER PRIMARY KEY, nodeid TEXT NOT NULL UNIQUE)",
    "CREATE TABLE board (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    # A clean tree at a commit under a profile: what ran there ran the same code on the same kind of hardware.
    'CREATE TABLE change (id INTEGER PRIMARY KEY, "commit" TEXT NOT NULL, profile TEXT NOT NULL, '
    'UNIQUE ("commit", profile))',
    "CREATE TABLE run (id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, profile TEXT NOT NULL, board TEXT, "
    "verdict TEXT NOT NULL, exit_code INTEGER NOT NULL, reason TEXT NOT NULL, began REAL NOT NULL, "
    'duration REAL NOT NULL, "commit" TEXT, is_dirty INTEGER, branch TEXT, ci TEXT, url TEXT, dsn TEXT, '
    "change_id INTEGER NOT NULL, board_id INTEGER NOT NULL, cases INTEGER NOT NULL)",
    "CREATE INDEX run_began ON run (began)",
    "CREATE TABLE step (run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, name TEXT NOT NULL, "
    "outcome TEXT NOT NULL, duration REAL NOT NULL, PRIMARY KEY (run, name)) WITHOUT ROWID",
    # `failed`: the first attempt did; `rescued`: a later one passed. Both are NULL where the test was skipped.
    "CREATE TABLE outcome (run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, test INTEGER NOT NULL, "
    "change_id INTEGER NOT NULL, board_id INTEGER NOT NULL, outcome TEXT NOT NULL, failed INTEGER, rescued INTEGER, "
    "attempts INTEGER NOT NULL, duration REAL NOT NULL, PRIMARY KEY (run, test)) WITHOUT ROWID",
    "CREATE INDEX outcome_counts ON outcome (test, change_id, board_id, failed, rescued)",
    "CREATE INDEX outcome_failed ON outcome (run) WHERE failed = 1",
    f"PRAGMA application_id = {OURS}",
)

STEPS: tuple[tuple[str, ...], ...] = (CREATE,)
"""The statements that bring a file from each version to the next; version 0 is an empty file."""

NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "ocfs2", "gfs2"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.rclone", "virtiofs", "vboxsf", "fuse.vmhgfs-fuse"),
}
"""File systems that several machines may share: the write-ahead log needs memory that all writers share."""


class HistoryError(ConfigError):
    """The history cannot be used; it was left as it is."""


def location(environ: Mapping[str, str]) -> Path:
    """Return the path of the history: `$ROBOTICKS_HISTORY`, else below `$XDG_DATA_HOME`."""
    if named := environ.get(VARIABLE):
        return Path(named)
    base = environ.get("XDG_DATA_HOME", "")
    if not base.startswith("/"):
        try:
            base = str(Path(environ.get("HOME") or "~").expanduser() / ".local" / "share")
        except RuntimeError as error:
            raise HistoryError(f"this user has no home: {error}", remedy=f"set {VARIABLE} to a file") from error
    return Path(base) / "roboticks" / "history.sqlite3"


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the machine say into a sentence."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        words = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        remedy = "it was left as it is"
        if "locked" in words or "busy" in words:
            words, remedy = "another program has it locked", "try again"
        elif "malformed" in words or "not a database" in words:
            words, remedy = f"it is damaged ({words})", f"move it away and a new one is made, or set {VARIABLE}"
        elif "readonly" in words or "unable to open" in words or isinstance(error, OSError):
            remedy = f"set {VARIABLE} to a file that can be written"
        elif "full" in words or "disk I/O" in words:
            remedy = "free space; what was in it is still there"
        raise HistoryError(f"the history {path} cannot be used: {words}", remedy=remedy) from error


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """Open the file at `path`, made or brought up to date if need be; HistoryError where that cannot be."""
    with explained(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):  # SQLite gives its other files the same permissions
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    if _check(connection, path) < len(STEPS):
        with writing(connection):
            # Asked again: another run may have made the tables while we waited.
            for statements in STEPS[_check(connection, path) :]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(STEPS)}")
    wanted = "delete" if on_network(path) else "wal"
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != wanted:
        # Somebody else may be at work: the next one can change it; both kinds of journal are safe.
        with suppress(sqlite3.OperationalError):
            mode = connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()[0]
    # Without the write-ahead log, NORMAL may damage the file in a power cut.
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """Return the file's version; HistoryError for a newer one and for what is no history."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    if owner != OURS and (owner or version or connection.execute("SELECT 1 FROM sqlite_master").fetchone()):
        raise HistoryError(f"{path} is another program's database", remedy=f"set {VARIABLE} to another file")
    if version > len(STEPS):
        raise HistoryError(
            f"the history {path} has version {version}, this program knows up to {len(STEPS)}: it was left as it is",
            remedy=f"use the newer program, or set {VARIABLE} to another file",
        )
    return version


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """Keep all that the block writes, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def on_network(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Tell whether other machines may have the file's folder, too; where nobody can say it counts as local."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
        folder = path.parent.resolve()
    except (OSError, RuntimeError):
        return False
    kind, longest = "", -1
    for line in lines:
        place, _, rest = line.partition(" - ")
        mounted = Path(place.split(" ")[4].encode().decode("unicode_escape")) if place.count(" ") > 4 else None
        if mounted and len(mounted.parts) >= longest and folder.is_relative_to(mounted):
            kind, longest = rest.split(" ")[0], len(mounted.parts)
    return kind in NETWORK
