"""A log file that never grows beyond a size: the older parts are LOG.1, LOG.2 and so on, the highest is the oldest."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

SIZE = 64 * 1024 * 1024
KEEP = 3


class RotatingLog:
    """Appends records to `path`; when it would grow beyond `size` bytes it becomes PATH.1, between two records.

    A disk that is full loses records, never the capture: `lost` counts the bytes, and `problem` says why. `is_complete`
    tells whether the file ends with a whole record.
    """

    def __init__(self, path: Path, *, size: int = SIZE, keep: int = KEEP) -> None:
        self.path = path
        self.lost = 0
        self.problem = ""
        self._limit = size
        self._keep = keep
        self.is_complete = True
        self._open()
        if not self.is_complete:
            self._append(b"\n")  # whoever wrote it before was killed

    def write(self, text: bytes) -> bool:
        """Append `text`; return whether all of it is in the file."""
        kept = True
        while self._size + len(text) > self._limit:
            cut = text.rfind(b"\n", 0, max(0, self._limit - self._size)) + 1
            if not cut and not (self._size and self.is_complete):
                cut = text.find(b"\n") + 1  # the record that is under way stays whole
                if not cut:
                    break
            kept = self._append(text[:cut]) and kept
            text = text[cut:]
            if self.is_complete and not self._rotate():
                break
        return self._append(text) and kept

    def is_removed(self) -> bool:
        """Tell whether the file was deleted: nobody will ever read it."""
        return os.fstat(self._fd).st_nlink == 0

    def reopen(self) -> None:
        """Go on in a new file under the same name."""
        old = self._fd
        self._open()
        os.close(old)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _append(self, text: bytes) -> bool:
        rest = memoryview(text)
        try:
            while rest:
                written = os.write(self._fd, rest)
                self.is_complete = False
                self._size += written
                rest = rest[written:]
            self.is_complete = text.endswith(b"\n") if text else self.is_complete
        except OSError as error:
            self.lost += len(rest)
            self.problem = error.strerror or str(error)
            return False
        return True

    def _rotate(self) -> bool:
        try:
            for number in range(self._keep, 1, -1):
                with suppress(FileNotFoundError):
                    os.replace(self._numbered(number - 1), self._numbered(number))  # noqa: PTH105 - names, not paths
            os.replace(self.path, self._numbered(1))  # noqa: PTH105
            self.reopen()
        except OSError:
            return False  # the file grows: better than to lose what comes
        return True

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(self._fd).st_size
        self.is_complete = self._size == 0 or os.pread(self._fd, 1, self._size - 1) == b"\n"

    def _numbered(self, number: int) -> str:
        return f"{self.path}.{number}"
