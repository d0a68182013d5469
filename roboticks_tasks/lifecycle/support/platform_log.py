"""Keep what the platform has of a session: its log, how it stands, and what becomes of the device."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

import msgspec

from roboticks_tasks.backend import Client, open_client
from roboticks_tasks.disk import write_atomically
from roboticks_tasks.errors import BackendError
from roboticks_tasks.models import BackendRef, Session
from roboticks_tasks.redaction import NOTHING, Redactor
from roboticks_tasks.waiting import Deadline

log = logging.getLogger(__name__)

NAME = "platform.jsonl"

SECONDS = 2.0
"""Seconds for all of it: a teardown has few, and the device has the same words."""

PAGE = 1_000
"""Lines of the log that are asked for at once."""

LIMIT = 8 * 1024 * 1024
"""Bytes that are kept."""


class Keeping:
    """Asks the platform beside the other parts of a teardown; `wait` says what came of it."""

    def __init__(
        self,
        backend: BackendRef,
        session: Session,
        artifacts: Path,
        *,
        deadline: Deadline,
        redactor: Redactor = NOTHING,
    ) -> None:
        self._deadline = Deadline(min(SECONDS, deadline.remaining / 2))
        self._outcome = "the platform did not answer in time"
        arguments = (backend, session, artifacts, self._deadline, redactor)
        self._thread = threading.Thread(target=self._work, args=arguments, name="platform-log", daemon=True)
        self._thread.start()

    def wait(self) -> str:
        """Return what was kept, in words, when it is there or its time is up; it is never an error."""
        self._thread.join(self._deadline.remaining)
        return self._outcome

    def _work(self, *arguments: Any) -> None:
        try:
            self._outcome = keep_platform_log(*arguments)
        except Exception as error:
            # What the platform says in addition is worth no bad end of a teardown.
            self._outcome = f"not kept: {error}"


def keep_platform_log(
    backend: BackendRef, session: Session, artifacts: Path, deadline: Deadline, redactor: Redactor = NOTHING
) -> str:
    """Write `platform.jsonl`: a line for each of the session's log lines, and how session and device stand now.

    What came until `deadline` is kept. BackendError when the platform says nothing, ConfigError when the folder does
    not take it.
    """
    with open_client(backend, quick=True, deadline=deadline) as client:
        if not client.can_read:
            return "not known: the platform cannot be asked without a key"
        lines = bytearray()
        count = 0
        problem = ""
        try:
            for line in _everything(client, session, deadline):
                piece = redactor.bytes(msgspec.json.encode(line)) + b"\n"
                if len(lines) + len(piece) > LIMIT:
                    problem = f"only the first {LIMIT} bytes are kept"
                    break
                lines += piece
                count += 1
        except BackendError as error:
            if not lines:
                raise
            problem = str(error)
    artifacts.mkdir(parents=True, exist_ok=True)
    write_atomically(artifacts / NAME, bytes(lines), durable=False)
    return f"{count} lines" + (f"; {problem}" if problem else "")


def _everything(client: Client, session: Session, deadline: Deadline) -> Iterator[dict[str, object]]:
    found = client.session(session.id)
    for key, what in (("started_at", "began"), ("ended_at", f"ended: {found.get('status')}")):
        if (at := _moment(found.get(key))) is not None:
            yield _line(at, f"session {session.id} {what}", clock="board")  # it is the device that says when
    yield _line(time(), f"session {session.id} is {found.get('status')}")
    with suppress(BackendError):
        device = client.device(session.dsn)
        seen = f", its last heartbeat at {device['last_heartbeat']}" if device.get("last_heartbeat") else ""
        yield _line(time(), f"device {session.dsn} is {device.get('status')}{seen}")
    yield from _log(client, session, deadline)


def _log(client: Client, session: Session, deadline: Deadline) -> Iterator[dict[str, object]]:
    """Yield the session's log, a page after the other: each begins with the moment that the last one ended with."""
    since = ""
    reached = float("-inf")
    seen: list[Any] = []
    while not deadline.expired:
        page = client.logs(session.id, limit=str(PAGE), **({"since": since} if since else {}))
        last = since
        for each in page:
            at = _moment(each.get("timestamp")) if isinstance(each, dict) else None
            if at is None or at < reached or each in seen:
                continue
            module = f"[{each['module']}] " if each.get("module") else ""
            level = str(each["level"]).lower() if each.get("level") else None
            yield _line(at, f"{module}{each.get('message', '')}", level, clock="board")
            last = str(each["timestamp"])
        if len(page) < PAGE or last == since:  # or it knows no `since`
            return
        since, reached = last, _moment(last) or reached
        seen = [each for each in page if isinstance(each, dict) and each.get("timestamp") == last]


def _line(at: float, text: str, level: str | None = None, *, clock: str | None = None) -> dict[str, object]:
    """Return a line as it is written; by the board's clock where `clock` is "board", else by this machine's."""
    printable = text.encode("utf-8", "backslashreplace").decode()
    return {"at": at, "text": printable, "level": level, **({"clock": clock} if clock else {})}


def _moment(text: object) -> float | None:
    """Return what an ISO 8601 time means; one without a zone is taken for UTC."""
    try:
        moment = datetime.fromisoformat(str(text))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
