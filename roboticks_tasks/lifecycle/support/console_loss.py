"""Whether a board's console, which tests may have listened to, has been lost meanwhile."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from roboticks_tasks import processes
from roboticks_tasks.models import BoardRef

NOTE = re.compile(rb"^\S+ \S+ --- (console lost[^\n]*|capture ended[^\n]*|console back)", re.MULTILINE)
"""What the capture notes in its log; a console that is back, after a power cycle say, is not lost."""

LATEST = 1_000_000
"""Bytes of the log's end that are looked at: a console that is lost says nothing behind its note."""


def log_size(board: BoardRef | None) -> int:
    """Return how long the console's log is, in bytes; 0 where there is none."""
    with suppress(OSError):
        if board is not None and board.capture is not None:
            return Path(board.capture.log).stat().st_size
    return 0


def console_loss(board: BoardRef | None, *, since: int) -> str | None:
    """Say how the console was lost since its log had `since` bytes; None when there is none, or it is still there."""
    if board is None or board.capture is None:
        return None
    notes: list[bytes] = []
    with suppress(OSError), Path(board.capture.log).open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(since if since <= size else 0, size - LATEST))  # a shorter one is a new part of it
        notes = NOTE.findall(stream.read())
    if notes and not notes[-1].startswith(b"console back"):
        return notes[-1].decode("utf-8", "replace")
    process = board.capture.process
    return None if processes.is_alive(process.pid, process.start_time) else "the process that captures it is gone"
