"""Turn a validation error into one sentence: which file, which line, which key, what was expected."""

from __future__ import annotations

import difflib
import re
import typing
from pathlib import Path

import msgspec

from roboticks_tasks.profiles.values import Profile

UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]+)`")
MISSING = re.compile(r"Object missing required field `(?P<key>[^`]+)`")


def explain(error: msgspec.ValidationError, *, path: Path, text: str) -> str:
    """Return the sentence for `error`, raised while the TOML `text` of `path` was converted."""
    reason, _, place = str(error).partition(" - at ")
    tables = [part for part in place.strip("`$").split(".") if part]
    if match := UNKNOWN.match(reason):
        known = _known_keys(tables)
        near = difflib.get_close_matches(match["key"], known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        key = ".".join([*tables, match["key"]])
        return f"profile {path}{_line(text, match['key'])}: unknown key `{key}`; {hint}"
    if match := MISSING.match(reason):
        return f"profile {path}: `{'.'.join([*tables, match['key']])}` is missing"
    key = ".".join(tables)
    return f"profile {path}{_line(text, tables[-1] if tables else '')}: `{key}`: {reason[:1].lower()}{reason[1:]}"


def _line(text: str, key: str) -> str:
    """Return ", line N" for the first line that sets `key` or opens its table; the reader looks from there."""
    name = re.escape(key.partition("[")[0])
    for number, line in enumerate(text.splitlines(), start=1):
        if name and re.match(rf"""\s*(\[+.*\b{name}\s*\]+|["']?{name}["']?\s*[=.])""", line):
            return f", line {number}"
    for number, line in enumerate(text.splitlines(), start=1):
        if name and re.search(rf"[{{,]\s*{name}\s*=", line):
            return f", line {number}"
    return ""


def _known_keys(tables: list[str]) -> list[str]:
    """Return the keys that the table at `tables` accepts."""
    kind: object = Profile
    for table in tables:
        hints = typing.get_type_hints(kind)
        kind = next((each for each in _structs(hints.get(table))), Profile)
    return sorted(field.name for field in msgspec.structs.fields(kind) if field.name != "name")  # type: ignore[arg-type]


def _structs(annotation: object) -> list[object]:
    options = typing.get_args(annotation) or (annotation,)
    return [each for each in options if isinstance(each, type) and issubclass(each, msgspec.Struct)]
