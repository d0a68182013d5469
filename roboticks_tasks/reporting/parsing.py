"""JUnit files of strangers are parsed as they come: no document types, no entities, nothing read whole into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO
from xml.parsers import expat

CHUNK = 262_144

LARGEST_WORD = 32 * 1024 * 1024
"""Bytes of one tag: an attribute's value is not handed over in pieces."""

SEPARATOR = "}"
"""Between a namespace and a name; no URI holds it."""

SUITES = frozenset(("testsuites", "testsuite"))


class UnreadableError(ValueError):
    """The file is cut off, no XML, or of a kind that is refused."""


def new_parser() -> expat.XMLParserType:
    """Return a parser that knows namespaces and stops at a document type: whoever needs one has no test results."""
    parser = expat.ParserCreate(namespace_separator=SEPARATOR)
    parser.buffer_text = True
    parser.buffer_size = CHUNK

    def refuse(*_: object) -> None:
        raise UnreadableError("it has a document type, which is refused")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    return parser


def feed(parser: expat.XMLParserType, stream: BinaryIO, *, until: Callable[[], bool] = lambda: False) -> None:
    """Parse all of `stream`, or as much as it takes until `until` says so; UnreadableError when that cannot be done."""
    fed = 0
    try:
        while data := stream.read(CHUNK):
            parser.Parse(data, False)
            fed += len(data)
            if fed - parser.CurrentByteIndex > LARGEST_WORD:
                raise UnreadableError(f"something in it has more than {LARGEST_WORD} bytes")
            if until():
                return
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        why = "it is empty" if not fed else f"it is cut off or damaged: {error}"
        raise UnreadableError(why) from error
    except (LookupError, ValueError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(f"its encoding is not known: {error}") from error


def local(name: str) -> str:
    """Return a name without its namespace."""
    return name.rpartition(SEPARATOR)[2]
