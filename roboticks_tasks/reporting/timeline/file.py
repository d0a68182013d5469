"""The timeline's file, and what of it is wanted: read by seeking, a few lines of it in memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from roboticks_tasks.reporting.timeline.events_log import Spell
from roboticks_tasks.reporting.values import Level, Line, Source

SOURCES: tuple[Source, ...] = ("lifecycle", "test", "target", "platform", "bus", "device", "console")
"""Every source, in the order of lines of one moment."""

ALERTS = ("warning", "error")

BUS = 1 << SOURCES.index("bus")


class Block(NamedTuple):
    """Some lines of the file: the first one's moment, place and number; how many are alerts; a bit for each source."""

    at: float
    offset: int
    number: int
    alerts: int
    sources: int


class Timeline(NamedTuple):
    """What everybody said in a run, in the order of this machine's clock: a file of Lines, and an index of it.

    `lines`, `levels` and `sources` are counts. The last block is empty and stands for the end of the file. `spells`
    tells when each test ran; those that did not end are taken to last until `end`.
    """

    path: Path
    lines: int
    levels: Mapping[Level, int]
    sources: Mapping[Source, int]
    blocks: tuple[Block, ...]
    spells: Mapping[str, Spell]
    end: float

    def slice_of(self, nodeid: str, *, most: int = 400, before: float = 2.0, after: float = 1.0) -> list[Line]:
        """Return what was said during a test, and some seconds before and after; nothing when nobody knows when it ran.

        What is too long is cut as by `span`: kept is what is nearest to the test's end, where it failed.
        """
        spell = self.spells.get(nodeid)
        if spell is None:
            return []
        end = max(spell.begin, self.end if spell.end is None else spell.end)
        return self.span(spell.begin - before, end + after, most=most, focus=end)

    def span(self, begin: float, end: float, *, most: int = 400, focus: float | None = None) -> list[Line]:
        """Return what was said between two moments, at most `most` lines of it, and one for each gap that tells it.

        Kept are warnings and errors, half of `most` at least being left for the lines nearest to `focus` (`end`);
        where they are too many, messages of the bus yield to all others.
        """
        first, last = self._number_of(begin), self._number_of(end, is_behind=True)
        if last - first <= most:
            return [line for _, line in self._numbered(first, last)]
        focus = end if focus is None else focus
        middle = min(last, max(first, self._number_of(focus, is_behind=True)))
        before, after = range(first, middle), range(middle, last)
        alerts = chain(self._outward(before, -1, _has_alert, _is_alert), self._outward(after, 1, _has_alert, _is_alert))
        kept = dict(islice(alerts, most // 2))
        for has, wanted in ((_has_words, _is_words), (_has_any, _is_any)):
            near = [
                *islice(self._outward(before, -1, has, wanted), most),
                *islice(self._outward(after, 1, has, wanted), most),
            ]
            near.sort(key=lambda each: (abs(each[1].at - focus), abs(each[0] - middle)))
            for number, line in near:
                if len(kept) >= most:
                    break
                kept[number] = line
        return _with_gaps(sorted(kept.items()), first, last)

    def tail(self, source: Source, count: int) -> list[Line]:
        """Return the last `count` lines of a source."""
        found: list[Line] = []
        bit = 1 << SOURCES.index(source)
        for index in range(len(self.blocks) - 2, -1, -1):
            if len(found) >= count:
                break
            if self.blocks[index].sources & bit:
                found = [*(line for line in self._block(index) if line.source == source), *found]
        return found[-count:] if count > 0 else []

    def _number_of(self, at: float, *, is_behind: bool = False) -> int:
        """Return the number of the first line at `at` or later; with `is_behind`, of the first one later than that."""
        find = bisect_right if is_behind else bisect_left
        index = find(self.blocks[:-1], at, key=lambda block: block.at) - 1
        if index < 0:
            return 0
        return self.blocks[index].number + find(self._block(index), at, key=lambda line: line.at)

    def _numbered(self, first: int, last: int) -> Iterator[tuple[int, Line]]:
        """Yield the lines of the numbers from `first` to the one before `last`."""
        start = max(0, bisect_right(self.blocks, first, key=lambda block: block.number) - 1)
        for index in range(start, len(self.blocks) - 1):
            number = self.blocks[index].number
            if number >= last:
                return
            for line in self._block(index):
                if first <= number < last:
                    yield number, line
                number += 1

    def _outward(
        self, numbers: range, step: int, has: Callable[[Block], bool], is_wanted: Callable[[Line], bool]
    ) -> Iterator[tuple[int, Line]]:
        """Yield the wanted lines of some numbers, from the last one back where `step` is -1; `has` tells of a block."""
        if not numbers:
            return
        start = max(0, bisect_right(self.blocks, numbers[0], key=lambda block: block.number) - 1)
        stop = bisect_left(self.blocks, numbers.stop, key=lambda block: block.number)
        for index in range(start, min(stop, len(self.blocks) - 1))[::step]:
            if has(self.blocks[index]):
                numbered = list(enumerate(self._block(index), self.blocks[index].number))
                yield from (each for each in numbered[::step] if each[0] in numbers and is_wanted(each[1]))

    def _block(self, index: int) -> list[Line]:
        begin, end = self.blocks[index].offset, self.blocks[index + 1].offset
        with self.path.open("rb") as stream:
            stream.seek(begin)
            return msgspec.json.Decoder(Line).decode_lines(stream.read(end - begin))


def _has_alert(block: Block) -> bool:
    return bool(block.alerts)


def _is_alert(line: Line) -> bool:
    return line.level in ALERTS


def _has_words(block: Block) -> bool:
    return bool(block.sources & ~BUS)


def _is_words(line: Line) -> bool:
    return line.source != "bus"


def _has_any(_: Block) -> bool:
    return True


def _is_any(_: Line) -> bool:
    return True


def _with_gaps(kept: list[tuple[int, Line]], first: int, last: int) -> list[Line]:
    """Return lines with one more for each gap between their numbers, which says how many are left out."""
    if not kept:
        return []
    found: list[Line] = []
    ends = [(first - 1, kept[0][1]), *kept, (last, kept[-1][1])]
    for (before, _), (number, line) in pairwise(ends):
        if (missing := number - before - 1) > 0:
            said = "1 line is" if missing == 1 else f"{missing} lines are"
            found.append(Line(at=line.at, source="lifecycle", text=f"--- {said} left out ---"))
        if number < last:
            found.append(line)
    return found
