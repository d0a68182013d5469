"""The device manager's log: by the board's clock, which is put right; in any format, or in none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from roboticks_tasks.reporting.timeline.clocks import Course
from roboticks_tasks.reporting.timeline.levels import level_of
from roboticks_tasks.reporting.timeline.lines import Part, lines_of
from roboticks_tasks.reporting.timeline.segments import (
    BACKWARD,
    FORWARD,
    Run,
    Stretch,
    place,
    stretches_of,
)
from roboticks_tasks.reporting.timeline.stamps import LATEST, Family, Reader, Stamp
from roboticks_tasks.reporting.values import Level

Entry = tuple[float, str, Level | None]
"""A line of one source: its moment by this machine's clock, its text, its level."""

SAMPLE = 20_000
"""Lines by which the family of a log's stamps is known; one that has none there has none."""


class BoardClock(NamedTuple):
    """What the board's clock showed when, as far as its log tells: for whoever else has stamps of it."""

    stretches: tuple[Stretch, ...]
    courses: tuple[Course, ...]

    def to_bench(self, stamp: float) -> float:
        """Return the moment of a stamp: that of the stretch it is in, else of the readings alone."""
        for stretch in self.stretches:
            if stretch.low - BACKWARD <= stamp <= stretch.high + BACKWARD:
                return stretch.to_bench(stamp)
        return min(self.courses, key=lambda course: course.distance(stamp, stamp)).to_bench(stamp)


class BoardLog:
    """A log in the board's time; it is read twice, first for its stamps alone."""

    def __init__(self, parts: Sequence[Part], courses: Sequence[Course], run: Run) -> None:
        self._parts = list(parts)
        self._run = run
        self._read = Reader(run.begin)
        self.family = self._family()
        stretches: list[Stretch] = []
        if self.family is not None:
            forward = min([FORWARD, *(max(BACKWARD, 0.9 * step) for step in _steps(courses))])
            stretches = stretches_of(self._stamps(self.family), run.anchors, forward=forward)
            place(stretches, courses, run, self.family)
        if self.family == "uptime" and not any(stretch.anchors for stretch in stretches):
            stretches = []  # nobody knows when the board booted
        self._stretches = stretches
        self.clock = BoardClock(tuple(stretches) if self.family == "zoned" else (), tuple(courses))

    def entries(self) -> Iterator[Entry]:
        """Yield the lines in their order; a moment may be a bit before the one in front of it."""
        return self._stamped() if self._stretches else self._unstamped()

    def _family(self) -> Family | None:
        counts: Counter[Family] = Counter()
        for count, line in enumerate(lines_of(self._parts)):
            stamp = self._read(line)
            if stamp is not None:
                counts[stamp.family] += 1
            if count >= SAMPLE:
                break
        if counts["zoned"] or counts["local"]:
            del counts["uptime"]  # the kernel's lines in between belong to those around them
        return counts.most_common(1)[0][0] if counts.total() else None

    def _stamps(self, family: Family) -> Iterator[tuple[float, str]]:
        read = self._read
        for line in lines_of(self._parts):
            stamp = read(line)
            if stamp is not None and stamp.family == family:
                yield stamp.at, line

    def _stamped(self) -> Iterator[Entry]:
        read, family = self._read, self.family
        ends = [stretch.index for stretch in self._stretches[1:]]
        stretch, number, index = self._stretches[0], 0, 0
        at = stretch.to_bench(stretch.first)
        move = stretch.to_bench
        if stretch.is_guess:
            yield at, _note(stretch), None
        for line in lines_of(self._parts):
            stamp = read(line)
            if stamp is None:
                yield at, line, level_of(line)
                continue
            if stamp.family == family:
                if number < len(ends) and index == ends[number]:
                    number += 1
                    stretch = self._stretches[number]
                    move = stretch.to_bench
                    if stretch.is_guess:
                        yield move(stamp.at), _note(stretch), None
                index += 1
                at = move(stamp.at)
            yield at, *_said(line, stamp, is_kept=stretch.is_guess or stamp.family != family)

    def _unstamped(self) -> Iterator[Entry]:
        """Place lines without a time at what the run saw in them, and between at what it saw before."""
        at = self._run.begin
        wanted = list(self._run.anchors)
        is_first = True
        for line in lines_of(self._parts):
            if is_first:
                yield at, "--- no line of the device's log tells its time: they stand where the run saw them ---", None
                is_first = False
            for anchor in wanted:
                if anchor.text in line:
                    at = max(at, anchor.at)
                    wanted = [each for each in wanted if each is not anchor]
                    break
            stamp = self._read(line)
            yield at, line, level_of(line) if stamp is None else level_of(line, stamp.end, stamp.word)


def _said(line: str, stamp: Stamp, *, is_kept: bool) -> tuple[str, Level | None]:
    """Return what a line says behind its stamp, which stays where it does not tell the moment; and its level."""
    level = level_of(line, stamp.end, stamp.word)
    if is_kept or stamp.word:
        return line, level
    return line[stamp.end :].lstrip(" :") or line, level


def _note(stretch: Stretch) -> str:
    shown = datetime.fromtimestamp(max(0.0, min(stretch.first, LATEST)), UTC)
    return f"--- the device's clock says {shown:%Y-%m-%d %H:%M:%S} here, which is wrong: lines stand by their order ---"


def _steps(courses: Sequence[Course]) -> Iterator[float]:
    for before, after in pairwise(courses):
        yield abs(after.offset - before.offset)
