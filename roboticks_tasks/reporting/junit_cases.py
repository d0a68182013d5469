"""The cases of a JUnit file, whichever tool wrote it: read as they come, each cut to what people read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from roboticks_tasks.reporting.layout import OUTCOMES
from roboticks_tasks.reporting.lifecycle_suite import SUITE
from roboticks_tasks.reporting.parsing import UnreadableError, feed, local, new_parser
from roboticks_tasks.reporting.values import Case

MOST_CASES = 50_000
"""Cases of a file that reports are made of; more than that nobody reads."""

DETAIL = 65_536
"""Characters that are kept of what a tool says of a failure, and of what the test printed: both ends of it."""

QUIET = 4_096
"""Characters that are kept of what a test printed that has not failed, and of everything once `BUDGET` is used up."""

BUDGET = 32 * 1024 * 1024
"""Characters of all cases together."""

NAME, MESSAGE, PROPERTIES = 4_096, 4_096, 100

OUTPUTS = ("system-out", "system-err")

GIVEN_NODEID = "roboticks.nodeid"
"""The platform's own pytest plugin says it by this property."""


UNCOLLECTED = "collection failure"
"""What pytest says of a file that it cannot import; why stands at the end of the detail."""


class Reading(NamedTuple):
    """The cases, in the file's order, and why they are not all."""

    cases: list[Case]
    problem: str | None = None


def read_cases(path: Path) -> Reading | None:
    """Return what the file holds, the cases of our own suite excepted; None when it cannot be opened."""
    reader = _Reader()
    try:
        with path.open("rb") as stream:
            feed(reader.parser, stream, until=lambda: reader.is_full)
    except OSError:
        return None
    except UnreadableError as error:
        return Reading(reader.cases, f"{path.name}: {error}")
    return Reading(reader.cases, f"{path.name}: only {MOST_CASES} cases are read" if reader.is_full else None)


class Cut:
    """A text that comes in pieces, of which both ends are kept: `most` characters and a word between."""

    def __init__(self, most: int = DETAIL) -> None:
        self._head, self._tail = most // 4, most - most // 4
        self._begin: list[str] = []
        self._room = self._head
        self._end: list[str] = []
        self._kept = 0
        self._left_out = 0

    def add(self, text: str) -> None:
        """Take note of a piece."""
        if self._room > 0:
            self._begin.append(text[: self._room])
            text, self._room = text[self._room :], self._room - len(self._begin[-1])
        if not text:
            return
        self._end.append(text)
        self._kept += len(text)
        if self._kept > 4 * self._tail:
            self._shorten()

    def text(self) -> str:
        """Return what was kept."""
        self._shorten()
        gap = f"\n… {self._left_out} characters left out …\n" if self._left_out else ""
        return "".join((*self._begin, gap, *self._end))

    def _shorten(self) -> None:
        end = "".join(self._end)
        self._left_out += max(0, len(end) - self._tail)
        end = end[-self._tail :]
        self._end, self._kept = [end], len(end)


def shortened(text: str, most: int) -> str:
    """Return both ends of a text."""
    if len(text) <= most:
        return text
    cut = Cut(most)
    cut.add(text)
    return cut.text()


class _Open:
    """A case whose end has not come."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self.attributes = attributes
        self.kind: str | None = None
        self.messages: list[str] = []
        self.detail = Cut()
        self.output = Cut()
        self.properties: list[tuple[str, str]] = []


class _Reader:
    """Makes cases of what the parser hands over."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.parser = new_parser()
        self.parser.StartElementHandler = self._on_start
        self.parser.EndElementHandler = self._on_end
        self.parser.CharacterDataHandler = self._on_text
        self._path: list[str] = []
        self._suites: list[str] = []
        self._case: _Open | None = None
        self._text: Cut | None = None
        self._left = BUDGET

    @property
    def is_full(self) -> bool:
        return len(self.cases) >= MOST_CASES

    def _on_start(self, name: str, attributes: dict[str, str]) -> None:
        name = local(name)
        parent = self._path[-1] if self._path else ""
        self._path.append(name)
        if name == "testsuite":
            self._suites.append(attributes.get("name", ""))
        elif name == "testcase" and self._case is None:
            self._case = _Open(attributes)
        elif self._case is not None and parent == "testcase":
            self._open(self._case, name, attributes)
        elif self._case is not None and name == "property" and len(self._case.properties) < PROPERTIES:
            value = attributes.get("value")
            self._case.properties.append((attributes.get("name", "")[:NAME], (value or "")[:NAME]))
            self._text = Cut(NAME) if value is None else None

    def _open(self, case: _Open, name: str, attributes: dict[str, str]) -> None:
        if name in OUTCOMES:
            kinds = [kind for kind in OUTCOMES if kind in {case.kind, name}]
            case.kind = kinds[0]
            case.messages.append(attributes.get("message") or attributes.get("type") or "")
            case.detail.add("\n\n" if len(case.messages) > 1 else "")
            self._text = case.detail
        elif name in OUTPUTS:
            self._text = case.output

    def _on_text(self, text: str) -> None:
        if self._text is not None:
            self._text.add(text)

    def _on_end(self, name: str) -> None:
        name = local(name)
        self._path.pop()
        case = self._case
        if name == "testsuite" and self._suites:
            self._suites.pop()
        elif name == "testcase" and case is not None and "testcase" not in self._path:
            self._case = self._text = None
            if SUITE not in self._suites and not self.is_full:
                self._keep(self._made(case))
        elif name == "property" and case is not None and self._text is not None and case.properties:
            case.properties[-1] = (case.properties[-1][0], self._text.text())
            self._text = None
        elif name in {*OUTCOMES, *OUTPUTS}:
            self._text = None

    def _made(self, case: _Open) -> Case:
        given = case.attributes
        properties = dict(case.properties)
        classname, name = given.get("classname", "")[:NAME], given.get("name", "")[:NAME]
        suite = self._suites[-1] if self._suites else ""
        outcome = _outcome(case.kind, given)
        detail = case.detail.text().strip("\n")
        message = next(filter(None, case.messages), "") or _last_line(detail)
        nodeid = properties.get(GIVEN_NODEID) or "::".join(filter(None, (classname or suite[:NAME], name)))
        if suite == "pytest" and message == UNCOLLECTED:
            nodeid, message = _file_of(name, detail), f"{UNCOLLECTED}: {_last_error(detail)}"
        return Case(
            nodeid=nodeid,
            classname=classname,
            name=name,
            outcome=outcome,
            duration=_seconds(given.get("time", "")),
            message=shortened(message, MESSAGE),
            detail=self._afford(detail, DETAIL),
            output=self._afford(case.output.text(), DETAIL if outcome in {"failed", "error"} else QUIET),
            file=given["file"][:NAME] if given.get("file") else None,
            line=_line(given.get("line", ""), is_pytest=suite == "pytest"),
            properties=tuple(case.properties),
        )

    def _afford(self, text: str, most: int) -> str:
        text = shortened(text, most if self._left > 0 else QUIET)
        self._left -= len(text)
        return text

    def _keep(self, case: Case) -> None:
        """Add a case; that of a tear-down that failed after its test did, which pytest tells apart, is the test's."""
        last = self.cases[-1] if self.cases else None
        same = last is not None and (last.classname, last.name) == (case.classname, case.name)
        if last is None or not same or (last.outcome, case.outcome) != ("failed", "error"):
            self.cases.append(case)
            return
        self.cases[-1] = msgspec.structs.replace(
            last, detail=shortened(f"{last.detail}\n\n{case.message}\n{case.detail}", DETAIL)
        )


def _outcome(kind: str | None, given: dict[str, str]) -> Literal["passed", "failed", "error", "skipped"]:
    if kind == "failure":
        return "failed"
    if kind == "error":
        return "error"
    is_skipped = kind == "skipped" or given.get("status") in {"notrun", "disabled"}
    return "skipped" if is_skipped or given.get("result") in {"skipped", "suppressed"} else "passed"


def _last_line(text: str) -> str:
    lines = text[-MESSAGE:].strip().splitlines()
    return lines[-1].strip() if lines else ""


def _file_of(module: str, detail: str) -> str:
    """Return the file of a module as pytest names it, `a.test_b`, which stands in what it says of it."""
    path = f"{module.replace('.', '/')}.py"
    return path if path in detail else module


def _last_error(detail: str) -> str:
    lines = [line for line in detail[-MESSAGE:].splitlines() if line.startswith("E  ")]
    return lines[-1][1:].strip() if lines else _last_line(detail)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        value = float(text.replace(",", ""))
        if 0 <= value < float("inf"):
            return value
    return 0.0


def _line(text: str, *, is_pytest: bool) -> int | None:
    """Return the line from 1; pytest's older format counts from 0."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        return None
    return int(text) + is_pytest or None
