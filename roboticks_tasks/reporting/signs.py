"""Signs of trouble in what a device, a console or a test says, and how they are quoted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from roboticks_tasks.reporting.values import Case, Line, Source
from roboticks_tasks.reporting.words import harmless

CRASH = re.compile(
    r"segmentation fault|segfault|sigsegv|sigabrt|sigbus|sigill|core dumped|stack smashing|general protection"
    r"|assert(ion)?\b.{0,80}\bfail|failed assertion|kernel panic|\boops\b|hard ?fault|watchdog (reset|timeout|bite)"
    r"|terminate called|uncaught exception|\bpanicked at|unhandled exception|out of memory|oom-killer|double free"
    r"|traceback \(most recent call last\)|\bfatal\b|died with|crashed|exited with (code|status) [1-9]",
    re.IGNORECASE,
)
"""What programs and kernels say as they die."""

RESTART = re.compile(
    r"^(u-boot |starting kernel|booting linux|\[ *0\.0+\] )|\blinux version \d|rst:0x|reset reason|power.on reset",
    re.IGNORECASE,
)
"""What a board says first."""

CONNECTION = re.compile(
    r"connection ?(refused|reset|aborted|closed|lost|timed? ?out|error)|(host|network) (is )?unreachable"
    r"|no route to host|broken ?pipe|ssh: connect|not connected|failed to connect"
    r"|name or service not known|remote end closed"
    r"|temporary failure in name resolution|serialexception|device disconnected|console .{0,40}(lost|gone)|unreachable"
    r"|econn(refused|reset)|ehostunreach|brokenpipeerror|input/output error|no such device",
    re.IGNORECASE,
)
"""What is said when the other side is gone."""

LOST, ENDED, BACK = "--- console lost: ", "--- capture ended: ", "--- console back"
"""A capture's notes in its own log."""

TRACEBACK = "traceback (most recent call last)"
WRONG = re.compile(r"(?:^|[\] ])[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b")
"""How the last line of a traceback begins, which says what was wrong."""

LONGEST_TRACEBACK = 100

FIXTURES = re.compile(r"(?:roboticks_tasks\.errors\.)?(?:Board|Access|Unreachable|Target|Backend)Error: ")
"""How the message of a test begins whose fixture could not do its work: an assertion never does."""

VARIABLE = re.compile(r"0x[0-9a-f]+|\d+|[0-9a-f]{8,}", re.IGNORECASE)
"""What differs between two sayings of the same."""

NEAR = 5.0
"""Seconds around a failure in which what a device says belongs to it."""

DEVICES: tuple[Source, ...] = ("device", "console", "platform")


class Timeline(Protocol):
    """What everybody said, by time."""

    def slice_of(self, nodeid: str, *, most: int = ...) -> Sequence[Line]:
        """Return the lines around a test; none when nobody knows when it ran."""

    def span(self, begin: float, end: float, *, most: int) -> Sequence[Line]:
        """Return the lines between two times."""

    def tail(self, source: Source, count: int) -> Sequence[Line]:
        """Return the last lines of one source."""


def quote(line: Line, *, most: int = 160) -> str:
    """Return who said a line, and the line."""
    who = {"device": "the device", "console": "its console", "platform": "the platform"}.get(line.source, line.source)
    return f"{who} said {harmless(line.text, most)!r}"


def worst_word(lines: Iterable[Line], *, at: float) -> Line | None:
    """Return the line that explains most what went wrong at the time `at`.

    A crash comes before an error, what is seldom said before what is said all the time, what was said before `at`
    before what came of it; of all these it is the nearest one.
    """
    spoken = [line for line in lines if line.source in DEVICES]
    crashes = [line for line in spoken if CRASH.search(line.text[:2_000])]
    found = crashes or [line for line in spoken if line.level == "error"]
    said = Counter(alike(line.text) for line in found)

    def order(line: Line) -> tuple[int, bool, float, int]:
        return said[alike(line.text)], line.at > at, abs(line.at - at), DEVICES.index(line.source)

    worst = min(found, key=order, default=None)
    return worst and _end_of_traceback(spoken, worst)


def console_loss(lines: Iterable[Line]) -> Line | None:
    """Return the note that the console was lost, if it was not back at the end."""
    lost = None
    for line in lines:
        if line.source == "console" and line.text.startswith((LOST, ENDED)):
            lost = lost or line
        elif line.source == "console" and line.text.startswith(BACK):
            lost = None
    return lost


def how_lost(note: Line) -> str:
    """Return what a note of `console_loss` says of it."""
    return note.text.removeprefix(LOST).removeprefix(ENDED)


def restart(lines: Iterable[Line]) -> Line | None:
    """Return what a board said first when it began anew."""
    return next((line for line in lines if line.source == "console" and RESTART.search(line.text[:500])), None)


def _end_of_traceback(lines: Sequence[Line], line: Line) -> Line:
    if not line.text.rstrip(" :").lower().endswith(TRACEBACK):
        return line
    later = [each for each in lines if each.source == line.source and each.at >= line.at]
    rest = later[later.index(line) + 1 :][:LONGEST_TRACEBACK]
    return next((each for each in rest if WRONG.search(each.text[:2_000])), line)


def is_connection_error(case: Case) -> bool:
    """Tell whether a test says that the other side was gone."""
    return bool(CONNECTION.search(case.message) or CONNECTION.search(case.detail[-2_000:]))


def bench_error(case: Case) -> str | None:
    """Return what a test says that one of our own fixtures found wrong with board, target or platform; else None."""
    found = FIXTURES.match(case.message)
    return case.message[found.end() :] if found else None


def alike(text: str) -> str:
    """Return what two sayings of the same have in common."""
    return VARIABLE.sub("#", harmless(text, 300))
