"""Values that come from outside: bodies, queries and MQTT payloads are checked here, each fault one clear sentence.

Requests and messages share these functions, so that a payload over MQTT is refused in the same words as one over HTTP.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NoReturn

LATEST = 4_102_444_800
"""The year 2100 in seconds: a later time is a mistake of unit (our choice)."""

DEEPEST = 50
"""Levels of nested objects and lists that are taken (our choice): what is kept must be fit to be served."""

NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
"""A number of 0 or more, as JSON and programs write it."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class InvalidError(ValueError):
    """A value from outside that is refused; the message is one sentence that names the key."""


def _no_constant(name: str) -> NoReturn:
    raise InvalidError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise InvalidError(f"the number {digits[:40]} is too large")
    return value


def _contents(container: object) -> Iterable[object]:
    if isinstance(container, dict):
        return container.values()
    return container if isinstance(container, list) else ()


def _check_depth(value: object) -> None:
    """Raise InvalidError when `value` is nested deeper than `DEEPEST`; without recursion, level by level."""
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _contents(outer) if isinstance(inner, (dict, list))]
        if not level:
            return
    raise InvalidError(f"it is nested deeper than {DEEPEST} levels")


def json_object(raw: bytes) -> dict[str, object]:
    """Return the JSON object in `raw`; raise InvalidError for what could not be stored and sent again as JSON."""
    try:
        # Decoded here, because json.loads would let the bytes of lone surrogates pass.
        value = json.loads(raw.decode(), parse_constant=_no_constant, parse_float=_finite)
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode()
        if raw.count(b"{") + raw.count(b"[") > DEEPEST:
            _check_depth(value)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"the body is not JSON in UTF-8: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise InvalidError("the body must be a JSON object")
    return value


def text(body: Mapping[str, object], key: str, *, default: str | None = None, limit: int = 200) -> str:
    """Return the non-empty text of at most `limit` characters under `key`; without a default it must be there."""
    value = body.get(key, default)
    if value is None:
        raise InvalidError(f"{key}: missing")
    if not isinstance(value, str) or not value.strip():
        raise InvalidError(f"{key}: must be a text that is not empty")
    if len(value) > limit:
        raise InvalidError(f"{key}: is longer than {limit} characters")
    if "\x00" in value:
        raise InvalidError(f"{key}: must not hold a null character")
    return value


def flag(body: Mapping[str, object], key: str, *, default: bool) -> bool:
    """Return the true or false under `key`."""
    value = body.get(key, default)
    if not isinstance(value, bool):
        raise InvalidError(f"{key}: must be true or false")
    return value


def choice(body: Mapping[str, object], key: str, *, among: tuple[str, ...], default: str | None = None) -> str | None:
    """Return the word under `key`, one of `among`; `default` when it is absent."""
    value = body.get(key, default)
    if value is None or (isinstance(value, str) and value in among):
        return value
    raise InvalidError(f"{key}: must be one of {', '.join(among)}")


def mapping(body: Mapping[str, object], key: str) -> dict[str, object]:
    """Return the object under `key`, empty when it is absent or null."""
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidError(f"{key}: must be an object")
    return value


def integer(body: Mapping[str, object], key: str, *, maximum: int, minimum: int = 0) -> int:
    """Return the whole number from `minimum` to `maximum` under `key`."""
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise InvalidError(f"{key}: must be a whole number from {minimum} to {maximum}")
    return value


def count(body: Mapping[str, object], key: str, *, maximum: int, minimum: int = 0) -> int:
    """Return what `integer` does; 4.0 is a whole number as well: in JSON there is no difference."""
    value = body.get(key)
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return integer({key: whole}, key, maximum=maximum, minimum=minimum)


def milliseconds(body: Mapping[str, object], key: str, *, default: int) -> int:
    """Return the time under `key`, given in ms since 1970, in microseconds; `default` (microseconds) when absent."""
    if body.get(key) is None:
        return default
    return integer(body, key, maximum=LATEST * 1000) * 1000


def number(query: Mapping[str, str], key: str, *, default: int, maximum: int, minimum: int = 0) -> int:
    """Return the whole number that a query's text under `key` says."""
    value = query.get(key)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 19 and minimum <= int(value) <= maximum):
        raise InvalidError(f"{key}: must be a whole number from {minimum} to {maximum}")
    return int(value)


def moment(query: Mapping[str, str], key: str) -> int | None:
    """Return the time under `key` in microseconds since 1970, or None.

    Accepts ISO 8601 (without an offset: UTC) and seconds since 1970 (our choice: the platform's documentation names
    `since` and `until` without a format).
    """
    value = query.get(key)
    if value is None:
        return None
    try:
        if NUMBER.fullmatch(value):
            seconds = float(value)
            if seconds > LATEST:
                raise InvalidError(f"{key}: {value} lies after the year 2100, give seconds")
            return round(seconds * 1_000_000)
        # A plus sign that was not escaped arrives as a space.
        when = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
        when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        return (when - EPOCH) // timedelta(microseconds=1)
    except InvalidError:
        raise
    except (ValueError, OverflowError) as error:
        raise InvalidError(f"{key}: must be a time such as 2026-01-31T12:00:00Z, or seconds since 1970") from error


def iso(microseconds: int | None) -> str | None:
    """Write a time in ISO 8601, UTC, with microseconds; None stays None."""
    if microseconds is None:
        return None
    when = EPOCH + timedelta(microseconds=microseconds)
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
