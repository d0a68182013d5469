"""What a JUnit file holds, and where in it: so that it can be counted, and taken over byte by byte, unread."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from roboticks_tasks.reporting.parsing import CHUNK, SUITES, UnreadableError, feed, new_parser

OUTCOMES = ("failure", "error", "skipped")
"""What a test case holds that has not passed, in the order of the counts."""

OF_ROOT = frozenset(
    {"name", "tests", "failures", "errors", "skipped", "disabled", "assertions"}
    | {"time", "timestamp", "id", "package", "hostname"}
)
"""What the root says of all suites together: it is not true any more when there is one more."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
"""The bytes by which a file tells its encoding, whatever its declaration says."""


class Counts(NamedTuple):
    """Numbers of test cases."""

    passed: int
    failed: int
    errors: int
    skipped: int


class Layout(NamedTuple):
    """The suites of a JUnit file: its bytes from `begin` to `end`, in `encoding`, then the tags of `closing`.

    `counts` is of the cases therein. `problem` says why that is not all that the file was to hold. `attributes` are
    those of the root that are not of all suites together, its namespaces among them.
    """

    begin: int
    end: int
    closing: tuple[str, ...]
    encoding: str
    counts: Counts
    attributes: tuple[tuple[str, str], ...] = ()
    problem: str | None = None


def read_counts(path: Path) -> Counts | None:
    """Return what the file says; None when it is missing, cut off or refused. However large, it needs no memory."""
    layout = read_layout(path)
    return None if layout is None or layout.problem is not None else layout.counts


def read_layout(path: Path) -> Layout | None:
    """Return what of the file is whole, and where; None when there is no file. However large, it needs no memory."""
    try:
        with path.open("rb") as stream:
            return _Scan(stream).layout()
    except OSError:
        return None


def suites(path: Path, layout: Layout) -> Iterator[bytes]:
    """Yield the suites of the file as UTF-8, in pieces; OSError when it cannot be read any more."""
    decoder = codecs.getincrementaldecoder(layout.encoding)("replace")
    left = layout.end - layout.begin
    with path.open("rb") as stream:
        stream.seek(layout.begin)
        while left > 0 and (data := stream.read(min(CHUNK, left))):
            left -= len(data)
            yield data if layout.encoding == "utf-8" else decoder.decode(data).encode()
    yield "".join(layout.closing).encode()


class _Scan:
    """Counts the cases of a file, and finds where its suites are, and what is whole when it is cut off."""

    def __init__(self, stream: BinaryIO) -> None:
        self._found: Counter[str] = Counter()
        self._whole: Counter[str] = Counter()  # of these, in what is whole
        self._outcomes: set[str] = set()
        self._names: list[str] = []
        self._begin: int | None = None
        self._end = 0
        self._closing: tuple[str, ...] = ()
        self._last = ""  # the tag that ends what ends there
        self._is_bare = False  # nothing has come since an element began
        self._bare_at_end = False
        self._attributes: dict[str, str] = {}
        self._encoding: str | None = None
        self._parser = new_parser()
        self._parser.namespace_prefixes = True
        self._parser.StartElementHandler = self._on_start
        self._parser.EndElementHandler = self._on_end
        self._parser.CharacterDataHandler = self._on_text
        self._parser.StartNamespaceDeclHandler = self._on_namespace
        self._parser.XmlDeclHandler = self._on_declaration
        head = stream.read(4)
        stream.seek(0)
        self._marked = next((name for mark, name in MARKS if head.startswith(mark)), None)
        self._stream = stream

    def layout(self) -> Layout:
        problem = None
        try:
            feed(self._parser, self._stream)
            self._whole = self._found
        except UnreadableError as error:
            problem = str(error)
        closing = self._closing
        if self._last and not self._is_after_empty():
            closing = (self._last, *closing)
        kinds = [self._whole[kind] for kind in OUTCOMES]
        return Layout(
            begin=self._begin or 0,
            end=self._end if self._begin is not None else 0,
            closing=closing,
            encoding=self._marked or self._encoding or "utf-8",
            counts=Counts(self._whole["testcase"] - sum(kinds), *kinds),
            attributes=tuple(self._attributes.items()),
            problem=problem,
        )

    def _on_start(self, name: str, attributes: dict[str, str]) -> None:
        short = _short(name)
        if not self._names and short not in SUITES:
            raise UnreadableError(f"it is no JUnit file: it begins with <{short[:80]}>")
        if not self._names and short == "testsuites":
            rest = {key: value for key, value in attributes.items() if key not in OF_ROOT and "}" not in key}
            self._attributes |= rest
        elif self._begin is None:
            self._begin = self._end = self._parser.CurrentByteIndex
        if short in OUTCOMES and self._names[-1:] and _short(self._names[-1]) == "testcase":
            self._outcomes.add(short)
        self._names.append(name)
        self._is_bare = True

    def _on_end(self, name: str) -> None:
        self._names.pop()
        is_bare, self._is_bare = self._is_bare, False
        if _short(name) == "testcase":
            self._found.update(["testcase", *self._outcomes])
            self._outcomes.clear()
        outer = self._names[1:] if self._names and _short(self._names[0]) == "testsuites" else self._names
        if outer and _short(outer[-1]) not in SUITES:
            return  # within a case
        self._bare_at_end = is_bare
        self._whole = self._found.copy()
        self._end = self._parser.CurrentByteIndex
        self._last = f"</{_written(name)}>" if self._names or _short(name) == "testsuite" else ""
        self._closing = tuple(f"</{_written(each)}>" for each in reversed(outer))

    def _on_text(self, _: str) -> None:
        self._is_bare = False

    def _is_after_empty(self) -> bool:
        """Tell whether the end is behind an element without an end tag, `<testcase/>`, and not before an end tag."""
        back = min(4, self._end)
        self._stream.seek(self._end - back)
        return self._bare_at_end and self._stream.read(back).replace(b"\0", b"").endswith(b"/>")

    def _on_namespace(self, prefix: str | None, uri: str) -> None:
        if not self._names and prefix is not None:
            self._attributes[f"xmlns:{prefix}"] = uri

    def _on_declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None:
            name = codecs.lookup(encoding).name
            self._encoding = {"ascii": "utf-8"}.get(name, name)


def _short(name: str) -> str:
    """Return `tag` of `uri}tag`, `uri}tag}prefix` or `tag`."""
    parts = name.split("}")
    return parts[1] if len(parts) > 1 else name


def _written(name: str) -> str:
    parts = name.split("}")
    return f"{parts[2]}:{parts[1]}" if len(parts) > 2 else parts[-1]
