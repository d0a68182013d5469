"""What devices say over MQTT, applied to the store: heartbeats, sessions, logs. No network here.

Payloads are ours where the platform's documentation gives none (all but the session create request).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.platform import parse, store_devices, store_sessions
from roboticks_tasks.sim.platform.throttle import Throttle

Message = tuple[str, bytes]
"""Topic and payload as received."""

Reply = tuple[str, object]
"""Topic and the object to send as JSON."""


class Sender(NamedTuple):
    """The device that a message is from."""

    id: str
    dsn: str
    throttle: Throttle
    """Where trouble with its messages is noted."""


Handler = Callable[[sqlite3.Connection, Sender, dict[str, object]], Reply | None]

UNKNOWN = "no such device is registered"
"""The error by which a device that was deleted learns that it must register again."""

FAILED = "the platform failed on this request: see its log"

ENDS = ("completed", "failed")
LONGEST_INTERVAL = 86_400.0
LATEST_US = parse.LATEST * 1_000_000
LONGEST_ID = 200

REQUESTS = ("sessions", "file_upload/request")
"""Kinds of messages whose sender waits for a reply."""


def apply(connection: sqlite3.Connection, batch: Iterable[Message], *, throttle: Throttle) -> list[Reply]:
    """Apply messages in their order and return the replies; what makes no sense is noted and dropped.

    A message that fails costs only itself. Raises sqlite3.OperationalError: a disk that refuses concerns all.
    """
    replies = []
    for topic, payload in batch:
        connection.execute("SAVEPOINT message")
        try:
            reply = _apply(connection, topic, payload, throttle=throttle)
        except sqlite3.OperationalError:
            raise
        except parse.InvalidError as error:
            throttle.note("dropped message", "Dropped a message on %s: %s", topic, error)
            reply = None
        except Exception as error:
            connection.execute("ROLLBACK TO message")
            throttle.note("failed message", "A message on %s failed: %r", topic, error, level=logging.ERROR)
            reply = refusal((topic, payload), FAILED) or _refused_receipt(topic, payload)
        connection.execute("RELEASE message")
        if reply is not None:
            replies.append(reply)
    return replies


def _apply(connection: sqlite3.Connection, topic: str, payload: bytes, *, throttle: Throttle) -> Reply | None:
    # The device is the one that the topic names, as documented: the broker lets no other device publish there.
    dsn, kind = _parts(topic)
    device = connection.execute("SELECT id FROM devices WHERE dsn = ?", (dsn,)).fetchone()
    if device is None:
        throttle.note("unknown device", "Dropped a message on %s: %s", topic, UNKNOWN)
        return refusal((topic, payload), UNKNOWN)
    return HANDLERS[kind](connection, Sender(device["id"], dsn, throttle), parse.json_object(payload))


def refusal(message: Message, why: str) -> Reply | None:
    """Return the reply that spares the sender of a request the wait for one; None when it does not wait."""
    topic, payload = message
    dsn, kind = _parts(topic)
    if kind not in REQUESTS:
        return None
    try:
        body = parse.json_object(payload)
    except parse.InvalidError:
        return None
    return topics.session_response(dsn), {"error": why, **_echo(body)}


def _refused_receipt(topic: str, payload: bytes) -> Reply | None:
    """Return what keeps a device from sending a batch again and again that we fail on."""
    dsn, kind = _parts(topic)
    body = parse.json_object(payload) if kind == "logs" else {}  # it was one: else the message would not have failed
    return receipt(dsn, body, why=FAILED) if body.get("receipt") is True else None


def _parts(topic: str) -> tuple[str, str]:
    """Return the DSN and the kind of message that a topic names."""
    _, _, dsn, kind = topic.split("/", 3)
    return dsn, kind


def _echo(body: Mapping[str, object]) -> dict[str, object]:
    """Return what tells the sender which request is answered."""
    given = body.get("request_id")
    return {} if given is None else {"request_id": given}


def heartbeat(connection: sqlite3.Connection, sender: Sender, body: dict[str, object]) -> None:
    """Note status, metrics and compositions; `interval` (seconds) says when silence means offline."""
    status = parse.choice(body, "status", among=("online", "offline"))
    if status is None:
        raise parse.InvalidError("status: missing")
    metrics, compositions, interval = body.get("metrics"), body.get("compositions"), body.get("interval")
    if metrics is not None:
        parse.mapping(body, "metrics")
    if compositions is not None:
        compositions = [_composition(entry) for entry in _list(body, "compositions")]
    microseconds = None
    if interval is not None:
        if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not 0 < interval <= LONGEST_INTERVAL:
            raise parse.InvalidError("interval: must be seconds, more than 0 and at most a day")
        microseconds = round(interval * 1_000_000)
    store_devices.beat(
        connection,
        sender.id,
        online=status == "online",
        metrics=metrics,
        compositions=compositions,
        interval=microseconds,
    )
    if status == "online" and isinstance(body.get("current_session_id"), str):
        store_sessions.revive(connection, sender.id, parse.text(body, "current_session_id"))


def session(connection: sqlite3.Connection, sender: Sender, body: dict[str, object]) -> Reply:
    """Create or complete a session; the reply carries its id, or an error."""
    try:
        act = {"create": _create, "complete": _complete}.get(str(body.get("action")))
        if act is None:
            raise parse.InvalidError("action: must be create or complete")
        answer = act(connection, sender.id, body)
    except parse.InvalidError as error:
        sender.throttle.note("refused session", "Refused a session request of %s: %s", sender.dsn, error)
        answer = {"error": str(error)}
    return topics.session_response(sender.dsn), {**answer, **_echo(body)}


def _create(connection: sqlite3.Connection, device: str, body: dict[str, object]) -> dict[str, object]:
    name = parse.text(body, "name", default="session")
    parse.choice(body, "status", among=("active",))
    started_at = parse.milliseconds(body, "started_at", default=store_devices.now())
    # Without an id of its own, a request that QoS 1 delivered twice is known by its name and time.
    request = parse.text(body, "request_id", default=f"{name} {started_at}", limit=LONGEST_ID + 20)
    identity, status = store_sessions.create(
        connection,
        device,
        request=request,
        name=name,
        metadata=parse.mapping(body, "metadata"),
        started_at=started_at,
    )
    return {"session_id": identity, "status": status}


def _complete(connection: sqlite3.Connection, device: str, body: dict[str, object]) -> dict[str, object]:
    identity = parse.text(body, "session_id")
    status = store_sessions.complete(
        connection,
        device,
        session=identity,
        status=parse.choice(body, "status", among=ENDS, default="completed") or "completed",
        ended_at=parse.milliseconds(body, "ended_at", default=store_devices.now()),
    )
    if status is None:
        raise parse.InvalidError(f"session_id: this device has no session {identity[:80]!r}")
    return {"session_id": identity, "status": status}


def logs(connection: sqlite3.Connection, sender: Sender, body: dict[str, object]) -> Reply | None:
    """Keep a batch of log messages once; the reply, for a device that wants a receipt, goes out when it is stored."""
    try:
        _keep(connection, sender, body)
    except parse.InvalidError as error:
        if body.get("receipt") is not True:
            raise
        sender.throttle.note("refused log", "Refused log messages of %s: %s", sender.dsn, error)
        return receipt(sender.dsn, body, why=str(error))
    return receipt(sender.dsn, body) if body.get("receipt") is True else None


def receipt(dsn: str, body: Mapping[str, object], *, why: str | None = None) -> Reply:
    """Return what tells a device that a batch is stored, or `why` it never will be."""
    told = {} if why is None else {"error": why}
    return topics.logs_response(dsn), {"boot_id": body.get("boot_id"), "sequence": body.get("sequence"), **told}


def _keep(connection: sqlite3.Connection, sender: Sender, body: dict[str, object]) -> None:
    """Store a batch; entries that make no sense are left out."""
    given = _list(body, "messages")
    entries = [entry for entry in map(_entry, given) if entry is not None]
    if len(entries) < len(given):
        lost = len(given) - len(entries)
        sender.throttle.note("bad log", "Left out %d of %d log messages of %s", lost, len(given), sender.dsn)
    new = store_sessions.add_logs(
        connection,
        sender.id,
        session=None if body.get("session_id") is None else parse.text(body, "session_id"),
        boot=parse.text(body, "boot_id"),
        sequence=parse.integer(body, "sequence", maximum=2**53),
        entries=entries,
    )
    if not new:
        text = "Log batch %s of %s came twice"
        sender.throttle.note("repeated log", text, body["sequence"], sender.dsn, level=logging.INFO)


def file_upload(_connection: sqlite3.Connection, sender: Sender, body: dict[str, object]) -> Reply:
    """Refuse at once: the local platform has no object store, and a device would wait 30 s for a reply."""
    return topics.file_upload_response(sender.dsn), {"error": "the local platform keeps no files", **_echo(body)}


def _list(body: Mapping[str, object], key: str) -> list[object]:
    value = body.get(key)
    if not isinstance(value, list):
        raise parse.InvalidError(f"{key}: must be a list")
    return value


def _composition(entry: object) -> dict[str, object]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise parse.InvalidError("compositions: each must be an object with a name")
    return {key: entry.get(key) for key in ("name", "mode", "status")}


def _entry(given: object) -> store_sessions.Entry | None:
    if not isinstance(given, dict):
        return None
    level, module, message = given.get("level"), given.get("module"), given.get("message")
    if not (isinstance(level, str) and isinstance(module, str) and isinstance(message, str)):
        return None
    try:
        timestamp = parse.integer(given, "timestamp_us", maximum=LATEST_US)
    except parse.InvalidError:
        return None
    # SQLite's text functions stop at a null character.
    return store_sessions.Entry(timestamp, level.upper(), module, message.replace("\x00", "\ufffd"))


HANDLERS: Mapping[str, Handler] = {
    "heartbeat": heartbeat,
    "sessions": session,
    "logs": logs,
    "file_upload/request": file_upload,
}
