"""The files of the spool as they are read: a batch is the lines that belong together."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

OWN_KEYS = ("boot_id", "sequence", "session_id")


@dataclass(eq=False)
class Segment:
    """One file: `size` bytes of it are whole lines, the first `offset` bytes are delivered."""

    path: Path
    size: int
    offset: int = 0


class Batch(NamedTuple):
    """Messages of one session that are sent as one; `end` is the offset behind them in their file."""

    boot_id: str
    sequence: int
    session_id: str | None
    messages: list[dict[str, Any]]
    segment: Segment
    end: int


def read_at(path: Path, offset: int, size: int) -> bytes:
    """Return at most `size` bytes from `offset` on."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def first_batch(chunk: bytes, segment: Segment) -> tuple[Batch | None, int]:
    """Return the batch that the chunk, which stands at the segment's offset, begins with, and where it begins.

    Lines that are no message, and a last one without its end, are passed over.
    """
    found: Batch | None = None
    beginning = position = segment.offset
    if segment.offset + len(chunk) < segment.size:  # the chunk cuts a line, not the one who wrote it
        chunk = chunk[: chunk.rfind(b"\n") + 1] or chunk
    for line in chunk.splitlines(keepends=True):
        position += len(line)
        message = _parse(line)
        if message is None:
            if found is None:
                beginning = position
            continue
        boot_id, sequence, session_id = (message.pop(name, None) for name in OWN_KEYS)
        if found is not None and (boot_id, sequence, session_id) != found[:3]:
            break
        if found is None:
            found = Batch(boot_id, sequence, session_id, [], segment, position)
        found.messages.append(message)
        found = found._replace(end=position)
    return found, beginning


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(message, dict) and isinstance(message.get("boot_id"), str)
    return message if whole and isinstance(message.get("sequence"), int) else None
