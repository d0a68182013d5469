"""The serial console's log: this machine's clocks, both of them, in front of what the board said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from roboticks_tasks.reporting.timeline.board_log import Entry
from roboticks_tasks.reporting.timeline.levels import level_of
from roboticks_tasks.reporting.timeline.lines import Part, lines_of
from roboticks_tasks.reporting.timeline.stamps import Reader
from roboticks_tasks.serial_console.rotation import KEEP

RECORD = re.compile(r"(\d{1,12}\.\d{6}) \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ", re.ASCII)

STEP = 1.0
"""Seconds between the two clocks' ways after which somebody has set the one on the wall."""


def console_files(path: Path) -> list[Path]:
    """Return the parts of a console's log, the oldest first."""
    return [*(path.with_name(f"{path.name}.{number}") for number in range(KEEP, 0, -1)), path]


def is_console(parts: Sequence[Part]) -> bool:
    """Tell whether a log is one of a console: a microcontroller's is."""
    return any(RECORD.match(line) for line, _ in zip(lines_of(list(parts)), range(1), strict=False))


def console_entries(parts: Sequence[Part], *, begin: float) -> Iterator[Entry]:
    """Yield what the board said, each line at its wall-clock time; where that was set back, the other clock goes on.

    A record that is damaged belongs to the one in front of it, a first one to `begin`.
    """
    read = Reader(begin)
    at = begin
    is_first = True
    shift = way = 0.0
    for line in lines_of(list(parts)):
        record = RECORD.match(line)
        wall = read(line[record.end(1) + 1 : record.end()]) if record else None
        if record is None or wall is None:
            yield at, line, level_of(line)
            continue
        now = wall.at - float(record[1])
        if not is_first and abs(now - way) > STEP:
            shift = max(0.0, shift + way - now)  # what was set back and is set right again
        way = now
        moment = wall.at + shift
        at = moment if is_first or moment > at else at
        is_first = False
        text = line[record.end() :]
        if text and not text.isspace():
            stamp = read(text)
            yield at, text, level_of(text) if stamp is None else level_of(text, stamp.end, stamp.word)
