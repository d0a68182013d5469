"""The SQLite store: opening, versions, transactions, and the queries that need no network to be checked."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from roboticks_tasks.sim.platform import messages, store, store_devices, store_sessions
from roboticks_tasks.sim.topics import heartbeat, logs, session_response, sessions


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "platform.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(store.connect(path)) as connection:
        yield connection


def register(connection: sqlite3.Connection, serial: str = "serial", *, test_device: bool = True) -> tuple[str, str]:
    identity, dsn, _ = store_devices.register(
        connection, serial, name="n", kind="robot", environment="test", test_device=test_device
    )
    return identity, dsn


def test_a_file_is_opened_with_a_write_ahead_log_and_patience(connection: sqlite3.Connection) -> None:
    values = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert values == ["wal", 1]
    assert connection.execute("PRAGMA busy_timeout").fetchone()[0] == 5000
    assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
    assert connection.execute("PRAGMA user_version").fetchone()[0] == store.VERSION


def test_a_newer_file_is_refused_and_untouched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {store.VERSION + 1}")
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(store.NewerStateError, match=str(store.VERSION + 1)):
        store.connect(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert list(path.parent.iterdir()) == [path]


def test_a_newer_file_with_a_log_left_by_a_crash_is_untouched_too(path: Path, tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {store.VERSION + 1}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE later (x)")
        for name in ("platform.db", "platform.db-wal"):
            shutil.copyfile(tmp_path / name, crashed / name)
    before = {file.name: file.read_bytes() for file in crashed.iterdir()}
    assert len(before["platform.db-wal"]) > 0
    with pytest.raises(store.NewerStateError):
        store.connect(crashed / "platform.db")
    assert {file.name: file.read_bytes() for file in crashed.iterdir()} == before


def test_the_version_stands_in_the_file_itself_and_not_only_in_the_log(path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from roboticks_tasks.sim.platform import store;"
        "store.connect(Path(sys.argv[1])); os._exit(0)"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", program, path], env=environment, check=True)
    assert int.from_bytes(path.read_bytes()[60:64], "big") == store.VERSION


def test_what_is_no_database_is_an_error_and_kept(path: Path) -> None:
    path.write_bytes(b"something else" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        store.connect(path)
    assert path.read_bytes() == b"something else" * 100


def test_a_failing_piece_of_work_leaves_nothing(path: Path) -> None:
    def work(connection: sqlite3.Connection) -> None:
        register(connection)
        raise RuntimeError("half way")

    async def scenario() -> int:
        opened = store.Store(path)
        with pytest.raises(RuntimeError, match="half way"):
            await opened.write(work)
        assert (await opened.read(store_devices.units))["test_devices"] == 0
        await opened.write(register, "other")
        count = (await opened.read(store_devices.units))["test_devices"]
        await opened.close()
        return count

    assert asyncio.run(scenario()) == 1


def test_the_reading_side_cannot_write(path: Path) -> None:
    async def scenario() -> None:
        opened = store.Store(path)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await opened.read(register)
        await opened.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("SELECT * FROM logs WHERE session_id = ? ORDER BY timestamp, id", ("s",)),
        ("SELECT * FROM logs WHERE device_id = ? AND timestamp >= ? ORDER BY timestamp, id", ("d", 1)),
        ("SELECT * FROM sessions WHERE device_id = ? AND status = 'active'", ("d",)),
        ("SELECT * FROM sessions WHERE started_at >= ? ORDER BY started_at DESC", (1,)),
        ("SELECT * FROM devices WHERE id = ?1 OR dsn = ?1", ("d",)),
    ],
)
def test_the_queries_that_are_served_have_an_index(
    connection: sqlite3.Connection, query: str, values: tuple[object, ...]
) -> None:
    plan = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    assert not [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step], plan


def test_only_production_devices_use_units(connection: sqlite3.Connection) -> None:
    for number in range(store_devices.DEVICE_UNITS):
        register(connection, f"t{number}")
        register(connection, f"p{number}", test_device=False)
    with pytest.raises(store_devices.NoUnitsError):
        register(connection, "one more", test_device=False)
    register(connection, "one more")
    register(connection, "p0", test_device=False)
    register(connection, "p0")
    register(connection, "one more", test_device=False)


def test_silence_shows_as_offline_after_three_intervals(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity, dsn = register(connection)
    clock = [1_000_000_000_000_000]
    monkeypatch.setattr(store_devices, "now", lambda: clock[0])
    store_devices.beat(connection, identity, online=True, metrics=None, compositions=None, interval=None)
    seen = []
    for seconds in (0, 15, 15.1):
        clock[0] = 1_000_000_000_000_000 + round(seconds * 1_000_000)
        device = store_devices.find(connection, dsn)
        assert device is not None
        seen.append(device["status"])
    assert seen == ["online", "online", "offline"]


def test_messages_are_applied_in_order_and_bad_ones_do_not_stop_the_rest(connection: sqlite3.Connection) -> None:
    _, dsn = register(connection)
    create = b'{"action": "create", "name": "n", "started_at": 5, "request_id": "r"}'
    batch = (
        b'{"sequence": 1, "boot_id": "b", "messages": [{"timestamp_us": 1, "level": "x", "module": "", "message": ""}]}'
    )
    replies = messages.apply(
        connection,
        [
            (heartbeat(dsn), b"garbage"),
            (heartbeat("SIM-FFFFFFFF"), b'{"status": "online"}'),
            (sessions(dsn), create),
            (logs(dsn), batch),
            (sessions(dsn), create),
        ],
    )
    assert [topic for topic, _ in replies] == [session_response(dsn)] * 2
    assert replies[0] == replies[1]
    assert connection.execute("SELECT COUNT(*) FROM logs").fetchone()[0] == 1
    assert connection.execute("SELECT COUNT(*) FROM sessions").fetchone()[0] == 1
    device = store_devices.find(connection, dsn)
    assert device is not None
    assert device["status"] == "offline"


def test_forgetting_a_device_forgets_all_that_hangs_on_it(connection: sqlite3.Connection) -> None:
    identity, _ = register(connection)
    session, _ = store_sessions.create(connection, identity, request="r", name="n", metadata={}, started_at=1)
    entries = [store_sessions.Entry(1, "INFO", "m", "text")]
    store_sessions.add_logs(connection, identity, session=session, boot="b", sequence=1, entries=entries)
    store_devices.remove(connection, identity)
    tables = ("devices", "sessions", "logs", "log_batches")
    queries = [f"SELECT COUNT(*) FROM {table}" for table in tables]  # noqa: S608  the names stand above
    assert [connection.execute(query).fetchone()[0] for query in queries] == [0, 0, 0, 0]
