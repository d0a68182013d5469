"""The serial console of the board, as tests see it: read from the log of its capture, which alone has the port."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

import pytest

from roboticks_tasks.errors import BoardError
from roboticks_tasks.models import Capture
from roboticks_tasks.profiles.values import Console as Port
from roboticks_tasks.serial_console.line import open_line
from roboticks_tasks.serial_console.registration import find_capture, is_capturing
from roboticks_tasks.waiting import Deadline, first

MOST = 1_000_000
"""Characters that are kept of what a console has said; what is older can be read in console.log."""

SHOWN = 4_000
"""Characters of it that stand in an AssertionError."""

CHUNK = 262_144

STAMP = re.compile(rb"\d+\.\d+ \S+Z ")
"""What a record of the log begins with: monotonic seconds and the wall clock."""


class Console:
    """What the board says on its console, from a position on, and what is typed there.

    A position counts characters. That from which `expect` looks is behind its last match, and never before the
    beginning of the current test. What was said is read without the secrets of the run, as it stands in console.log.
    """

    def __init__(self, port: Port, capture: Capture, *, board: str, is_shell: bool) -> None:
        self._port = port
        self._capture = capture
        self._board = board
        self._is_shell = is_shell
        self._log = Follower(Path(capture.log))
        self._text = self._log.read()
        self._dropped = 0
        self._begin = self._next = self.position

    def begin(self) -> None:
        """Forget what was said up to now: another test begins."""
        self._begin = self._next = self.position

    @property
    def position(self) -> int:
        """Where the console is now: `expect(…, since=position)` looks at what is said from now on."""
        self._read()
        return self._dropped + len(self._text)

    @property
    def seen(self) -> str:
        """What was said since the test began."""
        self._read()
        return self._since(self._begin)

    def expect(
        self, pattern: str | re.Pattern[str], timeout: float = 5.0, *, since: int | None = None
    ) -> re.Match[str]:
        """Wait until the regular expression is found, from where the last one ended or from `since` on; return it.

        `^` and `$` are those of a line. AssertionError after `timeout` seconds, with what was said instead; BoardError
        when the capture has ended, which says nothing about the board.
        """
        compiled = re.compile(pattern, re.MULTILINE) if isinstance(pattern, str) else pattern
        start = self._next if since is None else since
        deadline = Deadline(timeout)

        def look() -> re.Match[str] | bool | None:
            was_alive = is_capturing(self._capture)
            self._read()
            return compiled.search(self._since(start)) or (None if was_alive else False)

        found = first(look, deadline=deadline, interval=0.02)
        if found is False:
            raise self._not_captured()
        if not isinstance(found, re.Match):
            said = self._since(start)[-SHOWN:]
            raise AssertionError(
                f"{compiled.pattern!r} did not come on the console of board {self._board} within {timeout:g} s; "
                + (f"it said:\n{said}" if said.strip() else "it said nothing")
            )
        self._next = max(start, self._dropped) + found.end()
        return found

    def send(self, data: bytes | str) -> None:
        """Send bytes, or text, as they are.

        BoardError when the console carries the target's shell, which would be disturbed: `target.run` is for that.
        """
        if self._is_shell:
            raise BoardError(
                f"the console of board {self._board} is its target: the run has its shell there",
                remedy="use the fixture `target`",
            )
        if find_capture(self._port.port) is None:  # else the port itself would be opened
            raise self._not_captured()
        with open_line(self._port) as line:
            line.write(data.encode() if isinstance(data, str) else data)

    def send_line(self, text: str = "", *, end: str = "\r") -> None:
        """Type a line; the key Enter sends a carriage return."""
        self.send(text + end)

    def close(self) -> None:
        """Read no more."""
        self._log.close()

    def _not_captured(self) -> BoardError:
        return BoardError(f"the console of board {self._board} is not captured any more", remedy="see console.log")

    def _since(self, position: int) -> str:
        return self._text[max(0, position - self._dropped) :]

    def _read(self) -> None:
        self._text += self._log.read()
        if len(self._text) > MOST:
            self._dropped += len(self._text) - MOST
            self._text = self._text[-MOST:]


class Beginnings:
    """A plugin that tells a console where each test begins."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Begin before the first fixture of the test."""
        self._console.begin()


class Follower:
    """Reads a capture's log as it grows, without its stamps; it begins with the end of what is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._file = path.open("rb", buffering=0)
        behind = self._file.seek(0, os.SEEK_END) - MOST
        self._head: bytes | None = b""  # of a record whose stamp is not complete
        if behind > 0:
            self._file.seek(behind)
            self._head = None

    def read(self) -> str:
        """Return what is new."""
        parts = []
        while True:
            data = self._file.read(CHUNK)
            if data:
                parts.append(self._decoder.decode(self._texts(data)))
            elif not self._follow():
                return "".join(parts)

    def _texts(self, data: bytes) -> bytes:
        found = []
        for line in data.splitlines(keepends=True):  # of control characters only line feeds are left in a log
            text = line
            if self._head is not None:
                self._head += line
                stamp = STAMP.match(self._head)
                if stamp is None and not self._head.endswith(b"\n"):
                    continue
                text, self._head = self._head[stamp.end() if stamp else 0 :], None
            found.append(text)
            if text.endswith(b"\n"):
                self._head = b""
        return b"".join(found)

    def _follow(self) -> bool:
        """Go on in the next part of the log when this one was put aside; tell whether there is one."""
        try:
            found = self._path.stat()
            ours = os.fstat(self._file.fileno())
            if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino) or ours.st_size > self._file.tell():
                return False
            new = self._path.open("rb", buffering=0)
        except OSError:
            return False
        self._file.close()
        self._file = new
        return True

    def close(self) -> None:
        """Read no more."""
        self._file.close()
