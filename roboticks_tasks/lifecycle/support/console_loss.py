"""Whether a board's console, which tests may have listened to, has been lost meanwhile."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from roboticks_tasks import processes
from roboticks_tasks.models import BoardRef

RECORD = re.compile(rb"^\S+ \S+ (--- console lost: |--- capture ended: )?([^\n]*)", re.MULTILINE)
"""A line of the capture's log, with its own note of a loss. What comes behind, be it the note that the console is
back, after a power cycle say, or a word of the board's, disproves it: the board may have said "console lost" itself."""

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
    losses: list[bytes] = []
    with suppress(OSError), Path(board.capture.log).open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(since if since <= size else 0, size - LATEST))  # a shorter one is a new part of it
        for record in RECORD.finditer(stream.read()):
            losses = [*losses, record[2]] if record[1] else []
    if losses:
        return losses[0].decode("utf-8", "replace")
    process = board.capture.process
    return None if processes.is_alive(process.pid, process.start_time) else "the process that captures it is gone"
