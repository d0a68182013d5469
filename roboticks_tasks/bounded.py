"""Logs that do not grow beyond a size: their beginning and their end are kept, and a line says how much is between."""

from __future__ import annotations

import io
import logging
import shutil
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

LIMIT = 64 * 1024 * 1024
"""Bytes of a log that are kept: what people still open, and CI systems still store with each run."""

LAST = 262_144
"""Bytes of a log's end in which its last lines are looked for."""

WIDEST = 2_000
"""Characters of a line that are shown to people."""


def gap(count: int, why: str = "left out") -> bytes:
    """Return the line that stands for `count` bytes."""
    return b"\n--- %d bytes %s ---\n" % (count, why.encode("utf-8", "replace"))


def narrow(line: str) -> str:
    """Return a line as it is shown to people: cut, and honest about it."""
    return line if len(line) <= WIDEST else f"{line[:WIDEST]}… ({len(line)} characters)"


def last_lines(path: Path, most: int = 100) -> list[str]:
    """Return the last lines of a file, each cut, without reading more than its end; OSError when it cannot be read."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        start = stream.seek(max(0, size - LAST))
        lines = stream.read(LAST).decode("utf-8", "replace").splitlines()
    return [narrow(line) for line in (lines[1:] if start and len(lines) > 1 else lines)[-most:]]


class BoundedLog:
    """A log of the bytes that it is given: a quarter of `limit` is for their beginning, the rest for their end.

    The end is kept beside it in two parts, of which the older one goes when the newer one is full; `close` puts
    everything together. A disk that is full loses bytes, never the program that writes: they are counted and told.
    """

    def __init__(self, path: Path, *, limit: int = LIMIT) -> None:
        self.name = str(path)
        self.closed = False
        self._path = path
        self._head, self._part = limit // 4, limit * 3 // 8
        self._parts: list[Path] = []
        self._taken = self._lost = 0
        self._room = self._head
        self._is_complaining = False
        for left in _parts(path):
            left.unlink()
        self._file: io.FileIO | None = path.open("wb", buffering=0)

    def __enter__(self) -> BoundedLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Take note of some bytes; never raises."""
        rest = memoryview(data)
        while rest and not self.closed:
            if not self._room:
                self._begin_part()
            piece = rest[: self._room]
            self._append(piece)
            self._taken += len(piece)
            self._room -= len(piece)
            rest = rest[len(piece) :]

    def close(self) -> None:
        """Put beginning and end together."""
        if self.closed:
            return
        self.closed = True
        self._leave_part()
        assemble(self._path)

    def _append(self, piece: memoryview) -> None:
        try:
            if self._file is None:
                self._file = (self._parts or [self._path])[-1].open("ab", buffering=0)
            if self._lost:
                self._file.write(gap(self._lost, "lost: the disk did not take them"))
                self._lost = 0
            while piece:
                piece = piece[self._file.write(piece) :]
        except OSError as error:
            self._lost += len(piece)
            if not self._is_complaining:
                log.error("%s is cut off: %s", self.name, error.strerror)
                self._is_complaining = True

    def _begin_part(self) -> None:
        self._leave_part()
        while len(self._parts) >= 2:
            with suppress(OSError):
                self._parts[0].unlink()
            del self._parts[0]
        self._parts.append(self._path.with_name(f".{self._path.name}.from-{self._taken}"))
        self._room = self._part

    def _leave_part(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


def assemble(path: Path) -> None:
    """Append the end of a log to its beginning, also after a process that was killed; never raises."""
    at = None
    try:
        for part in _parts(path):
            at = path.stat().st_size if at is None else at
            _append_part(path, part, missing=_offset(part) - at)
            at = _offset(part) + part.stat().st_size
            part.unlink()
    except OSError as error:
        log.error("the end of %s stays in %s: %s", path, path.with_name(f".{path.name}.from-*"), error.strerror)


def _append_part(path: Path, part: Path, *, missing: int) -> None:
    with path.open("ab") as whole, part.open("rb") as end:
        size = whole.tell()
        try:
            if missing > 0:
                whole.write(gap(missing))
            shutil.copyfileobj(end, whole)
            whole.flush()
        except OSError:
            with suppress(OSError):
                whole.truncate(size)
            raise


def _parts(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f".{path.name}.from-*"), key=_offset)


def _offset(part: Path) -> int:
    text = part.name.rpartition("-")[2]
    return int(text) if text.isdecimal() else 0
