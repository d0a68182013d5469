"""Results that name files: where they name those of the run's folder, they are to name those of the platform.

Files of a case are named by its properties `roboticks.mcap` and `roboticks.attach.KIND` (documented); those of the
run as a whole by the same properties of the suite (our choice). The rest of the XML stays as it is, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.upload.form import Piece, Slice

NAMES = re.compile(r"roboticks\.(mcap|mcap\.path|attach\.[^/\s]+)")
READABLE = re.compile(r"utf-?8|us-ascii|ascii|iso-8859-\d+|latin-?1|windows-125\d", re.IGNORECASE)
"""Encodings in which ASCII is ASCII: what is written here is nothing else."""


class Uploaded(NamedTuple):
    """A file that the platform has: what kind it is, and how results name it there."""

    kind: str
    uri: str


def rewritten(file: BinaryIO, size: int, uploaded: Mapping[str, Uploaded], folder: Path) -> list[Piece]:
    """Return a JUnit file with the names of `uploaded` (by their path in `folder`); ConfigError when it is none."""
    reading = _Reading(uploaded, folder)
    reading.parse(file)
    edits = [] if not reading.can_be_changed else sorted(reading.replaced() + reading.inserted())
    pieces: list[Piece] = []
    at = 0
    for begin, end, text in edits:
        pieces += [Slice(at, begin), text]
        at = end
    return [*pieces, Slice(at, size)]


class _Reading:
    """Where the file names others, in bytes from its beginning."""

    def __init__(self, uploaded: Mapping[str, Uploaded], folder: Path) -> None:
        self.can_be_changed = True
        self._uploaded, self._folder = uploaded, folder
        self._named: set[str] = set()
        self._tags: list[list[int | dict[str, str]]] = []
        self._suite: list[int] = []
        self._properties: list[int] = []
        self._waiting: list[int] | None = None
        self._is_first_child = False

    def parse(self, file: BinaryIO) -> None:
        """Read the whole file, in pieces."""
        file.seek(0)
        self._file = file
        self._parser = expat.ParserCreate()
        self._parser.XmlDeclHandler = self._declared
        self._parser.StartDoctypeDeclHandler = self._refused
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.DefaultHandler = self._other
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            self.can_be_changed = False
        file.seek(0)
        try:
            while chunk := file.read(1 << 16):
                self._parser.Parse(chunk, False)
            self._parser.Parse(b"", True)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise ConfigError(f"{self._name()} is no XML and was not sent: {error}") from error
        if not self._suite:
            raise ConfigError(f"{self._name()} has no test suite and was not sent")

    def replaced(self) -> list[tuple[int, int, bytes]]:
        """Return the properties that are to be others: begin, end and text."""
        edits = []
        for begin, end, attributes in self._tags:
            assert isinstance(begin, int)
            assert isinstance(end, int)
            assert isinstance(attributes, dict)
            words = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
            close = "/>" if self._ends_itself(end) else ">"
            edits.append((begin, end, _ascii(f"<property{words}{close}")))
        return edits

    def inserted(self) -> list[tuple[int, int, bytes]]:
        """Return the properties of the suite that name what no case does."""
        rest = {path: each for path, each in self._uploaded.items() if path not in self._named}
        words = "".join(
            f"<property name={quoteattr('roboticks.attach.' + each.kind)} value={quoteattr(each.uri)}/>"
            for each in rest.values()
        )
        if not words:
            return []
        if self._properties and not self._ends_itself(self._properties[1]):
            return [(self._properties[1], self._properties[1], _ascii(words))]
        end = self._suite[1]
        if self._ends_itself(end):
            return [(end - 2, end, _ascii(f"><properties>{words}</properties></testsuite>"))]
        return [(end, end, _ascii(f"<properties>{words}</properties>"))]

    def _declared(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and not READABLE.fullmatch(encoding):
            self.can_be_changed = False

    def _refused(self, *_: object) -> None:
        raise ConfigError(f"{self._name()} has a document type and was not sent: the platform does not read that")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._tag_has_ended()
        begin = self._parser.CurrentByteIndex
        if tag == "properties" and self._is_first_child:
            self._waiting = self._properties = [begin]
        self._is_first_child = False
        if tag == "testsuite" and not self._suite:
            self._waiting = self._suite = [begin]
            self._is_first_child = True
        elif tag == "property" and NAMES.fullmatch(attributes.get("name", "")):
            path = self._path(attributes.get("value", ""))
            if path in self._uploaded:
                self._named.add(path)
                entry: list[int | dict[str, str]] = [begin]
                self._tags.append(entry)
                self._entry, self._attributes = entry, {**attributes, "value": self._uploaded[path].uri}

    def _end(self, _tag: str) -> None:
        self._tag_has_ended()
        self._is_first_child = False

    def _other(self, _text: str) -> None:
        self._tag_has_ended()

    def _tag_has_ended(self) -> None:
        """Take note of where a tag ended: where the next thing begins."""
        at = self._parser.CurrentByteIndex
        if self._waiting is not None:
            self._waiting.append(at)
            self._waiting = None
        if self._tags and len(self._tags[-1]) == 1:
            self._tags[-1] += [at, self._attributes]

    def _path(self, value: str) -> str:
        """Return a path as it is in the run's folder, however a test has written it."""
        path = Path(value)
        if path.is_absolute() and path.is_relative_to(self._folder):
            path = path.relative_to(self._folder)
        return path.as_posix()

    def _ends_itself(self, end: int) -> bool:
        self._file.seek(end - 2)
        return self._file.read(2) == b"/>"

    def _name(self) -> str:
        return Path(self._file.name).name


def _ascii(text: str) -> bytes:
    return text.encode("ascii", "xmlcharrefreplace")
