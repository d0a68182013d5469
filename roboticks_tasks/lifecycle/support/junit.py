"""JUnit files: what one counts, and one of our own where the tests left none."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

from roboticks_tasks.disk import write_atomically

log = logging.getLogger(__name__)

ILLEGAL = dict.fromkeys(
    ({*range(32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF} - {9, 10, 13}), "\N{REPLACEMENT CHARACTER}"
)
"""Characters that XML 1.0 cannot hold, however they are escaped."""

OUTCOMES = ("failure", "error", "skipped")
"""What a test case holds that has not passed, in the order of the counts."""

NAMES = (
    "version encoding standalone testsuites testsuite testcase properties property failure error skipped system-out"
    " system-err name value tests failures errors disabled assertions classname file line time timestamp hostname"
    " package message type status result"
)
"""The names of elements and attributes, which stand in every file."""

CHUNK = 262_144

LARGEST_TREE = 32 * 1024 * 1024
"""Bytes of a file that is read whole; in memory it is some times as large."""


class Counts(NamedTuple):
    """Numbers of test cases."""

    passed: int
    failed: int
    errors: int
    skipped: int


def read_counts(path: Path) -> Counts | None:
    """Return what the file says; None when it is missing or cut off. However large it is, it needs no memory."""
    cases = _Cases()
    try:
        with path.open("rb") as stream:
            cases.read(stream)
    except (OSError, expat.ExpatError):
        return None
    found = cases.found
    kinds = [found[kind] for kind in OUTCOMES]
    return Counts(found["testcase"] - sum(kinds), *kinds)


class _Cases:
    """Counts the test cases of a file, and those that have an outcome of each kind."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._names: list[str] = []
        self._outcomes: set[str] = set()

    def read(self, stream: BinaryIO) -> None:
        """Count; ExpatError when the file is cut off, or has a word that is longer than a whole file should be."""
        parser = expat.ParserCreate()
        parser.buffer_text = False
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        fed = 0
        while data := stream.read(CHUNK):
            parser.Parse(data, False)
            fed += len(data)
            if fed - parser.CurrentByteIndex > LARGEST_TREE:
                raise expat.ExpatError(f"something in it has more than {LARGEST_TREE} bytes")
        parser.Parse(b"", True)

    def _start(self, name: str, _: dict[str, str]) -> None:
        if name in OUTCOMES and self._names[-1:] == ["testcase"]:
            self._outcomes.add(name)
        self._names.append(name)

    def _end(self, name: str) -> None:
        self._names.pop()
        if name == "testcase":
            self.found.update(["testcase", *self._outcomes])
            self._outcomes.clear()


def write_single(path: Path, *, name: str, seconds: float, kind: str | None = None, message: str = "") -> None:
    """Write a file with one case, passed or with a `failure` or `error` element, so that CI has something to show.

    ConfigError when it cannot be written.
    """
    counts = {"failures": str(int(kind == "failure")), "errors": str(int(kind == "error")), "skipped": "0"}
    root = ElementTree.Element("testsuites")
    attributes = {"name": "roboticks_tasks", "tests": "1", "time": f"{seconds:.3f}", **counts}
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    case = ElementTree.SubElement(
        suite, "testcase", classname="roboticks_tasks", name=name.translate(ILLEGAL), time=f"{seconds:.3f}"
    )
    if kind is not None:
        ElementTree.SubElement(case, kind, message=message.translate(ILLEGAL))
    write_atomically(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def stamp(path: Path, properties: Mapping[str, str]) -> None:
    """Add properties to the first suite of the file; ConfigError when it cannot be written.

    A file that is cut off is left as it is, and so is one that is too large to be read whole.
    """
    try:
        if path.stat().st_size > LARGEST_TREE:
            log.warning("%s is too large for the verdict to be added: it is in result.json alone", path)
            return
        tree = ElementTree.parse(path)  # noqa: S314 - written by the tests that we have just run
    except (OSError, ElementTree.ParseError):
        return
    suite = next(tree.getroot().iter("testsuite"), None)
    if suite is None:
        return
    holder = suite.find("properties")
    if holder is None:
        holder = ElementTree.Element("properties")
        suite.insert(0, holder)
    for old in [each for each in holder if each.get("name") in properties]:
        holder.remove(old)
    for name, value in properties.items():
        ElementTree.SubElement(holder, "property", name=name, value=value.translate(ILLEGAL))
    write_atomically(path, ElementTree.tostring(tree.getroot(), encoding="utf-8", xml_declaration=True))
