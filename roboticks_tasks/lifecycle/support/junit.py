"""JUnit files: what one counts, and one of our own where the tests left none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ILLEGAL = dict.fromkeys(
    ({*range(32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF} - {9, 10, 13}), "\N{REPLACEMENT CHARACTER}"
)
"""Characters that XML 1.0 cannot hold, however they are escaped."""


class Counts(NamedTuple):
    """Numbers of test cases."""

    passed: int
    failed: int
    errors: int
    skipped: int


def read_counts(path: Path) -> Counts | None:
    """Return what the file says; None when it is missing or cut off."""
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314 - written by the tests that we have just run
    except (OSError, ElementTree.ParseError):
        return None
    cases = list(root.iter("testcase"))
    failed = sum(case.find("failure") is not None for case in cases)
    errors = sum(case.find("error") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    return Counts(len(cases) - failed - errors - skipped, failed, errors, skipped)


def write_single(path: Path, *, name: str, seconds: float, kind: str | None = None, message: str = "") -> None:
    """Write a file with one case, passed or with a `failure` or `error` element, so that CI has something to show."""
    counts = {"failures": str(int(kind == "failure")), "errors": str(int(kind == "error")), "skipped": "0"}
    root = ElementTree.Element("testsuites")
    attributes = {"name": "roboticks_tasks", "tests": "1", "time": f"{seconds:.3f}", **counts}
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    case = ElementTree.SubElement(
        suite, "testcase", classname="roboticks_tasks", name=name.translate(ILLEGAL), time=f"{seconds:.3f}"
    )
    if kind is not None:
        ElementTree.SubElement(case, kind, message=message.translate(ILLEGAL))
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def stamp(path: Path, properties: Mapping[str, str]) -> None:
    """Add properties to the first suite of the file; a file that is cut off is left as it is."""
    try:
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
    new = path.with_name(f".{path.name}.new")
    tree.write(new, encoding="utf-8", xml_declaration=True)
    new.replace(path)
