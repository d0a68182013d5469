"""The board's clock against this machine's, as it was read now and then during a run."""

from __future__ import annotations

from collections.abc import Sequence

from roboticks_tasks.models import ClockReading

DRIFT = 0.001
"""Seconds a second: no board's clock is worse unless somebody sets it."""

TOLERANCE = 0.25
"""Seconds that two readings may differ by besides, and by their errors."""


class Course:
    """The course of the board's clock between two moments at which somebody set it: readings that fit together."""

    def __init__(self, readings: Sequence[ClockReading]) -> None:
        self.offset = readings[0].offset
        self._at = [each.at for each in readings]
        self._board = [each.at + each.offset for each in readings]

    def to_bench(self, stamp: float) -> float:
        """Return this machine's time when the board's clock showed `stamp`: exact between readings on a straight line.

        Before the first reading and after the last one its offset is taken.
        """
        at, board = self._at, self._board
        if stamp <= board[0]:
            return stamp + (at[0] - board[0])
        for index in range(1, len(board)):
            if stamp <= board[index]:
                share = (stamp - board[index - 1]) / (board[index] - board[index - 1])
                return at[index - 1] + share * (at[index] - at[index - 1])
        return stamp + (at[-1] - board[-1])

    def distance(self, first: float, last: float) -> float:
        """Return how far, in the board's seconds, the readings are from the stamps between `first` and `last`."""
        return max(0.0, self._board[0] - last, first - self._board[-1])


def courses_of(readings: Sequence[ClockReading]) -> list[Course]:
    """Return the courses that the board's clock has taken; without a reading it is taken to be this machine's."""
    ordered = sorted(readings, key=lambda each: each.at)
    groups: list[list[ClockReading]] = []
    for reading in ordered:
        if groups and _fits(groups[-1][-1], reading):
            groups[-1].append(reading)
        else:
            groups.append([reading])
    return [Course(group) for group in groups] or [Course([ClockReading(at=0.0, offset=0.0, error=0.0)])]


def _fits(first: ClockReading, second: ClockReading) -> bool:
    """Tell whether nobody has set the clock between two readings, as far as they can tell."""
    allowed = TOLERANCE + first.error + second.error + DRIFT * (second.at - first.at)
    runs = second.at + second.offset >= first.at + first.offset
    return runs and abs(second.offset - first.offset) <= allowed
