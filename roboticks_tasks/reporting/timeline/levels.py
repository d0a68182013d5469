"""How bad a line is, in the words of the loggers that devices have."""

from __future__ import annotations

import re

from roboticks_tasks.reporting.values import Level

WORDS: dict[str, Level] = {
    **dict.fromkeys(("trace", "debug", "dbg", "verbose", "t", "d", "v"), "debug"),
    **dict.fromkeys(("info", "inf", "notice", "i", "n"), "info"),
    **dict.fromkeys(("warning", "warn", "wrn", "w"), "warning"),
    **dict.fromkeys(("error", "err", "severe", "critical", "crit", "fatal", "e", "c", "f"), "error"),
    **dict.fromkeys(("alert", "emerg", "emergency", "panic"), "error"),
}

WORD = re.compile(r"[\s\]|,:-]*([\[<(] ?)?([A-Za-z]{1,9})(?![\w./])( ?[\])>])?(?:(:)| (?=\(\d+\)))?", re.ASCII)
"""A word that may be a level: in brackets, in front of a colon, or plain; ESP-IDF has one letter and milliseconds."""

NAME = re.compile(r"[\s\]|,:-]*(?:\[[^\]]{0,60}\]|[\w./-]{1,60})(?:\[\d+\])?(?=[\s\[|:<(-])", re.ASCII)
"""What stands before the level with some: a host, a program with its pid, a module, a thread."""

BEFORE = 3
"""Names at most."""

ALARMS = (
    "anic",
    "egmentation fault",
    "segfault",
    "Oops",
    "Traceback (most recent",
    "Out of memory",
    "terminate called",
)
"""Part of what the kernel, a shell and run-time libraries say in front of no level when something has died."""

ALARM = re.compile(
    r"\b([Kk]ernel panic|[Ss]egmentation fault|segfault at|Oops:|panic:|panicked at|Traceback \(most recent"
    r"|Out of memory|terminate called)"
)


def level_of(line: str, start: int = 0, word: str = "") -> Level | None:
    """Return what a line says of its level, from `start` on, where its stamp ends; None when it says nothing.

    `word` is what stood in the stamp: a syslog's priority, a letter of glog's, a word of ROS's.
    """
    if word:
        return _of_priority(int(word)) if word.isdecimal() else WORDS.get(word.lower())
    at = start
    for _ in range(BEFORE + 1):
        found = WORD.match(line, at)
        if found is not None and (level := WORDS.get(found[2].lower())) is not None:
            is_marked = bool(found[1] and found[3]) or found[2].isupper() or bool(found[4])
            if is_marked and (len(found[2]) > 1 or found[1] or line.startswith("(", found.end())):
                return level
        name = NAME.match(line, at)
        if name is None:
            break
        at = name.end()
    if any(alarm in line for alarm in ALARMS) and ALARM.search(line):
        return "error"
    return None


def _of_priority(number: int) -> Level:
    severity = number % 8
    return "error" if severity <= 3 else "warning" if severity == 4 else "info" if severity <= 6 else "debug"
