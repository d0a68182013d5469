"""The times that lines begin with, in the formats of the loggers that devices have.

A stamp belongs to a family: one that says its zone (or counts seconds), one that does not, and the kernel's seconds
since it booted. Lines of one log whose stamps are of different families say nothing of each other's clock.
"""

from __future__ import annotations

import re
from calendar import timegm
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, NamedTuple

Family = Literal["zoned", "local", "uptime"]

ISO = re.compile(r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?", re.ASCII)
NUMBER = re.compile(r"(\d{10})(?:(\d{3})|(\d{6})|(\d{9})|\.(\d{1,9}))?(?![\w.])", re.ASCII)
"""Seconds since the epoch, or thousandths, millionths, billionths of them, by their digits."""
UPTIME = re.compile(r" *(\d{1,9}\.\d{1,9})\]", re.ASCII)
CLOCK = r" (?P<hour>\d\d):\d\d:\d\d(?:\.(?P<fraction>\d{1,9}))?(?= )"
SYSLOG = re.compile(rf"([A-Z][a-z]{{2}}) +(?P<day>\d{{1,2}}){CLOCK}", re.ASCII)
GLOG = re.compile(rf"[DIWEFV](\d{{4}})?(\d\d)(?P<day>\d\d){CLOCK}", re.ASCII)
PRIORITY = re.compile(r"<(\d{1,3})>(?:1 )?", re.ASCII)
ROS = re.compile(r"\[ ?([A-Z]{4,8})\] ?\[(?:WallTime: )?(?=\d)", re.ASCII)

LATEST = 253_370_764_800.0
"""The year 9999, beyond which no calendar goes."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Stamp(NamedTuple):
    """The time a line begins with: seconds since the epoch (since the boot for `uptime`), where the rest begins.

    `word` is what stands in front of it and says a level.
    """

    at: float
    family: Family
    end: int
    word: str = ""


class Reader:
    """Reads the stamps of lines; `near` is a moment of the run, for those that tell no year."""

    def __init__(self, near: float) -> None:
        self._near = near
        year = datetime.fromtimestamp(min(max(near, 0.0), LATEST), UTC).year
        self._years = range(year - 1, year + 2)

    def __call__(self, line: str) -> Stamp | None:
        """Return the stamp that a line begins with; None when it begins with none."""
        first = line[:1]
        start = 0
        word = ""
        if first == "<" and (priority := PRIORITY.match(line)) is not None:
            start, word = priority.end(), priority[1]
            first = line[start : start + 1]
        if "0" <= first <= "9":
            return _iso(line, start, word) or _number(line, start, word)
        if first == "[":
            return _bracketed(line, start, word)
        return self._dated(line, start, word) if first.isupper() else None

    def _dated(self, line: str, start: int, word: str) -> Stamp | None:
        """Read the stamp of a syslog, or of glog, which has a letter for the level in front."""
        found = GLOG.match(line, start)
        if found is not None:
            word = line[start]
            year, month = found[1], int(found[2])
        else:
            found = SYSLOG.match(line, start)
            if found is None or found[1] not in MONTHS:
                return None
            year, month = None, MONTHS.index(found[1]) + 1
        clock = line[found.start("hour") : found.start("hour") + 8]
        day = int(found["day"])
        years = self._years if year is None else [int(year)]
        seconds = (_second(f"{each:04}-{month:02}-{day:02}", clock) for each in years)
        nearest = min((each for each in seconds if each is not None), key=self._distance, default=None)
        if nearest is None:
            return None
        return Stamp(nearest + _share(found["fraction"]), "local", found.end(), word)

    def _distance(self, at: float) -> float:
        return abs(at - self._near)


def _iso(line: str, start: int, word: str) -> Stamp | None:
    found = ISO.match(line, start)
    if found is None:
        return None
    second = _second(line[start : start + 10], line[start + 11 : start + 19])
    if second is None:
        return None
    fraction, zone = found.groups()
    if fraction:
        second += int(fraction) / 10 ** len(fraction)
    if zone is None:
        return Stamp(second, "local", found.end(), word)
    return Stamp(second if zone == "Z" else second - _seconds_east(zone), "zoned", found.end(), word)


def _number(line: str, start: int, word: str) -> Stamp | None:
    found = NUMBER.match(line, start)
    if found is None:
        return None
    return Stamp(int(found[1]) + _share("".join(filter(None, found.groups()[1:]))), "zoned", found.end(), word)


def _bracketed(line: str, start: int, word: str) -> Stamp | None:
    inner = start + 1
    found = _iso(line, inner, word) or _number(line, inner, word)
    if found is not None:
        return found._replace(end=found.end + line.startswith("]", found.end))
    if (uptime := UPTIME.match(line, inner)) is not None:
        return Stamp(float(uptime[1]), "uptime", uptime.end(), word)
    ros = None if word else ROS.match(line, start)
    return _bracketed(line, ros.end() - 1, ros[1]) if ros is not None else None


def _share(digits: str | None) -> float:
    return int(digits) / 10 ** len(digits) if digits else 0.0


@lru_cache(maxsize=4096)
def _second(date: str, clock: str) -> float | None:
    """Return the whole second; None for a date that no calendar has."""
    try:
        moment = datetime(int(date[:4]), int(date[5:7]), int(date[8:]), int(clock[:2]), int(clock[3:5]), tzinfo=UTC)
    except ValueError:
        return None
    seconds = int(clock[6:])
    return float(timegm(moment.timetuple()) + seconds) if seconds <= 60 else None  # a leap second


@lru_cache(maxsize=64)
def _seconds_east(zone: str) -> int:
    seconds = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
    return -seconds if zone[0] == "-" else seconds
