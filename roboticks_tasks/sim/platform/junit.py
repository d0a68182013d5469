"""JUnit files as the platform reads them: cases, what they confirm, and the files that they name.

The file is hostile: no document type, no entities, bounded depth and number of cases; read in pieces.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, NamedTuple
from xml.parsers import expat

from roboticks_tasks.sim.platform.parse import EPOCH, InvalidError

KNOWN_VERSIONS = (1, 2)
"""Of the property `roboticks_schema_version` (documented: 2 is the present one, 1 is still read)."""

MOST_CASES = 20_000
DEEPEST = 50
WIDEST = 2_000
"""Characters of a name or a message that are kept."""

MOST_LINKS, MOST_FILES = 100, 100
"""Requirements, and files, that one case may name."""

CHUNK = 65_536
LONGEST = 1e8
"""Seconds, three years: a longer duration is a mistake."""

OUTCOMES = {"failure": "failed", "error": "error", "skipped": "skipped"}
RANKS = ("passed", "skipped", "error", "failed")


class Case(NamedTuple):
    """One test; `duration` in seconds."""

    nodeid: str
    classname: str
    name: str
    status: str
    duration: float | None
    message: str | None
    confirms: tuple[str, ...]


class Reference(NamedTuple):
    """A file that the results name; `nodeid` is None where it belongs to the run as a whole."""

    nodeid: str | None
    kind: str
    value: str


class Report(NamedTuple):
    """A whole file; `started_at` in microseconds since 1970, `duration` in seconds, None where it does not say."""

    cases: list[Case]
    references: list[Reference]
    started_at: int | None
    duration: float | None

    @property
    def status(self) -> str:
        """Return what this makes of the run."""
        if not self.cases:
            return "error"
        return "failed" if any(case.status in {"failed", "error"} for case in self.cases) else "passed"


def read(stream: BinaryIO) -> Report:
    """Read a JUnit file; InvalidError, one sentence, for what is none or could do harm."""
    reading = _Reading()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.text
    try:
        while chunk := stream.read(CHUNK):
            parser.Parse(chunk, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise InvalidError(f"junit: is not well-formed XML: {error}") from error
    except (LookupError, ValueError) as error:
        if isinstance(error, InvalidError):
            raise
        raise InvalidError(f"junit: cannot be read: {str(error)[:200]}") from error
    return Report(reading.cases, reading.references, reading.started_at, reading.duration)


def _refuse(*_: object) -> None:
    raise InvalidError("junit: has a document type or an entity of its own, which is not read")


class _Reading:
    """What has been read so far."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.references: list[Reference] = []
        self.started_at: int | None = None
        self.duration: float | None = None
        self._depth = 0
        self._suites = 0
        self._case: dict[str, str] | None = None
        self._status = "passed"
        self._message: str | None = None
        self._open: str | None = None
        self._properties: list[tuple[str, str]] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if self._depth == 0 and name not in {"testsuites", "testsuite"}:
            raise InvalidError(f"junit: begins with <{name[:40]}>, not with <testsuites> or <testsuite>")
        self._depth += 1
        if self._depth > DEEPEST:
            raise InvalidError(f"junit: is nested deeper than {DEEPEST} levels")
        if name in {"testsuites", "testsuite"}:
            self._start_suite(name, attributes)
        elif name == "testcase":
            if len(self.cases) >= MOST_CASES:
                raise InvalidError(f"junit: has more than {MOST_CASES} cases")
            self._case, self._status, self._message, self._properties = attributes, "passed", None, []
        elif name == "property":
            self._property(attributes.get("name", ""), attributes.get("value", ""))
        elif self._case is not None and name in OUTCOMES:
            self._outcome(name, attributes.get("message"))

    def _start_suite(self, name: str, attributes: dict[str, str]) -> None:
        if self._case is not None:
            raise InvalidError("junit: has a suite inside a case")
        _check_version(attributes.get("roboticks_schema_version"))
        if self.started_at is None:
            self.started_at = _moment(attributes.get("timestamp"))
        lasted = _seconds(attributes.get("time"))
        # The outermost one counts its suites' time as well; where it says nothing, they are added up.
        if lasted is not None and (name == "testsuites" or self._depth <= 2) and not self._suites:
            self.duration = (self.duration or 0.0) + lasted
            self._suites = int(self._depth == 1)

    def end(self, tag: str) -> None:
        self._depth -= 1
        name = tag.rpartition(":")[2]
        if name == self._open:
            self._open = None
        if name == "testcase" and self._case is not None:
            self._end_case(self._case)
            self._case = None

    def text(self, data: str) -> None:
        if self._open is not None and not self._message:
            self._message = data.strip().partition("\n")[0][:WIDEST] or None

    def _outcome(self, name: str, message: str | None) -> None:
        status = OUTCOMES[name]
        if RANKS.index(status) > RANKS.index(self._status):
            self._status = status
            self._message = message.strip().partition("\n")[0][:WIDEST] if message else None
            self._open = name

    def _property(self, name: str, value: str) -> None:
        if name == "roboticks_schema_version":
            _check_version(value)
        elif self._case is not None:
            if len(self._properties) < MOST_FILES + 10:
                self._properties.append((name, value))
        elif (kind := _kind(name)) is not None and len(self.references) < MOST_FILES:
            self.references.append(Reference(None, kind, value[:WIDEST]))

    def _end_case(self, attributes: dict[str, str]) -> None:
        classname, name = attributes.get("classname", "")[:WIDEST], attributes.get("name", "")[:WIDEST]
        nodeid, confirms = f"{classname}::{name}", list[str]()
        for key, value in self._properties:
            if key == "roboticks.nodeid" and value:
                nodeid = value[:WIDEST]
            elif key == "roboticks.confirms":
                confirms += [word.strip()[:200] for word in value.split(",") if word.strip()][:MOST_LINKS]
        for key, value in self._properties:
            if (kind := _kind(key)) is not None:
                self.references.append(Reference(nodeid, kind, value[:WIDEST]))
        self.cases.append(
            Case(
                nodeid,
                classname,
                name,
                self._status,
                _seconds(attributes.get("time")),
                self._message,
                tuple(dict.fromkeys(confirms)),
            )
        )


def _kind(name: str) -> str | None:
    """Return the kind of file that a property names, None for other properties."""
    if name in {"roboticks.mcap", "roboticks.mcap.path"}:
        return "mcap"
    return name.removeprefix("roboticks.attach.")[:60] if name.startswith("roboticks.attach.") else None


def _check_version(value: str | None) -> None:
    if value is not None and value.strip() not in {str(each) for each in KNOWN_VERSIONS}:
        known = " and ".join(map(str, KNOWN_VERSIONS))
        raise InvalidError(f"junit: roboticks_schema_version is {value[:40]!r}, known are {known}")


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float((value or "").replace(",", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= LONGEST else None


def _moment(value: str | None) -> int | None:
    """Return a time in microseconds since 1970; one without an offset is taken for UTC."""
    try:
        when = datetime.fromisoformat(value or "")
        when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        return max(0, (when - EPOCH) // timedelta(microseconds=1))
    except (ValueError, OverflowError):
        return None
