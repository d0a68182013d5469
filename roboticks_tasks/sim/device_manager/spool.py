"""The spool: what is for the platform is in a file before it is sent, and stays there until the platform has it.

One message is one line of JSON. A line has the number of the batch it belongs to, so a batch that is read again, by
this process or by the next one after a crash, is the same one, and the platform can tell that it has it already. Each
start numbers from 1 under an id of its own: a file that lost its end can never make a number serve twice.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections import deque
from pathlib import Path
from typing import Any

from roboticks_tasks.sim.device_manager.segments import Batch, Segment, first_batch, read_at

SEGMENT_BYTES = 1 << 20
LIMIT_BYTES = 64 << 20
"""Bytes of all files; beyond it the oldest file goes, and a notice says with how many messages."""

BATCH_MESSAGES = 500
BATCH_BYTES = 120_000
"""Bytes of the messages in a batch: with what is around them it stays below the documented 128 KB of a message."""

READ_BYTES = 8 * BATCH_BYTES
"""More than the lines of any batch, so that one read has it whole."""

NAME = re.compile(r"\d{8,}\.jsonl")

Entry = tuple[str | None, dict[str, Any]]
"""The session that was active when the message was written, and the message as the platform gets it."""


class Spool:
    """The files of one folder, of this start and of earlier ones, oldest first."""

    def __init__(self, folder: Path, *, limit: int = LIMIT_BYTES, segment: int = SEGMENT_BYTES) -> None:
        """Find what earlier starts have left in `folder`; nothing is written yet. Never raises."""
        self.boot_id = str(uuid.uuid4())
        self.notices: deque[str] = deque()
        """What a person should know, for whoever writes the log."""
        self._folder, self._limit, self._segment_bytes = folder, limit, segment
        self._segments: deque[Segment] = deque()
        try:
            for path in sorted((p for p in folder.iterdir() if NAME.fullmatch(p.name)), key=_number):
                self._segments.append(Segment(path, path.stat().st_size))
        except OSError as error:
            self.notices.append(f"cannot read {folder}: {error.strerror}")
        self._next_number = _number(self._segments[-1].path) + 1 if self._segments else 1
        self._total = sum(segment.size for segment in self._segments)
        self._current: Segment | None = None
        self._file = -1
        self._in_trouble = False
        self._sequence = 0
        self._session: str | None = None
        self._messages = self._bytes = 0
        self._sealed = True

    @property
    def empty(self) -> bool:
        """Tell whether nothing waits in a file."""
        return all(segment.offset >= segment.size for segment in self._segments)

    def take(self, waiting: deque[Entry]) -> None:
        """Move messages into the file as far as it takes them; with a full disk they stay where they are."""
        while waiting and self._append(*waiting[0]):
            waiting.popleft()

    def peek(self) -> Batch | None:
        """Return the oldest batch, None when there is none; from now on nothing is added to it."""
        while self._segments:
            segment = self._segments[0]
            batch = self._read(segment)
            if batch is not None:
                self._sealed = self._sealed or (batch.boot_id, batch.sequence) == (self.boot_id, self._sequence)
                return batch
            if segment is self._current:
                return None
            self._remove(segment)
        return None

    def done(self, batch: Batch) -> None:
        """Forget a batch that `peek` has returned."""
        segment = batch.segment
        segment.offset = batch.end
        if segment.offset < segment.size or segment not in self._segments:
            return
        if segment is not self._current:
            self._remove(segment)
            return
        try:
            os.ftruncate(self._file, 0)
        except OSError:
            self._close()
            self._remove(segment)
        else:
            self._total -= segment.size
            segment.size = segment.offset = 0

    def close(self) -> None:
        """Leave no file that says nothing."""
        segment = self._current
        self._close()
        if segment is not None and segment.size == 0:
            self._remove(segment)

    def _append(self, session_id: str | None, message: dict[str, Any]) -> bool:
        full = self._messages >= BATCH_MESSAGES
        begins = self._sealed or full or session_id != self._session or self._current is None
        line = self._line(session_id, message, sequence=self._sequence + begins)
        if not begins and self._bytes + len(line) > BATCH_BYTES:
            begins, line = True, self._line(session_id, message, sequence=self._sequence + 1)
        if not self._write(line, may_rotate=begins):
            return False
        if begins:
            self._sequence, self._session, self._sealed = self._sequence + 1, session_id, False
            self._messages = self._bytes = 0
        self._messages += 1
        self._bytes += len(line)
        while self._total > self._limit and self._segments[0] is not self._current:
            self._drop(self._segments[0])
        return True

    def _line(self, session_id: str | None, message: dict[str, Any], *, sequence: int) -> bytes:
        document = {"boot_id": self.boot_id, "sequence": sequence, "session_id": session_id, **message}
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    def _write(self, line: bytes, *, may_rotate: bool) -> bool:
        try:
            if self._current is None or (may_rotate and self._current.size >= self._segment_bytes):
                self._open()
            assert self._current is not None
            if os.write(self._file, line) < len(line):
                raise OSError(0, "no space left for a whole message")
        except OSError as error:
            self._recover(error)
            return False
        self._current.size += len(line)
        self._total += len(line)
        if self._in_trouble:
            self._in_trouble = False
            self.notices.append("messages for the platform are kept on disk again")
        return True

    def _open(self) -> None:
        self._close()
        path = self._folder / f"{self._next_number:08d}.jsonl"
        self._next_number += 1
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._current = Segment(path, 0)
        self._segments.append(self._current)

    def _recover(self, error: OSError) -> None:
        """Take back what was written of a line; where that fails, the next line goes into a file of its own."""
        if self._current is not None:
            try:
                os.ftruncate(self._file, self._current.size)
            except OSError:
                self._close()
        if not self._in_trouble:
            self._in_trouble = True
            why = error.strerror or error
            self.notices.append(f"cannot write {self._folder}: {why}; messages for the platform stay in memory")

    def _read(self, segment: Segment) -> Batch | None:
        """Return the batch at the segment's offset and skip what is no message; None at the end."""
        skipped = 0
        batch: Batch | None = None
        while batch is None and segment.offset < segment.size:
            try:
                chunk = read_at(segment.path, segment.offset, min(READ_BYTES, segment.size - segment.offset))
            except OSError as error:
                self.notices.append(f"cannot read {segment.path}: {error.strerror}; it is left as it is")
                self._forget(segment)
                return None
            if not chunk:  # somebody else has cut the file
                self._remove(segment)
                return None
            batch, beginning = first_batch(chunk, segment)
            skipped += beginning - segment.offset
            segment.offset = beginning
        if skipped:
            self.notices.append(f"{skipped} damaged bytes of {segment.path} were left out")
        return batch

    def _drop(self, segment: Segment) -> None:
        try:
            count = read_at(segment.path, segment.offset, segment.size).count(b"\n")
        except OSError:
            count = 0
        self._remove(segment)
        self.notices.append(f"{count} older messages were dropped: the platform was away too long")

    def _remove(self, segment: Segment) -> None:
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            self.notices.append(f"cannot remove {segment.path}: {error.strerror}")
        self._forget(segment)

    def _forget(self, segment: Segment) -> None:
        if segment is self._current:
            self._close()
        if segment in self._segments:
            self._segments.remove(segment)
            self._total -= segment.size

    def _close(self) -> None:
        if self._current is not None:
            os.close(self._file)
            self._current = None


def _number(path: Path) -> int:
    return int(path.stem)
