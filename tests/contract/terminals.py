"""A pseudo terminal behind a link, as a board's serial port: the test has the board's end, and can unplug it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import tempfile
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from roboticks_tasks.serial_console.line import Line


class Terminal:
    """The board's end of a serial port that is found at `path`, a link as in /dev/serial/by-id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.board = self._device = -1
        self.plug()

    def plug(self) -> None:
        """Make a new device appear behind the link."""
        self.board, self._device = pty.openpty()
        tty.setraw(self._device)
        new = self.path.with_suffix(".new")
        new.symlink_to(os.ttyname(self._device))
        new.replace(self.path)

    def unplug(self) -> None:
        """Take the device away; the link leads nowhere."""
        for descriptor in (self.board, self._device):
            with suppress(OSError):
                os.close(descriptor)
        self.board = self._device = -1

    @property
    def device(self) -> str:
        """Return the device behind the link."""
        return os.ttyname(self._device)

    def say(self, data: bytes) -> None:
        """Send all of `data`; blocks while nobody reads it."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.board, rest) :]

    def hear(self, size: int, timeout: float = 20.0) -> bytes:
        """Return `size` bytes that were sent to the board, or what came within `timeout` seconds."""
        heard = b""
        deadline = time.monotonic() + timeout
        while len(heard) < size and select.select([self.board], [], [], max(0.0, deadline - time.monotonic()))[0]:
            heard += os.read(self.board, size - len(heard))
        return heard


def came(line: Line, size: int) -> bytes:
    """Return `size` bytes that come out of a line: a port may give them one by one."""
    data = b""
    while len(data) < size and (more := line.read(20.0)):
        data += more
    return data


@contextmanager
def own_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test, and what it starts, a private folder of its own; its path must be short, whatever TMPDIR is."""
    folder = tempfile.mkdtemp(prefix="rt-", dir="/tmp")
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    yield Path(folder)
    shutil.rmtree(folder)
