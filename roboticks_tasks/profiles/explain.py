"""Turn a validation error into one sentence: which file, which line, which key, what was expected."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Sequence
from pathlib import Path

import msgspec

from roboticks_tasks.profiles.lines import Place, line_of
from roboticks_tasks.profiles.values import Profile

UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]+)`")
MISSING = re.compile(r"Object missing required field `(?P<key>[^`]+)`")
STEP = re.compile(r"\[(?P<index>\d+)\]|(?P<key>\w+)")


def explain(error: msgspec.ValidationError, *, path: Path, text: str) -> str:
    """Return the sentence for `error`, raised while the TOML `text` of `path` was converted."""
    reason, _, where = str(error).partition(" - at ")
    # The dots in brackets stand for a key that msgspec does not name.
    place = read_place(where.strip("`$").replace("[...]", ""))
    if match := UNKNOWN.match(reason):
        known = _known_keys(place)
        near = difflib.get_close_matches(match["key"], known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        place = (*place, match["key"])
        return f"{locate(path, text, place)}: unknown key `{spell(place)}`; {hint}"
    if match := MISSING.match(reason):
        return f"{locate(path, text, place)}: `{spell((*place, match['key']))}` is missing"
    return f"{locate(path, text, place)}: `{spell(place)}`: {reason[:1].lower()}{reason[1:]}"


def locate(path: Path, text: str, place: Sequence[str | int]) -> str:
    """Return "profile FILE, line N" for the key at `place`, or for the table that ought to hold it."""
    line = line_of(text, place)
    return f"profile {path}" if line is None else f"profile {path}, line {line}"


def read_place(dotted: str) -> Place:
    """Return the names and indices of a key like boards[0].console.port."""
    return tuple(int(match["index"]) if match["index"] else match["key"] for match in STEP.finditer(dotted))


def spell(place: Sequence[str | int]) -> str:
    """Return the key as people write it: boards[0].console.port."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")


def _known_keys(place: Place) -> list[str]:
    """Return the keys that the table at `place` accepts; an entry of a list accepts what the list's type says."""
    kind: object = Profile
    for name in place:
        if isinstance(name, str):
            hints = typing.get_type_hints(kind)
            kind = next((each for each in _structs(hints.get(name))), Profile)
    fields = msgspec.structs.fields(kind)  # type: ignore[arg-type] # a struct, whatever the annotation was
    return sorted(field.name for field in fields if field.name != "name")


def _structs(annotation: object) -> list[object]:
    options = typing.get_args(annotation) or (annotation,)
    return [each for each in options if isinstance(each, type) and issubclass(each, msgspec.Struct)]
