"""What pytest's reports say of a test: how its JUnit file calls it, how it ended, why, and where."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

Outcome = Literal["passed", "failed", "error", "skipped", "rerun"]

LONGEST = 500
"""Characters of a message."""


def junit_names(nodeid: str, prefix: str | None) -> tuple[str, str]:
    """Return classname and name of a test as pytest's own JUnit file has them; `prefix` is its `--junit-prefix`."""
    from _pytest.junitxml import bin_xml_escape, mangle_test_address

    *classnames, name = mangle_test_address(nodeid)
    return ".".join([prefix, *classnames] if prefix else classnames), bin_xml_escape(name)


def outcome_of(report: pytest.TestReport) -> Outcome | None:
    """Return what a report of one phase says of the test, as pytest's JUnit file puts it; None when it says nothing.

    A set-up or tear-down that failed is an error, an expected failure is skipped; that of a subtest which was skipped
    says nothing of its test.
    """
    word: str = report.outcome
    if word == "rerun":  # pytest-rerunfailures: this attempt does not count
        return "rerun"
    if word == "passed":
        return "passed" if report.when == "call" else None
    if word == "skipped" or hasattr(report, "wasxfail"):
        return None if hasattr(report, "context") else "skipped"
    return "failed" if report.when == "call" else "error"


def message_of(report: pytest.TestReport) -> str | None:
    """Return the first line of what went wrong, or of why the test was skipped."""
    reason = getattr(report, "wasxfail", None)
    if reason is not None and report.outcome != "passed":
        return _first_line(str(reason).removeprefix("reason: ")) if report.skipped else "passes unexpectedly"
    found = report.longrepr
    if found is None or report.outcome == "passed":
        return None
    if isinstance(found, tuple):
        return _first_line(str(found[2]).removeprefix("Skipped: "))
    crash = getattr(found, "reprcrash", None)
    text = str(crash.message if crash is not None else getattr(found, "errorstring", None) or found)
    marked = next((line[1:] for line in text.splitlines() if line.startswith("E ")), None)  # pytest's mark of the error
    return _first_line(marked or text)


def place_of(report: pytest.TestReport, config: pytest.Config) -> tuple[str | None, int | None]:
    """Return file and line (from 1) where it failed: the last entry of its traceback that is in the root directory.

    The file is relative to that directory; where there is no such entry, it is the test's own place.
    """
    if report.longrepr is None or report.outcome == "passed":
        return None, None
    for path, line in _entries(report.longrepr):
        # The path is relative to where pytest was started, unless the test has changed the working directory.
        full = os.path.normpath(config.invocation_params.dir / path)
        with_root = os.path.relpath(full, config.rootpath)
        if not with_root.startswith(os.pardir) and "site-packages" not in Path(full).parts:
            return with_root, line
    path, number, _ = report.location
    return path, None if number is None else number + 1


def _entries(found: object) -> Iterator[tuple[str, int]]:
    """Yield the places of a traceback, the last one first."""
    if isinstance(found, tuple):
        yield str(found[0]), int(found[1])
        return
    entries = getattr(getattr(found, "reprtraceback", None), "reprentries", ())
    places = [getattr(entry, "reprfileloc", None) for entry in reversed(entries)]
    for place in [*places, getattr(found, "reprcrash", None)]:
        if place is not None:
            yield str(place.path), int(place.lineno)


def _first_line(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    line = next((line for line in lines if line), "")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
