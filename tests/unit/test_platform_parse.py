"""What the platform takes for JSON from outside: only what it can keep and serve again."""

from __future__ import annotations

import json

import pytest

from roboticks_tasks.sim.platform import parse


def nested(levels: int, *, opening: str = '{"a": ', closing: str = "}") -> bytes:
    """Return an object that is nested this deep, the outermost counted."""
    return (opening * (levels - 1) + "{}" + closing * (levels - 1)).encode()


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
        (b'{"a": "\xff"}', "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        ('{"a": 1}'.encode("utf-32-le"), "JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b'{"a": "\\ud800"}', "surrogates"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": [-1e999]}', "too large"),
        (b'{"a": NaN}', "NaN"),
        (nested(parse.DEEPEST + 1), "deeper than 50"),
        (nested(parse.DEEPEST + 1, opening='{"a": [[1],', closing="]}"), "deeper than 50"),
        (nested(5000), "deeper|recursion"),
    ],
)
def test_what_could_not_be_served_again_is_refused(raw: bytes, word: str) -> None:
    with pytest.raises(parse.InvalidError, match=word):
        parse.json_object(raw)


@pytest.mark.parametrize(
    "raw",
    [
        nested(parse.DEEPEST),
        json.dumps({"many": [{"flat": [number]} for number in range(200)]}).encode(),
        '{"a": "ä€𝄞 \\ud834\\udd1e", "b": -1.5e300}'.encode(),
    ],
)
def test_all_else_is_taken_as_it_is(raw: bytes) -> None:
    assert parse.json_object(raw) == json.loads(raw)
