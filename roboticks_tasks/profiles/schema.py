"""The JSON schema by which editors complete and check profiles; generated, never written by hand."""

from __future__ import annotations

import inspect
import json

import msgspec

from roboticks_tasks.profiles.values import Profile

SCHEMA_FILE = "profile.schema.json"


def profile_schema() -> str:
    """Return the schema as JSON text, as `hardware_profiles/profile.schema.json` must hold it."""
    schema = msgspec.json.schema(Profile)
    properties = schema["$defs"]["Profile"]["properties"]
    del properties["name"]  # the file's own name is the profile's name
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Roboticks profile", **schema}
    return json.dumps(_tidy(schema), indent=2, sort_keys=True) + "\n"


def _tidy(value: object) -> object:
    """Return the schema with the indentation of docstrings removed, which not every Python has removed already."""
    if isinstance(value, dict):
        return {key: _tidy(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_tidy(each) for each in value]
    return inspect.cleandoc(value) if isinstance(value, str) else value
