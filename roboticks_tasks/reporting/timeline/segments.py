"""The stretches of a board's log between jumps of its clock, and where each of them belongs on this machine's clock.

A board without a battery begins in 1970 until somebody tells it the time; local time jumps with daylight saving. What
comes first in a log came first, whatever its stamp says: that, the moments at which the run has seen what a line says,
and the span of the run are what a stretch with a wrong clock is placed by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from roboticks_tasks.reporting.timeline.clocks import Course
from roboticks_tasks.reporting.timeline.stamps import Family

BACKWARD = 1.0
"""Seconds that a stamp may be before the one in front of it: several threads write, each its own moment."""

FORWARD = 900.0
"""Seconds that a device may say nothing; more may be a clock that was set."""

SLACK = 5.0
"""Seconds that a stamp may be outside the run: it is read a bit later than it was written."""

QUARTER = 900.0
"""Seconds; zones and daylight differ by a multiple of it."""

FARTHEST = 15 * 3600.0
"""Seconds that a zone may be from Greenwich, and daylight saving besides."""

DAYLIGHT = (1800.0, 3600.0, -1800.0, -3600.0)
SILENCE = 120.0
"""Seconds at most between the stamps around a change to or from daylight saving that is taken for one."""

NEVER_SET = 1_577_836_800.0
"""The year 2020: a clock that shows less was not set since it had power."""

MOST = 1_000
"""Stretches that are told apart; a clock that jumps more often is no clock."""


class Anchor(NamedTuple):
    """A line that holds `text` was seen by the run at `at`, or shortly before."""

    text: str
    at: float


class Stretch:
    """Stamps between two jumps: the first of them is the log's `index`-th one; `anchors` are stamps and their moments.

    `course` and `shift` are where it belongs: `to_bench` makes a moment of a stamp.
    """

    def __init__(self, index: int, first: float) -> None:
        self.index = index
        self.first = self.last = self.low = self.high = first
        self.anchors: list[tuple[float, float]] = []
        self.course: Course | None = None
        self.shift = 0.0
        self.is_guess = False

    def to_bench(self, stamp: float) -> float:
        """Return the moment of a stamp by this machine's clock."""
        return (self.course.to_bench(stamp) if self.course else stamp) + self.shift

    @property
    def begin(self) -> float:
        """Return the moment of its first stamp."""
        return self.to_bench(self.low)

    @property
    def end(self) -> float:
        """Return the moment of its last stamp."""
        return self.to_bench(self.high)


class Run(NamedTuple):
    """The span of a run by this machine's clock, and what it has seen in the log; `tests_end` is when its tests ended.

    One that is not known holds every moment.
    """

    begin: float
    end: float
    anchors: tuple[Anchor, ...] = ()
    tests_end: float | None = None
    is_known: bool = True

    def holds(self, stretch: Stretch) -> bool:
        """Tell whether a stretch lies within the run, as it is placed now."""
        return not self.is_known or (stretch.begin >= self.begin - SLACK and stretch.end <= self.end + SLACK)


def stretches_of(
    stamps: Iterable[tuple[float, str]], anchors: Sequence[Anchor], *, forward: float = FORWARD
) -> list[Stretch]:
    """Split stamps, each with its line, where the clock jumped: back, or by more than `forward` seconds."""
    found: list[Stretch] = []
    wanted = list(anchors)
    current: Stretch | None = None
    for index, (at, line) in enumerate(stamps):
        if current is None or (not -BACKWARD <= at - current.last <= forward and len(found) < MOST):
            current = Stretch(index, at)
            found.append(current)
        current.last = at
        if at > current.high:
            current.high = at
        elif at < current.low:
            current.low = at
        for anchor in wanted:
            if anchor.text in line:
                current.anchors.append((at, anchor.at))
                wanted = [each for each in wanted if each is not anchor]
                break
    return found


def place(stretches: Sequence[Stretch], courses: Sequence[Course], run: Run, family: Family) -> None:
    """Give each stretch its course and shift; `is_guess` of one tells that its own stamps were of no use."""
    _take_courses(stretches, courses)
    for index, stretch in enumerate(stretches):
        if not run.holds(stretch):
            _place_by_run(stretch, run, family, floor=stretches[index - 1].end if index else run.begin - SLACK)
    known = {id(stretch) for stretch in stretches if run.holds(stretch) and not stretch.is_guess}
    for before, after in reversed(list(pairwise(stretches))):
        is_anchor = after.is_guess or id(after) in known
        is_late = before.is_guess and before.end > after.begin
        if is_anchor and (is_late or (not run.holds(before) and _is_wrong(before, after))):
            _guess(before, after.begin - before.end)
    if stretches and not known and not run.holds(stretches[0]) and not stretches[0].is_guess:
        _guess(stretches[0], run.begin - stretches[0].begin)
    for before, after in pairwise(stretches):
        if after.begin < before.end - BACKWARD or (run.is_known and after.end > run.end + SLACK):
            _guess(after, _set_back(before, after, family))


def _take_courses(stretches: Sequence[Stretch], courses: Sequence[Course]) -> None:
    """Give each stretch the course of the clock that it belongs to, in their order.

    Where the clock was set the log jumps by as much, and by the silence besides: of the jumps that may be it, it is
    the one with the shortest silence. Where there is none, stretches take the course that was read nearest to them.
    """
    begin = 0
    for stretch in stretches:
        stretch.course = courses[0]
    for old, new in pairwise(courses):
        step = new.offset - old.offset
        silences = {
            index: after.first - before.last - step
            for index, (before, after) in enumerate(pairwise(stretches), 1)
            if index > begin and after.first - before.last - step >= -BACKWARD - 0.1 * abs(step)
        }
        nearer = (
            index
            for index in range(begin, len(stretches))
            if new.distance(stretches[index].low, stretches[index].high)
            <= old.distance(stretches[index].low, stretches[index].high)
        )
        begin = min(silences, key=silences.__getitem__) if silences else next(nearer, len(stretches))
        for stretch in stretches[begin:]:
            stretch.course = new


def _place_by_run(stretch: Stretch, run: Run, family: Family, *, floor: float) -> None:
    """Shift a stretch by what the run has seen of it, or, where its zone is not known, into the run.

    Zones are whole quarters of an hour; of several that fit, it is the first one that does not begin before `floor`.
    """
    for stamp, moment in stretch.anchors:
        shift = moment - stretch.to_bench(stamp)
        quarters = round(shift / QUARTER) * QUARTER
        if family == "local" and abs(quarters) <= FARTHEST and abs(quarters - shift) < SLACK:
            stretch.shift += quarters
        else:
            _guess(stretch, shift)
        return
    if family == "local":
        quarters = ceil((floor - stretch.begin) / QUARTER) * QUARTER
        if abs(quarters) <= FARTHEST and stretch.end + quarters <= run.end + SLACK:
            stretch.shift += quarters


def _guess(stretch: Stretch, shift: float) -> None:
    stretch.shift += shift
    stretch.is_guess = True


def _is_wrong(before: Stretch, after: Stretch) -> bool:
    """Tell whether a stretch cannot be an honest report of the time before the run, such as an earlier run's."""
    return before.low < NEVER_SET or before.end > after.begin


def _set_back(before: Stretch, after: Stretch, family: Family) -> float:
    """Return the shift that lets `after` follow `before`: daylight saving's where that leaves a short silence."""
    gap = before.end - after.begin
    if family == "local":
        for shift in DAYLIGHT:
            if gap <= shift <= gap + SILENCE:
                return shift
    return gap
