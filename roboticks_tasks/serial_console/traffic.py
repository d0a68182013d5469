"""The answers to a serial target are left out of a console's log: a person reads it, and they may carry secrets.

What the kernel prints in the middle of an answer stays. An answer is what `targets.serial` makes a board say: a head, a
body of base64 or hexadecimal lines, an end.
"""

from __future__ import annotations

import re

HEAD = re.compile(rb"<([0-9a-f]{8}) (\d+) ([^<>=\n]*)=\3>")
CUT_OFF = re.compile(rb"<([0-9a-f]{0,8}|[0-9a-f]{8} (\d[^<>\n]{0,300}>?\r*)?)$")
"""A head or an end whose line is not complete."""

FULL_LINE = re.compile(rb"([A-Za-z0-9+/]{76}|( [0-9a-f]{2}){16})\r*\n?")
LAST_LINE = re.compile(rb"([A-Za-z0-9+/=]{1,76}|( [0-9a-f]{0,2}){1,16} ?)\r*\n?")


class Traffic:
    """Takes a console's bytes and gives them without answers; holds back no more than a line that may be of one."""

    def __init__(self) -> None:
        self._held = b""  # of a line that is not complete
        self._last = b""  # a line that is the last of a body if the end comes next
        self._end = b""  # of the answer that is under way
        self._is_begun = False  # some of the line has been given already

    def take(self, data: bytes) -> bytes:
        """Return what `data` adds to the log."""
        if not self._held and not self._end and b"<" not in data:
            self._is_begun = not data.endswith(b"\n") if data else self._is_begun
            return data
        *lines, rest = (self._held + data).split(b"\n")
        given = [self._line(line + b"\n") for line in lines]
        self._held = rest if self._may_be_ours(rest) else b""
        if rest and not self._held:
            given += [self._last, rest]
            self._last, self._is_begun = b"", True
        return b"".join(given)

    def end(self) -> bytes:
        """Return what was held back: nothing more comes."""
        held = self._last + self._held
        self._held = self._last = self._end = b""
        self._is_begun = False
        return held

    def _line(self, line: bytes) -> bytes:
        """Return what is left of a complete line."""
        is_begun, self._is_begun = self._is_begun, False
        before, self._last = self._last, b""
        if self._end and self._end in line:
            rest, self._end, before = line.replace(self._end, b""), b"", b""
        elif head := HEAD.search(line):
            rest, self._end = line[: head.start()] + line[head.end() :], b"<%b %b.>" % head.group(1, 2)
        elif not self._end or is_begun:
            return before + line
        elif FULL_LINE.fullmatch(line):
            return before
        elif LAST_LINE.fullmatch(line):
            self._last = line
            return before
        else:
            return before + line
        return before + (rest if is_begun or rest.strip() else b"")

    def _may_be_ours(self, rest: bytes) -> bool:
        is_body = self._end and not self._is_begun and LAST_LINE.fullmatch(rest)
        return bool(is_body or CUT_OFF.search(rest))
