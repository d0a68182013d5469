"""The SQLite store: opening, versions, transactions, and the queries that need no network to be checked."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from roboticks_tasks.sim.platform import messages, store, store_devices, store_retention, store_sessions
from roboticks_tasks.sim.platform.throttle import Throttle
from roboticks_tasks.sim.topics import (
    file_upload_request,
    heartbeat,
    logs,
    logs_response,
    session_response,
    sessions,
)

log = logging.getLogger("tests.store")


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
        ("SELECT * FROM logs WHERE session_id = ? ORDER BY timestamp, sequence, id", ("s",)),
        ("SELECT * FROM logs WHERE device_id = ? AND timestamp >= ? ORDER BY timestamp, sequence, id", ("d", 1)),
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
    monkeypatch.setattr(store_devices, "moment", lambda: clock[0])
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
        throttle=Throttle(log),
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


def counts(connection: sqlite3.Connection) -> list[int]:
    """Return how many sessions, logs and log batches there are."""
    queries = [f"SELECT COUNT(*) FROM {table}" for table in ("sessions", "logs", "log_batches")]  # noqa: S608  as above
    return [connection.execute(query).fetchone()[0] for query in queries]


def test_a_message_that_fails_costs_only_itself(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dsn = register(connection)

    def half(connection: sqlite3.Connection, sender: messages.Sender, body: dict[str, object]) -> None:
        messages.heartbeat(connection, sender, {**body, "metrics": {"half": 1}})
        raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")

    monkeypatch.setattr(messages, "HANDLERS", {**messages.HANDLERS, "heartbeat": half})
    batch = b'{"sequence": 1, "boot_id": "b", "messages": []}'
    create = b'{"action": "create", "name": "n", "request_id": "r"}'
    sent = [(logs(dsn), batch), (heartbeat(dsn), b'{"status": "online"}'), (sessions(dsn), create)]
    replies = store.transaction(connection, messages.apply, sent, throttle=Throttle(log))
    assert [body["request_id"] for _, body in replies if isinstance(body, dict)] == ["r"]
    assert counts(connection) == [1, 0, 1]
    device = store_devices.find(connection, dsn)
    assert device is not None
    assert (device["status"], device["metrics"]) == ("offline", {})


def test_a_request_that_fails_by_our_fault_is_answered(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dsn = register(connection)
    monkeypatch.setattr(messages, "HANDLERS", {})
    replies = messages.apply(connection, [(sessions(dsn), b'{"request_id": "r"}')], throttle=Throttle(log))
    assert replies == [
        (session_response(dsn), {"error": "the platform failed on this request: see its log", "request_id": "r"})
    ]


def test_requests_of_a_device_that_was_deleted_are_answered(connection: sqlite3.Connection) -> None:
    dsn = "SIM-FFFFFFFF"
    sent = [
        (heartbeat(dsn), b'{"status": "online"}'),
        (sessions(dsn), b'{"action": "create", "request_id": "r"}'),
        (file_upload_request(dsn), b'{"request_id": "u"}'),
        (sessions(dsn), b"garbage"),
    ]
    expected = [{"error": "no such device is registered", "request_id": name} for name in ("r", "u")]
    replies = messages.apply(connection, sent, throttle=Throttle(log))
    assert replies == [(session_response(dsn), body) for body in expected]


def test_bad_messages_do_not_fill_the_log(connection: sqlite3.Connection, caplog: pytest.LogCaptureFixture) -> None:
    _, dsn = register(connection)
    throttle = Throttle(log)
    sent = [
        *[(heartbeat(dsn), b"garbage")] * 100,
        *[(heartbeat("SIM-FFFFFFFF"), b"{}")] * 100,
        *[(sessions(dsn), b"{}")] * 100,
        *[(logs(dsn), b'{"sequence": 1, "boot_id": "b", "messages": [5]}')] * 100,
    ]
    messages.apply(connection, sent, throttle=throttle)
    assert throttle.counts == {
        "dropped message": 100,
        "unknown device": 100,
        "refused session": 100,
        "bad log": 100,
        "repeated log": 99,
    }
    lines = [record.getMessage() for record in caplog.records if "Dropped" in record.getMessage()]
    assert [line.rpartition("(")[2] for line in lines] == [f"{2**power} times)" for power in range(7)] * 2


def test_a_device_that_is_offline_runs_no_compositions(connection: sqlite3.Connection) -> None:
    def beat(identity: str, *, online: bool, compositions: list[object] | None) -> None:
        store_devices.beat(connection, identity, online=online, metrics=None, compositions=compositions, interval=None)

    devices = [register(connection, serial) for serial in ("signs off", "says so itself", "platform restarts")]
    for identity, _ in devices:
        beat(identity, online=True, compositions=[{"name": "Hello"}])
    beat(devices[0][0], online=False, compositions=None)
    beat(devices[1][0], online=False, compositions=[{"name": "Hello"}])
    shown = [store_devices.find(connection, dsn) for _, dsn in devices]
    assert [device["compositions"] for device in shown if device] == [[], [], [{"name": "Hello"}]]
    store_devices.all_offline(connection)
    last = store_devices.find(connection, devices[2][1])
    assert last is not None
    assert (last["status"], last["compositions"]) == ("offline", [])


@pytest.mark.parametrize("word", ["überhitzt", "ÜBERHITZT", "STRASSE", "straße"])
def test_a_search_ignores_case_beyond_ascii(connection: sqlite3.Connection, word: str) -> None:
    identity, _ = register(connection)
    entries = [
        store_sessions.Entry(1, "INFO", "m", "Überhitzt auf der Straße"),
        store_sessions.Entry(2, "INFO", "m", ""),
    ]
    store_sessions.add_logs(connection, identity, session=None, boot="b", sequence=1, entries=entries)
    wanted = store_sessions.Filter(search=word)
    found, total = store_sessions.logs(connection, device=identity, wanted=wanted, offset=0, limit=9)
    assert ([item["message"] for item in found], total) == (["Überhitzt auf der Straße"], 1)


DAY = 86_400_000_000


def fill(connection: sqlite3.Connection, device: str) -> tuple[str, str]:
    """Keep an ended and an active session with a log message each, and one outside; return the sessions' ids.

    All times of the device are those of a clock that was never set.
    """
    ended, _ = store_sessions.create(connection, device, request="1", name="n", metadata={}, started_at=1)
    store_sessions.complete(connection, device, session=ended, status="completed", ended_at=2)
    active, _ = store_sessions.create(connection, device, request="2", name="n", metadata={}, started_at=3)
    for sequence, session in enumerate((active, ended, None)):
        entries = [store_sessions.Entry(4, "INFO", "m", "text")]
        store_sessions.add_logs(connection, device, session=session, boot="b", sequence=sequence, entries=entries)
    return ended, active


def test_what_is_older_than_two_weeks_by_our_clock_is_forgotten(
    path: Path, connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_retention, "SLICE", 1)
    device, _ = register(connection)
    ended, active = fill(connection, device)

    async def tidy() -> None:
        opened = store.Store(path)
        await store_retention.tidy(opened)
        await opened.close()

    asyncio.run(tidy())
    assert counts(connection) == [2, 3, 3]
    age = {"age": (store_retention.DAYS * 24 + 1) * DAY // 24}
    for table in ("sessions", "logs", "log_batches"):
        connection.execute(f"UPDATE {table} SET kept_at = kept_at - :age", age)  # noqa: S608  the names stand above
    store_sessions.add_logs(
        connection, device, session=None, boot="b", sequence=9, entries=[store_sessions.Entry(4, "INFO", "m", "young")]
    )
    asyncio.run(tidy())
    assert store_sessions.find(connection, ended) is None
    assert store_sessions.find(connection, active) is not None
    left = connection.execute("SELECT session_id, message FROM logs ORDER BY id").fetchall()
    assert [tuple(row) for row in left] == [(active, "text"), (None, "young")]
    assert [row["sequence"] for row in connection.execute("SELECT sequence FROM log_batches")] == [9]


def test_a_start_with_nothing_old_does_not_look_at_every_log_message(connection: sqlite3.Connection) -> None:
    device, _ = register(connection)
    entries = [store_sessions.Entry(1, "INFO", "m", "")] * 20_000
    _, active = fill(connection, device)
    for sequence, session in ((7, None), (8, active)):
        store_sessions.add_logs(connection, device, session=session, boot="b", sequence=sequence, entries=entries)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.set_progress_handler(step, 100)
    assert not store_retention.forget(connection, before=1)
    assert steps < 20


def test_log_batches_of_a_deleted_session_are_forgotten(connection: sqlite3.Connection) -> None:
    device, _ = register(connection)
    _, active = fill(connection, device)
    store_sessions.remove(connection, active)
    assert counts(connection) == [1, 2, 3]
    while store_retention.forget(connection, before=0):
        pass
    assert counts(connection) == [1, 2, 2]


# --- batches that come again, sessions that are only presumed to have ended -------------------------------------------


def batch_of(sequence: int, *texts: str, **more: object) -> bytes:
    """Return a log batch of messages that all have the same time."""
    entries = [{"timestamp_us": 1, "level": "INFO", "module": "m", "message": text} for text in texts]
    return json.dumps({"sequence": sequence, "boot_id": "b", "messages": entries, **more}).encode()


def test_batches_in_any_order_read_in_theirs(connection: sqlite3.Connection) -> None:
    identity, dsn = register(connection)
    sent = [(logs(dsn), batch_of(*batch)) for batch in ((3, "e"), (1, "a", "b"), (3, "e"), (2, "c", "d"))]
    assert messages.apply(connection, sent, throttle=Throttle(log)) == []
    found, _ = store_sessions.logs(connection, device=identity, wanted=store_sessions.Filter(), offset=0, limit=9)
    assert [each["message"] for each in found] == list("abcde")


def test_who_wants_a_receipt_gets_one_also_for_what_came_before_or_is_refused(connection: sqlite3.Connection) -> None:
    _, dsn = register(connection)
    wrong = json.dumps({"sequence": 2, "boot_id": "b", "messages": 5, "receipt": True}).encode()
    sent = [(logs(dsn), batch_of(1, "a", receipt=True))] * 2 + [(logs(dsn), wrong)]
    replies = messages.apply(connection, sent, throttle=Throttle(log))
    stored = {"boot_id": "b", "sequence": 1}
    refused = {"boot_id": "b", "sequence": 2, "error": "messages: must be a list"}
    assert replies == [(logs_response(dsn), body) for body in (stored, stored, refused)]


def test_a_batch_that_we_fail_on_is_not_asked_for_again(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dsn = register(connection)
    monkeypatch.setattr(store_sessions, "add_logs", lambda *_, **__: 1 // 0)
    sent = [(logs(dsn), batch_of(1, "a", receipt=True)), (logs(dsn), batch_of(2, "b"))]
    replies = messages.apply(connection, sent, throttle=Throttle(log))
    assert replies == [(logs_response(dsn), {"boot_id": "b", "sequence": 1, "error": messages.FAILED})]


def test_the_end_that_a_device_tells_beats_the_one_that_was_presumed(connection: sqlite3.Connection) -> None:
    identity, _ = register(connection)
    session, _ = store_sessions.create(connection, identity, request="r", name="n", metadata={}, started_at=1)
    store_sessions.give_up(connection, session)
    presumed = store_sessions.find(connection, session)
    assert presumed is not None
    assert presumed["status"] == "failed"
    for status in ("completed", "failed"):
        assert (
            store_sessions.complete(connection, identity, session=session, status=status, ended_at=5_000_000)
            == "completed"
        )
    store_sessions.revive(connection, identity, session)
    ended = store_sessions.find(connection, session)
    assert ended is not None
    assert (ended["status"], ended["ended_at"]) == ("completed", "1970-01-01T00:00:05.000000Z")
    assert store_sessions.create(connection, identity, request="r", name="n", metadata={}, started_at=1) == (
        session,
        "completed",
    )


def test_a_session_does_not_come_back_beside_a_newer_one(connection: sqlite3.Connection) -> None:
    identity, _ = register(connection)
    old, new = (
        store_sessions.create(connection, identity, request=request, name="n", metadata={}, started_at=1)[0]
        for request in ("1", "2")
    )
    store_sessions.revive(connection, identity, old)
    sessions_now = [store_sessions.find(connection, session) for session in (old, new)]
    assert [session["status"] for session in sessions_now if session] == ["failed", "active"]


def test_only_devices_that_have_been_there_are_missed(connection: sqlite3.Connection) -> None:
    found = []
    for number, beats in enumerate(([], [True], [True, False])):
        identity, _ = register(connection, str(number))
        for online in beats:
            store_devices.beat(connection, identity, online=online, metrics=None, compositions=None, interval=None)
        found.append(store_sessions.create(connection, identity, request="r", name="n", metadata={}, started_at=1)[0])
    assert store_sessions.abandoned(connection) == found[2:]


def make_first_version(path: Path) -> None:
    """Write a file as the first version left it, with a device and a log message."""
    with closing(sqlite3.connect(path)) as old:
        for statement in store.SCHEMA:
            text = statement.replace(" presumed INTEGER NOT NULL DEFAULT 0,", "").replace(" heard_at INTEGER,", "")
            text = text.replace("timestamp, sequence)", "timestamp)")
            old.execute(text.replace(", sequence INTEGER NOT NULL DEFAULT 0)", ")"))
        old.execute("PRAGMA user_version = 1")
        old.execute("PRAGMA journal_mode = WAL")
        old.execute(
            "INSERT INTO devices (id, serial, dsn, name, type, environment, test_device, created_at)"
            " VALUES ('d', 's', 'SIM-1', 'n', 't', 'test', 1, 1)"
        )
        old.execute(
            "INSERT INTO logs (device_id, timestamp, level, module, message, kept_at) VALUES ('d',1,'I','m','x',1)"
        )
        old.commit()


def test_a_file_of_the_first_version_is_brought_up_to_date_with_all_that_is_in_it(path: Path) -> None:
    make_first_version(path)
    for _ in range(2):
        with closing(store.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone()[0] == store.VERSION
            wanted = store_sessions.Filter()
            found, _total = store_sessions.logs(connection, device="d", wanted=wanted, offset=0, limit=9)
            assert [each["message"] for each in found] == ["x"]
            store_sessions.create(connection, "d", request="r", name="n", metadata={}, started_at=1)
    assert int.from_bytes(path.read_bytes()[60:64], "big") == store.VERSION


def test_an_upgrade_that_was_killed_while_it_was_written_is_made_again(path: Path) -> None:
    """All pages are in the file, and so is the journal that takes them back."""
    make_first_version(path)
    journal = path.with_name("platform.db-journal")
    with closing(sqlite3.connect(path, isolation_level=None)) as killed:
        for setting in ("journal_mode = DELETE", "cache_size = 1", "cache_spill = 1"):
            killed.execute(f"PRAGMA {setting}")
        killed.execute("BEGIN IMMEDIATE")
        store.create(killed)
        killed.execute("CREATE TABLE large AS SELECT zeroblob(100000) AS x")  # has SQLite write the journal now
        taken = journal.read_bytes()
        killed.execute("COMMIT")
    journal.write_bytes(taken)
    assert int.from_bytes(path.read_bytes()[60:64], "big") == store.VERSION
    with closing(store.connect(path)) as connection:
        assert connection.execute("SELECT heard_at FROM devices").fetchone()[0] is None
        assert connection.execute("SELECT message FROM logs").fetchone()[0] == "x"
        assert connection.execute("PRAGMA user_version").fetchone()[0] == store.VERSION
