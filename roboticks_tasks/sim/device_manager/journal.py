"""The log: one line per message to stderr and to the log file, and one into the spool for the platform."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from roboticks_tasks.sim.device_manager import endings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from roboticks_tasks.sim.device_manager.spool import Entry, Spool

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
BACKLOG = 10_000
"""Messages kept in memory when the spool takes none: the size of the ring buffer in the platform's log design."""

LONGEST_MESSAGE = 8_192
"""Characters of one message; the MQTT limit documented for the platform is 128 KB for a whole batch."""


class Journal:
    """Where every message goes; `session_id` is the session that new messages belong to."""

    def __init__(self, path: Path, spool: Spool | None = None) -> None:
        """Open the log file; Ending when that is not possible. Without a spool messages wait in memory."""
        self.path = path
        self.spool = spool
        self.session_id: str | None = None
        self.backlog: deque[Entry] = deque(maxlen=BACKLOG)
        self.dropped = 0
        self.on_message: Callable[[], None] = lambda: None
        try:
            self._file: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise endings.storage(str(path), error) from error
        self._stderr: int | None = sys.stderr.fileno() if sys.stderr else None
        self._stderr_is_the_log = _same_file(self._file, self._stderr)
        if self._stderr_is_the_log:
            os.close(self._file)
            self._file = None

    def info(self, module: str, message: str) -> None:
        """Write an INFO message of this part of the device manager."""
        self.write("INFO", module, message)

    def warning(self, module: str, message: str) -> None:
        """Write a WARNING message."""
        self.write("WARNING", module, message)

    def error(self, module: str, message: str) -> None:
        """Write an ERROR message."""
        self.write("ERROR", module, message)

    def write(self, level: str, module: str, message: str) -> None:
        """Write one message, also into the spool; Ending when the log file cannot take it."""
        now = time.time_ns() // 1000
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[:LONGEST_MESSAGE]} [{len(message) - LONGEST_MESSAGE} characters cut]"
        # First of all: what the log shows must reach the platform even if this process is killed before the next line.
        self._keep({"timestamp_us": now, "level": level, "module": module, "message": message})
        line = format_line(now, level, module, message).encode("utf-8", "replace")
        self._to_stderr(line)
        self._to_file(line)
        while self.spool is not None and self.spool.notices:
            self.warning("spool", self.spool.notices.popleft())
        self.on_message()

    def _keep(self, message: dict[str, Any]) -> None:
        if len(self.backlog) == BACKLOG:
            self.dropped += 1
        self.backlog.append((self.session_id, message))
        if self.spool is not None:
            self.spool.take(self.backlog)

    def _to_file(self, line: bytes) -> None:
        if self._file is None:
            return
        try:
            _write_all(self._file, line)
        except OSError as error:
            self._file = None
            raise endings.storage(str(self.path), error) from error

    def _to_stderr(self, line: bytes) -> None:
        if self._stderr is None:
            return
        try:
            _write_all(self._stderr, line)
        except OSError as error:
            self._stderr = None
            if self._stderr_is_the_log:
                raise endings.storage(str(self.path), error) from error


def format_line(timestamp_us: int, level: str, module: str, message: str) -> str:
    """Return the line of one message, e.g. `2026-11-22T13:00:00.123456Z INFO [bus] text` and a newline.

    Control characters are shown as escapes: whatever a module prints stays one line.
    """
    seconds, microseconds = divmod(timestamp_us, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if not message.isprintable():
        message = "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in message)
    return f"{moment}.{microseconds:06d}Z {level} [{module}] {message}\n"


def split_level(text: str) -> tuple[str, str]:
    """Return the level a module's line begins with and the rest; a line without one is INFO (our choice)."""
    first, separator, rest = text.partition(" ")
    level = first.rstrip(":")
    return (level, rest) if separator and level in LEVELS else ("INFO", text)


def _same_file(first: int, second: int | None) -> bool:
    if second is None:
        return False
    try:
        return os.path.samestat(os.fstat(first), os.fstat(second))
    except OSError:
        return False


def _write_all(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]
