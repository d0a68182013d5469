"""The run's JUnit files: `lifecycle.xml` with its steps, and `results.xml` with steps and tests together.

The tests' own file, `pytest.xml`, is never touched. What it says is taken over byte by byte.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from roboticks_tasks.disk import replacing, write_atomically
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.models import RunResult
from roboticks_tasks.reporting.layout import Counts, Layout, read_counts, read_layout, suites
from roboticks_tasks.reporting.lifecycle_suite import counts_of, legal, step_cases, suite_element, timed
from roboticks_tasks.state import RunState

__all__ = ["LIFECYCLE", "MERGED", "NAMES", "TESTS", "Counts", "read_counts", "write_junit", "write_single"]

log = logging.getLogger(__name__)

TESTS = "pytest.xml"
LIFECYCLE = "lifecycle.xml"
MERGED = "results.xml"

NO_VERDICT = "roboticks_tasks.no_verdict"
"""The suite that stands for tests which left no file; in the merged one the step says it."""

NAMES = (
    "version encoding standalone testsuites testsuite testcase properties property failure error skipped system-out"
    " system-err name value tests failures errors disabled assertions classname file line time timestamp hostname"
    " package message type status result"
)
"""The names of elements and attributes, which stand in every file."""

DECLARATION = b"<?xml version='1.0' encoding='utf-8'?>\n"

SMALL = 2 * 1024 * 1024
"""Bytes of a file that is put together in memory, and has the folder's reserve when the disk is full."""


def write_junit(artifacts: Path, result: RunResult, state: RunState | None) -> None:
    """Write `results.xml` and `lifecycle.xml` of a run that has ended, however; `pytest.xml` may be missing.

    Of a file of the tests that is cut off the whole cases are taken over, and a case says so. ConfigError when the
    files cannot be written; where only the tests' part does not fit the steps' part is there.
    """
    path = artifacts / TESTS
    layout = None if is_stand_in(path) else read_layout(path)
    lost = None if layout is None or layout.problem is None else _tell_loss(layout)
    cases = step_cases(result, lost=lost)
    suite = ElementTree.tostring(suite_element(cases, result, state), encoding="utf-8")
    counts, duration = counts_of(cases), result.duration
    alone = b"".join((DECLARATION, _root(counts, duration), suite, b"</testsuites>\n"))
    try:
        if layout is None:
            write_atomically(artifacts / MERGED, alone)
        else:
            both = Counts(*(mine + theirs for mine, theirs in zip(counts, layout.counts, strict=True)))
            root = _root(both, duration, layout.attributes)
            pieces = _pieces(DECLARATION + root + suite + b"\n", path, layout)
            _write(artifacts / MERGED, pieces, size=len(suite) + layout.end - layout.begin)
    except ConfigError:
        if layout is not None:
            log.error("the tests' cases are in %s alone: %s does not fit on the disk", TESTS, MERGED)
            write_atomically(artifacts / MERGED, alone)
        raise
    finally:
        write_atomically(artifacts / LIFECYCLE, alone)


def write_single(
    path: Path, *, name: str, seconds: float, kind: str | None = None, message: str = "", suite: str = "roboticks_tasks"
) -> None:
    """Write a file with one case, passed or with a `failure` or `error` element, so that CI has something to show.

    ConfigError when it cannot be written.
    """
    counts = {"failures": str(int(kind == "failure")), "errors": str(int(kind == "error")), "skipped": "0"}
    root = ElementTree.Element("testsuites")
    attributes = {"name": suite, "tests": "1", "time": timed(seconds), **counts}
    parent = ElementTree.SubElement(root, "testsuite", attributes)
    case = ElementTree.SubElement(
        parent, "testcase", classname="roboticks_tasks", name=legal(name), time=timed(seconds)
    )
    if kind is not None:
        ElementTree.SubElement(case, kind, message=legal(message))
    write_atomically(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def write_stand_in(path: Path, *, seconds: float, message: str) -> None:
    """Write a file that says why the tests left none; ConfigError when it cannot be written."""
    write_single(path, name="tests", seconds=seconds, kind="error", message=message, suite=NO_VERDICT)


def is_stand_in(path: Path) -> bool:
    """Tell whether the file is one of `write_stand_in`."""
    try:
        with path.open("rb") as stream:
            return f'<testsuite name="{NO_VERDICT}"'.encode() in stream.read(512)
    except OSError:
        return False


def _tell_loss(layout: Layout) -> str:
    kept = sum(layout.counts)
    rest = f"its {kept} whole cases are here" if kept else "nothing of it is here"
    return f"what the tests had written was cut off or cannot be read: {TESTS}: {layout.problem}; {rest}"


def _root(counts: Counts, duration: float, attributes: Iterable[tuple[str, str]] = ()) -> bytes:
    from xml.sax.saxutils import quoteattr  # it brings an HTTP client along, which every start would pay for

    values = {
        "name": "roboticks_tasks",
        "tests": str(sum(counts)),
        "failures": str(counts.failed),
        "errors": str(counts.errors),
        "time": timed(duration),
    }
    words = (f" {name}={quoteattr(legal(value))}" for name, value in (*values.items(), *attributes))
    return f"<testsuites{''.join(words)}>\n".encode()


def _pieces(head: bytes, path: Path, layout: Layout) -> Iterator[bytes]:
    yield head
    yield from suites(path, layout)
    yield b"</testsuites>\n"


def _write(path: Path, pieces: Iterator[bytes], *, size: int) -> None:
    if size <= SMALL:
        write_atomically(path, b"".join(pieces))
        return
    with replacing(path) as stream:
        stream.writelines(pieces)
