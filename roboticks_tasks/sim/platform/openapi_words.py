"""What the schemas of the OpenAPI document are made of."""

from __future__ import annotations

from typing import Any

from roboticks_tasks.sim.platform import parse

BLANK = r"\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What Python's `str.strip` takes away, spelt out: every dialect of regular expressions has its own idea of it."""

WRITTEN = rf"^[^\u0000]*[^\u0000{BLANK}][^\u0000]*$"
"""A text that is not empty: more than white space, and no null character."""

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "format": "date-time"}
NEVER: Schema = {"type": ["string", "null"], "format": "date-time"}
ANYTHING: Schema = {"type": "object"}
WHEN: Schema = {"anyOf": [TIME, {"type": "number", "minimum": 0, "maximum": parse.LATEST}]}


def text_of(limit: int = 200) -> Schema:
    """Describe a text of at most `limit` characters that is not empty."""
    return {"type": "string", "minLength": 1, "maxLength": limit, "pattern": WRITTEN}


def object_of(required: Schema, optional: Schema | None = None) -> Schema:
    """Describe an object."""
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def list_of(item: Schema) -> Schema:
    """Describe a list."""
    return {"type": "array", "items": item}


def nullable(kind: str) -> Schema:
    """Describe a value that may be null."""
    return {"type": [kind, "null"]}


def whole(minimum: int, maximum: int) -> Schema:
    """Describe a whole number."""
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


def ref(name: str) -> Schema:
    """Name a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}
