"""Turn a validation error into one sentence: which file, which line, which key, what was expected."""

from __future__ import annotations

import difflib
import re
import typing
from pathlib import Path

import msgspec

from roboticks_tasks.profiles.values import Profile

UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]+)`")
HEADER = re.compile(r"\s*\[+(?P<path>[^\[\]]+)\]")
SETTING = re.compile(r"\s*(?P<path>[\w\"'. -]+?)\s*=")
MISSING = re.compile(r"Object missing required field `(?P<key>[^`]+)`")


def explain(error: msgspec.ValidationError, *, path: Path, text: str) -> str:
    """Return the sentence for `error`, raised while the TOML `text` of `path` was converted."""
    reason, _, place = str(error).partition(" - at ")
    place = place.strip("`$.").replace("[...]", "")  # the dots in brackets stand for a key that msgspec does not name
    tables = [part.partition("[")[0] for part in place.split(".") if part]
    if match := UNKNOWN.match(reason):
        known = _known_keys(tables)
        near = difflib.get_close_matches(match["key"], known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        key = ".".join([*tables, match["key"]])
        return f"profile {path}{_line(text, [*tables, match['key']])}: unknown key `{key}`; {hint}"
    if match := MISSING.match(reason):
        return f"profile {path}: `{'.'.join([*tables, match['key']])}` is missing"
    return f"profile {path}{_line(text, tables)}: `{place}`: {reason[:1].lower()}{reason[1:]}"


def _line(text: str, path: list[str]) -> str:
    """Return ", line N" of the line that sets the key at `path`, or the inline table that holds it."""
    table: list[str] = []
    holder = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if match := HEADER.match(line):
            table = words = _words(match["path"])
        elif match := SETTING.match(line):
            words = [*table, *_words(match["path"])]
        else:
            continue
        if words[: len(path)] == path:
            return f", line {number}"
        if words == path[: len(words)]:
            holder = f", line {number}"
    return holder


def _words(path: str) -> list[str]:
    return [word.strip().strip("\"'") for word in path.split(".")]


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
