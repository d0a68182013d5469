"""Merge what everybody said into one file, in the order of one clock."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import BinaryIO

import msgspec

from roboticks_tasks.disk import replacing
from roboticks_tasks.reporting.timeline.board_log import BoardLog, Entry
from roboticks_tasks.reporting.timeline.clocks import courses_of
from roboticks_tasks.reporting.timeline.console_log import console_entries, console_files, is_console
from roboticks_tasks.reporting.timeline.events_log import (
    Spell,
    case_entries,
    command_entries,
    entries_of_cases,
    read_events,
    read_json,
    run_of,
    step_entries,
)
from roboticks_tasks.reporting.timeline.file import ALERTS, SOURCES, Block, Timeline
from roboticks_tasks.reporting.timeline.lines import parts_of
from roboticks_tasks.reporting.timeline.messages import BusMessage, PlatformLine, bus_entries, platform_entries
from roboticks_tasks.reporting.timeline.segments import Run
from roboticks_tasks.reporting.values import Case, Level, Line, Source
from roboticks_tasks.state import RunState

NAME = "timeline.jsonl"

BLOCK = 1 << 16
"""Bytes of the file between two entries of its index, or a bit more."""

Encoded = tuple[float, int, Level | None, bytes]
"""A line as it is merged: its moment, its source's rank, its level, its JSON."""


def build_timeline(
    artifacts: Path, state: RunState | None, cases: Sequence[Case], *, most: int | None = None
) -> Timeline:
    """Write `timeline.jsonl` in the run's folder `artifacts` and return what reads it.

    Of each source the last `most` bytes are taken (None: all): for those who have no time. What is missing, damaged
    or hostile is passed over; ConfigError when the folder cannot be written. A line as long as a log of many megabytes
    is not in memory, nor is the log: the cost is about 10 seconds for 100 MB.
    """
    spells: dict[str, Spell] = {}
    run = run_of(parts_of([artifacts / "events.jsonl"], None), state, near=_newest(artifacts))
    readers = _readers(artifacts, state, cases, run, spells, most)
    merged = heapq.merge(*(_encode(source, entries, run.begin) for source, entries in readers))
    path = artifacts / NAME
    with replacing(path) as stream:
        index = _Index()
        index.write(stream, merged)
    for case in cases:
        if case.begin is not None:
            spells.setdefault(case.nodeid, Spell(case.begin, case.end))
    end = index.end if run.tests_end is None else run.tests_end
    counts = {source: index.sources[rank] for rank, source in enumerate(SOURCES)}
    return Timeline(path, index.lines, dict(index.levels), counts, tuple(index.blocks), spells, end)


def _readers(
    artifacts: Path,
    state: RunState | None,
    cases: Sequence[Case],
    run: Run,
    spells: dict[str, Spell],
    most: int | None,
) -> Iterator[tuple[Source, Iterable[Entry]]]:
    """Yield the lines of each source, in its own order."""
    names = ("events", "tests", "bus", "platform")
    events, tests, bus, platform = (parts_of([artifacts / f"{name}.jsonl"], most) for name in names)
    device = parts_of([artifacts / "device-manager.log"], most)
    console = parts_of(console_files(artifacts / "console.log"), most)
    yield "lifecycle", step_entries(read_events(events))
    yield "test", case_entries(read_events(tests), spells) if tests else entries_of_cases(cases)
    yield "target", command_entries(read_events(tests))
    yield "bus", bus_entries(read_json(bus, BusMessage))
    courses = courses_of(state.clocks if state is not None else ())
    if is_console(device):  # a microcontroller's: the console's own files may reach further back
        yield "device", console_entries(console if is_console(console) else device, begin=run.begin)
        device, console = [], []
    log = BoardLog(device, courses, run)
    yield "platform", platform_entries(read_json(platform, PlatformLine), log.clock.to_bench)
    if device:
        yield "device", log.entries()
    if console:
        yield "console", console_entries(console, begin=run.begin)


def _encode(source: Source, entries: Iterable[Entry], begin: float) -> Iterator[Encoded]:
    """Yield the lines of a source as they are written, none before the one in front of it."""
    rank = SOURCES.index(source)
    encode = msgspec.json.Encoder().encode
    last = None
    for at, text, level in entries:
        if last is None or at > last:
            last = at if isfinite(at) else begin if last is None else last
        yield last, rank, level, encode(Line(at=last, source=source, text=text, level=level)) + b"\n"


def _newest(artifacts: Path) -> float:
    """Return when a file of the folder was last written: the time of a run of which nothing else is known."""
    newest = 0.0
    with suppress(OSError):
        for path in artifacts.iterdir():
            newest = max(newest, path.stat().st_mtime)
    return newest


class _Index:
    """What is known of the file when it is written."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.levels: Counter[Level] = Counter()
        self.sources: Counter[int] = Counter()
        self.lines = 0
        self.end = 0.0

    def write(self, stream: BinaryIO, merged: Iterable[Encoded]) -> None:
        """Write the lines, a block at once."""
        offset = 0
        block: list[bytes] = []
        size = alerts = sources = 0
        first = 0.0
        for at, rank, level, line in merged:
            if not block:
                first = at
            block.append(line)
            size += len(line)
            self.end = at
            sources |= 1 << rank
            self.sources[rank] += 1
            if level is not None:
                self.levels[level] += 1
                alerts += level in ALERTS
            if size >= BLOCK:
                self._end_block(stream, block, Block(first, offset, self.lines, alerts, sources))
                offset += size
                block, size, alerts, sources = [], 0, 0, 0
        if block:
            self._end_block(stream, block, Block(first, offset, self.lines, alerts, sources))
            offset += size
        self.blocks.append(Block(self.end, offset, self.lines, 0, 0))

    def _end_block(self, stream: BinaryIO, lines: list[bytes], block: Block) -> None:
        stream.write(b"".join(lines))
        self.blocks.append(block)
        self.lines += len(lines)
