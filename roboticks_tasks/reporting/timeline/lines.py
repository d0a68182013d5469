"""Read a log that anybody may have written: line by line, little of it in memory, and harmless to who looks at it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks.serial_console.records import LINE_END, escape

CHUNK = 1 << 20
"""Bytes that are read at once."""

WIDEST = 4_000
"""Characters of a line that are kept."""

KEPT = 8 * WIDEST
"""Bytes that are kept in memory of a line whose end is not read yet."""

MARK = "… (cut)"

COLOURS = re.compile(rb"(?:\x1b|\\x1b)(?:\[[0-9:;<=>?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[()][0-9A-B])")
r"""What a terminal makes colours and titles of; a console's log has them as \x1b."""


class Part(NamedTuple):
    """A piece of a file that is read: from the first byte to the one before `end`."""

    path: Path
    begin: int
    end: int


def parts_of(paths: list[Path], most: int | None) -> list[Part]:
    """Return the pieces of files, the oldest first, that make up their last `most` bytes (None: all); none if gone."""
    parts: list[Part] = []
    left = most
    for path in reversed(paths):
        try:
            size = path.stat().st_size
        except OSError:
            continue
        begin = 0 if left is None else max(0, size - left)
        parts.append(Part(path, begin, size))
        if left is not None:
            left -= size - begin
            if not left:
                break
    return parts[::-1]


def lines_of(parts: list[Part]) -> Iterator[str]:
    """Yield the lines that say something, without their ends; a first one of which the beginning is missing is not."""
    for part in parts:
        for block in _blocks(part):
            for line in _text(block).split("\n"):
                if line and not line.isspace():
                    yield line if len(line) <= WIDEST else cut(line)


def cut(line: str) -> str:
    """Return a line as it is kept: not longer than `WIDEST` characters and a mark."""
    return line if len(line) <= WIDEST else f"{line[:WIDEST]}{MARK}"


def as_line(text: str) -> str:
    """Return text of any kind as one line, without anything that a terminal or a file of lines could stumble over."""
    if text.isascii() and text.isprintable():
        return cut(text)
    return cut(_text(text.encode("utf-8", "backslashreplace")).replace("\n", " ⏎ "))


def _blocks(part: Part) -> Iterator[bytes]:
    """Yield whole lines, many at once; of one that does not end no more than its beginning is in memory."""
    try:
        with part.path.open("rb") as stream:
            stream.seek(part.begin)
            rest = b""
            is_behind = bool(part.begin)  # the first line's beginning
            while (left := part.end - stream.tell()) > 0 and (data := stream.read(min(CHUNK, left))):
                if is_behind:
                    _, found, data = data.partition(b"\n")
                    is_behind = not found
                end = data.rfind(b"\n") + 1
                if end:
                    yield rest + data[:end]
                    rest = b""
                rest = (rest + data[end:])[:KEPT]
            if rest:
                yield rest
    except OSError:  # a file that cannot be read says nothing; what was read of it stands
        return


def _text(block: bytes) -> str:
    if b"\r" in block:
        block = LINE_END.sub(b"\n", block)
    if b"\x1b" in block or b"\\x1b" in block:
        block = COLOURS.sub(b"", block)
    return escape(block).decode("utf-8", "replace")
