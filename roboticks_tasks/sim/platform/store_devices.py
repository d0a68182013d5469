"""Devices in the store. Every function gets the connection first and runs inside the caller's transaction."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
import uuid
from collections.abc import Mapping
from typing import Any

from roboticks_tasks.sim.platform.parse import iso

DEVICE_UNITS = 2
"""Device units that the local organization has bought (our choice); test devices use none, as documented."""

MISSED_HEARTBEATS = 3
"""A device silent for this many intervals shows as offline (our choice: not documented)."""

STATUSES = ("online", "offline", "maintenance")

STATUS = f"iif(d.online AND d.heard_at >= :moment - {MISSED_HEARTBEATS} * d.heartbeat_interval, 'online', 'offline')"

CURRENT_SESSION = """(SELECT s.id FROM sessions s WHERE s.device_id = d.id AND s.status = 'active'
    ORDER BY s.started_at DESC, s.rowid DESC LIMIT 1)"""

DEVICE = " ".join(("SELECT d.*,", STATUS, "AS status,", CURRENT_SESSION, "AS current_session_id FROM devices d"))


class NoUnitsError(Exception):
    """No purchased device unit is left for another production device."""


def now() -> int:
    """Return the time in microseconds since 1970."""
    return time.time_ns() // 1000


def moment() -> int:
    """Return microseconds on a clock that nobody sets."""
    return time.monotonic_ns() // 1000


def _document(row: sqlite3.Row) -> dict[str, Any]:
    """Turn a row into the device object of the platform's REST documentation, plus test_device and compositions."""
    return {
        "id": row["id"],
        "name": row["name"],
        "dsn": row["dsn"],
        "type": row["type"],
        "status": row["status"],
        "environment": row["environment"],
        "last_heartbeat": iso(row["last_heartbeat"]),
        "created_at": iso(row["created_at"]),
        "current_session_id": row["current_session_id"],
        "package_id": None,
        "package_name": None,
        "groups": [],
        "metrics": json.loads(row["metrics"]),
        "test_device": bool(row["test_device"]),
        "compositions": json.loads(row["compositions"]),
    }


def find(connection: sqlite3.Connection, key: str) -> dict[str, Any] | None:
    """Return the device object whose id or DSN is `key`."""
    values = {"key": key, "moment": moment()}
    row = connection.execute(f"{DEVICE} WHERE d.id = :key OR d.dsn = :key", values).fetchone()
    return _document(row) if row is not None else None


def identify(connection: sqlite3.Connection, key: str) -> str | None:
    """Return the id of the device whose id or DSN is `key`."""
    row = connection.execute("SELECT id FROM devices WHERE id = :key OR dsn = :key", {"key": key}).fetchone()
    return str(row["id"]) if row is not None else None


def page(
    connection: sqlite3.Connection, *, status: str | None, kind: str | None, offset: int, limit: int
) -> tuple[list[dict[str, Any]], int]:
    """Return the devices from `offset` in the order of their registration, and how many there are in all."""
    wanted = f"WHERE (:kind IS NULL OR d.type = :kind) AND (:status IS NULL OR :status = {STATUS})"
    values = {"kind": kind, "status": status, "moment": moment(), "limit": limit, "offset": offset}
    order = "ORDER BY d.rowid LIMIT :limit OFFSET :offset"
    rows = connection.execute(" ".join((DEVICE, wanted, order)), values).fetchall()
    total = connection.execute(" ".join(("SELECT COUNT(*) FROM devices d", wanted)), values).fetchone()[0]
    return [_document(row) for row in rows], total


def register(
    connection: sqlite3.Connection, serial: str, *, name: str, kind: str, environment: str, test_device: bool
) -> tuple[str, str, bool]:
    """Add the device with this serial number, or refresh it; return its id, its DSN and whether it is new.

    Raises NoUnitsError for a production device beyond the purchased units.
    """
    known = connection.execute("SELECT id, dsn FROM devices WHERE serial = ?", (serial,)).fetchone()
    if not test_device and units(connection, without=serial)["used"] >= DEVICE_UNITS:
        raise NoUnitsError(f"all {DEVICE_UNITS} purchased device units are used: register a test device instead")
    if known is not None:
        connection.execute(
            "UPDATE devices SET name = ?, type = ?, environment = ?, test_device = ? WHERE id = ?",
            (name, kind, environment, test_device, known["id"]),
        )
        return known["id"], known["dsn"], False
    identity, dsn = str(uuid.uuid4()), new_dsn(connection)
    connection.execute(
        "INSERT INTO devices (id, serial, dsn, name, type, environment, test_device, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (identity, serial, dsn, name, kind, environment, test_device, now()),
    )
    return identity, dsn, True


def new_dsn(connection: sqlite3.Connection) -> str:
    """Return a device serial number that no device has (form: our choice, the platform's is not documented)."""
    while True:
        dsn = f"SIM-{secrets.token_hex(4).upper()}"
        if identify(connection, dsn) is None:
            return dsn


def units(connection: sqlite3.Connection, *, without: str = "") -> dict[str, int]:
    """Count purchased units, production devices that use them, and test devices; `without` one serial number."""
    rows = connection.execute(
        "SELECT test_device, COUNT(*) AS count FROM devices WHERE serial != ? GROUP BY test_device", (without,)
    )
    counts = {bool(row["test_device"]): int(row["count"]) for row in rows}
    return {"purchased": DEVICE_UNITS, "used": counts.get(False, 0), "test_devices": counts.get(True, 0)}


def change(connection: sqlite3.Connection, identity: str, values: Mapping[str, str]) -> None:
    """Set `values`, of the keys name, environment and type, of one device."""
    connection.execute(
        """UPDATE devices SET name = coalesce(?, name), environment = coalesce(?, environment),
        type = coalesce(?, type) WHERE id = ?""",
        (*map(values.get, ("name", "environment", "type")), identity),
    )


def remove(connection: sqlite3.Connection, identity: str) -> None:
    """Forget a device with its sessions and logs."""
    connection.execute("DELETE FROM devices WHERE id = ?", (identity,))


def beat(
    connection: sqlite3.Connection,
    identity: str,
    *,
    online: bool,
    metrics: object | None,
    compositions: object | None,
    interval: int | None,
) -> None:
    """Note a heartbeat; what is None keeps its last value. `interval` is in microseconds.

    A device that is offline runs no compositions.
    """
    running = compositions if online else []
    connection.execute(
        """UPDATE devices SET online = :online, last_heartbeat = :now, heard_at = :moment,
        metrics = coalesce(:metrics, metrics), compositions = coalesce(:compositions, compositions),
        heartbeat_interval = coalesce(:interval, heartbeat_interval) WHERE id = :id""",
        {
            "online": online,
            "now": now(),
            "moment": moment(),
            "metrics": None if metrics is None else json.dumps(metrics),
            "compositions": json.dumps(running) if running is not None else None,
            "interval": interval,
            "id": identity,
        },
    )


def all_offline(connection: sqlite3.Connection) -> None:
    """Show every device as offline and idle: at a start of the platform no device is connected."""
    connection.execute("UPDATE devices SET online = 0, compositions = '[]' WHERE online OR compositions != '[]'")
