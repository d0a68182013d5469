"""Bring a file from a target in portions: never more than one in memory, and no more of the file than is worth keeping.

The end of a log explains how something ended. So where the file is too large, or the link too slow for the time that
there is, its beginning is left after a quarter, and its end follows.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from roboticks_tasks.bounded import LIMIT, gap
from roboticks_tasks.disk import SLOT, replacing, write_atomically
from roboticks_tasks.errors import ConfigError, TargetError
from roboticks_tasks.redaction import NOTHING, Redactor
from roboticks_tasks.targets.protocol import Target
from roboticks_tasks.targets.staging import CUT_OFF, LACKING
from roboticks_tasks.waiting import Deadline

BLOCK = 4096
"""Bytes; portions begin at a multiple of it, because dd(1) counts in blocks."""

FIRST, MOST = 4 * BLOCK, 1024 * BLOCK
"""Bytes of the first portion, two seconds of a serial line at 115200 baud, and of the largest: what is in memory."""

QUICK, SLOW = 0.25, 2.0
"""Seconds; a portion that took less is followed by a larger one, one that took more by a smaller one."""

GROWTH = 4

TIMEOUT = 300.0

IN_RESERVE = SLOT * 3 // 4
"""Bytes that are kept of a file on a full disk, in what was reserved; portions and notes make it a bit more."""

# $1 file, $2 blocks before the portion, $3 blocks of it. A line with the file's size comes first.
PORTION = f"""
set -f
[ -f "$1" ] || exit {LACKING}
[ -r "$1" ] || {{ echo "it cannot be read" >&2; exit {CUT_OFF}; }}
set -- "$1" "$2" "$3" $(ls -dnL -- "$1") || exit {CUT_OFF}
echo "$8"
exec dd if="$1" bs={BLOCK} skip="$2" count="$3" 2>/dev/null
"""


class Fetched(NamedTuple):
    """What came of a file: its bytes on the target, how many of them are here, what broke on the way, and why not all.

    As text it says how much there is, in words.
    """

    size: int
    kept: int
    problem: str = ""
    note: str = ""

    def __str__(self) -> str:
        much = f"{self.size} bytes" if self.kept == self.size else f"{self.kept} of {self.size} bytes"
        return f"{much}: {self.note}" if self.note else much


def fetch(
    target: Target,
    path: str,
    destination: Path,
    *,
    limit: int = LIMIT,
    timeout: float = TIMEOUT,
    redactor: Redactor = NOTHING,
) -> Fetched | None:
    """Copy the file `path` of the target to `destination`, which is replaced as a whole; None when there is none.

    At most `limit` bytes are kept, a quarter from the beginning and the rest from the end, and what comes within
    `timeout` seconds; a line says how many bytes are missing where. Only as much is read as the file has when it is
    first seen. When the link breaks after the first portion, what came is kept, and `problem` tells; on a full disk
    a little of it finds room in its folder's reserve, and `note` tells. Raises TargetError when nothing can be read,
    ConfigError when `destination` cannot be written.
    """
    source = _Source(target, path, Deadline(timeout))
    first = source.read(0)
    if first is None:
        return None
    try:
        with replacing(destination) as file:
            return _copy(source, first, _Copy(file, redactor), limit)
    except ConfigError as error:
        # What is left of a full disk is worth its last words.
        buffer = io.BytesIO()
        fetched = _copy(source, first, _Copy(buffer, redactor), IN_RESERVE)
        write_atomically(destination, buffer.getvalue())
        return fetched._replace(note=error.args[0])


def _copy(source: _Source, first: bytes, copy: _Copy, limit: int) -> Fetched:
    problem = ""
    if source.size > limit:
        first = first[: max(BLOCK, limit // 4 // BLOCK * BLOCK)]
    copy.add(0, first)
    try:
        for offset, data in _rest(source, len(first), limit):
            copy.add(offset, data)
    except TargetError as error:
        problem = str(error)
    copy.end(source.size)
    return Fetched(source.size, copy.kept, problem)


def _rest(source: _Source, at: int, limit: int) -> Iterator[tuple[int, bytes]]:
    """Yield the portions behind `at`, with the place of each."""
    has_jumped = False
    while at < source.size:
        most = MOST
        reach = min(limit, at + source.room)
        if not has_jumped and source.size > reach:
            if at >= reach // 4:
                end = min(reach - reach // 4, source.room)
                at = max(at, -(-(source.size - end) // BLOCK) * BLOCK)
                has_jumped = True
            else:
                most = -(-(reach // 4 - at) // BLOCK) * BLOCK
        if source.is_late or at >= source.size:
            return
        data = source.read(at, most)
        if not data:
            return  # it has been emptied, or removed
        yield at, data
        at += len(data)


class _Source:
    """A file on a target, and how fast it comes."""

    def __init__(self, target: Target, path: str, deadline: Deadline) -> None:
        self._target = target
        self._path = path
        self._deadline = deadline
        self._portion = FIRST
        self._rate = 0.0
        self.size = -1

    @property
    def is_late(self) -> bool:
        """Tell whether there is no time for another portion."""
        return self.room < BLOCK

    @property
    def room(self) -> int:
        """Return the bytes that are sure to come in the time that is left."""
        return int(self._rate * self._deadline.remaining / 2)

    def read(self, at: int, most: int = MOST) -> bytes | None:
        """Return a portion that begins at `at`; None when there is no such file."""
        wanted = min(self._portion, most)
        if self.size >= 0:
            wanted = min(wanted, max(BLOCK, self.room // BLOCK * BLOCK))
        words = [self._path, str(at // BLOCK), str(wanted // BLOCK)]
        start = time.monotonic()
        argv = ["sh", "-c", PORTION, "sh", *words]
        done = self._target.run(argv, timeout=max(0.1, self._deadline.remaining), repeatable=True)
        took = max(time.monotonic() - start, 1e-6)
        if done.exit_code == LACKING:
            return None
        size, _, data = done.stdout.partition(b"\n")
        if not done.ok or not size.isdigit():
            raise TargetError(f"{self._path} could not be read: {done.last_words}")
        if self.size < 0:
            self.size = int(size)
        self._rate = len(data) / took
        if took < QUICK and self._portion < MOST:
            self._portion = min(MOST, self._portion * GROWTH)
            self._rate *= GROWTH  # most of the time was the command's, not the portion's
        elif took > SLOW:
            self._portion = max(BLOCK, self._portion // 2 // BLOCK * BLOCK)
        return data[: self.size - at]


class _Copy:
    """What is written of a file, redacted, with a line for what is missing; no part of a secret is left beside that."""

    def __init__(self, file: BinaryIO, redactor: Redactor) -> None:
        self._file = file
        self._redactor = redactor
        self._held = b""
        self._at = self.kept = 0

    def add(self, offset: int, data: bytes) -> None:
        """Write the bytes of a place behind all that were written before."""
        if offset > self._at:
            rest = _behind_line(data)
            self._leave_out(offset + len(data) - len(rest))
            data = rest
        given, self._held = self._redactor.split(self._held + data)
        self._file.write(given)
        self._at += len(data)
        self.kept += len(data)

    def end(self, size: int) -> None:
        """Write what was held back, or what is missing of `size` bytes."""
        if size > self._at:
            self._leave_out(size)
        self._file.write(self._redactor.bytes(self._held))

    def _leave_out(self, end: int) -> None:
        """Say how much is missing up to `end`: with it goes what may be a secret's beginning."""
        self._at -= len(self._held)
        self.kept -= len(self._held)
        self._held = b""
        self._file.write(gap(end - self._at))
        self._at = end


def _behind_line(data: bytes) -> bytes:
    """Return what comes behind a line whose beginning is missing: it may be a secret's end."""
    end = data.find(b"\n", 0, FIRST) + 1
    return data[end or FIRST :]
