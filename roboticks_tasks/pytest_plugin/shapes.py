"""The structure of a message, compared with the one that a test expects."""

from __future__ import annotations

from typing import Any


def mismatch(value: object, shape: Any, *, path: str = "the message") -> str:
    """Return where and how `value` differs from `shape`, "" when it fits.

    A shape is a type, or a tuple of types; a dictionary, each of whose keys the value has with that shape, among
    others; a list of one shape, for a list of any number of such values; anything else is the value itself. `float`
    takes whole numbers, too; `int` does not take a truth value.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{path} is {_kind(value)}, not an object"
        for key, inner in shape.items():
            if key not in value:
                return f"{path} has no {key!r}"
            if problem := mismatch(value[key], inner, path=f"{path}[{key!r}]"):
                return problem
        return ""
    if isinstance(shape, list) and len(shape) == 1:
        if not isinstance(value, list):
            return f"{path} is {_kind(value)}, not a list"
        problems = (mismatch(each, shape[0], path=f"{path}[{number}]") for number, each in enumerate(value))
        return next(filter(None, problems), "")
    if isinstance(shape, type | tuple):
        types = shape if isinstance(shape, tuple) else (shape,)
        if any(_is_of(value, each) for each in types):
            return ""
        return f"{path} is {_kind(value)}, not {' or '.join(each.__name__ for each in types)}"
    return "" if value == shape else f"{path} is {value!r:.200}, not {shape!r:.200}"


def _is_of(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind in {bool, object}
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _kind(value: object) -> str:
    return f"{type(value).__name__} {value!r:.200}"
