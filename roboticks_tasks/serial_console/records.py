"""Console bytes become records: a line each, stamped with the time of its first byte, harmless to a terminal."""

from __future__ import annotations

import re
import time

LINE_LIMIT = 65536
"""Bytes of a console line after which a new record begins."""

LINE_END = re.compile(rb"\r+\n?")
"""What ends a line, besides a bare line feed; drivers that translate twice send several carriage returns."""

HARMFUL = bytes(byte for byte in (*range(32), 127) if byte not in b"\t\n")
"""Control characters, by which a log could take over the terminal that shows it."""

HARMFUL_WIDE = re.compile("[\x80-\x9f\u2028-\u202e\u2066-\u2069]+")
"""Those of Unicode: more control characters, ends of lines, changes of the direction."""


class Records:
    """Turns what a console says into the text of its log, in pieces that end where the bytes end.

    A record is `<monotonic seconds> <UTC time> <text>`. A line that is not yet complete (a prompt) is written as far
    as it came; what follows is appended to it: a prompt is found at once, and a slow line stays one record.
    """

    def __init__(self) -> None:
        self._length = 0  # bytes of the line that is not complete
        self._after_return = False
        self._rest = b""  # the beginning of a character whose other bytes have not come

    def take(self, data: bytes) -> bytes:
        """Return what `data` adds to the log."""
        data, self._rest = _whole_characters(self._rest + data)
        if self._after_return and data:  # the line was ended by its return
            end = re.match(rb"\r*\n?", data)
            assert end
            data = data[end.end() :]
            self._after_return = not data and not end.group().endswith(b"\n")
        self._after_return = self._after_return or data.endswith(b"\r")
        data = data.replace(b"\r\n", b"\n")  # many times as fast as the expression
        if b"\r" in data:
            data = LINE_END.sub(b"\n", data)
        return self._stamped(data) if data else b""

    def end(self) -> bytes:
        """Return what completes the last record: the console is lost, or the capture ends."""
        rest, self._rest = self._rest, b""
        text = self._stamped(rest) if rest else b""
        text += b"\n" if self._length else b""
        self._length, self._after_return = 0, False
        return text

    def note(self, text: str) -> bytes:
        """Return a record of our own, which `text` of ours begins with "--- "."""
        return self.end() + stamp() + escape(f"--- {text}".encode()) + b"\n"

    def _stamped(self, lines: bytes) -> bytes:
        """Return the log's text of some lines, of which the first may continue one and the last be incomplete."""
        parts = []
        now = stamp()
        while (cut := self._cut(lines)) is not None:
            parts += [now if self._length == 0 else b"", escape(lines[:cut]), b"\n"]
            lines, self._length = lines[cut:], 0
        if not lines:
            return b"".join(parts)
        complete = lines.rfind(b"\n") + 1
        is_new = self._length == 0
        self._length = len(lines) - complete + (0 if complete else self._length)
        body = escape(lines).replace(b"\n", b"\n" + now)
        if complete == len(lines):
            body = body[: -len(now)]  # the time of the next line is not known yet
        return b"".join((*parts, now if is_new else b"", body))

    def _cut(self, lines: bytes) -> int | None:
        """Return where the line that is under way gets too long, never within a character; None when it does not."""
        first = lines.find(b"\n")
        if self._length + (len(lines) if first < 0 else first) <= LINE_LIMIT:
            return None
        cut = max(0, LINE_LIMIT - self._length)
        for back in range(4):
            if cut - back >= 0 and lines[cut - back] & 0xC0 != 0x80:
                return cut - back
        return cut


def stamp() -> bytes:
    """Return the present as a record begins: monotonic seconds and the wall clock in UTC, with microseconds."""
    seconds, micro = divmod(time.time_ns() // 1000, 1_000_000)
    date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{time.monotonic():.6f} {date}.{micro:06d}Z ".encode("ascii")


def escape(text: bytes) -> bytes:
    r"""Return UTF-8 without control characters but tab and line feed: they, and invalid bytes, become \xNN."""
    if len(text.translate(None, HARMFUL)) != len(text):
        for byte in HARMFUL:
            text = text.replace(bytes((byte,)), b"\\x%02x" % byte)
    if text.isascii():
        return text
    return HARMFUL_WIDE.sub(_hexadecimal, text.decode("utf-8", "backslashreplace")).encode()


def _hexadecimal(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in found.group().encode())


def _whole_characters(data: bytes) -> tuple[bytes, bytes]:
    """Return `data` without the beginning of a UTF-8 character at its end, and that beginning."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        needed = 2 if 0xC2 <= byte < 0xE0 else 3 if 0xE0 <= byte < 0xF0 else 4 if 0xF0 <= byte < 0xF5 else 1
        return (data[:-back], data[-back:]) if needed > back else (data, b"")
    return data, b""
