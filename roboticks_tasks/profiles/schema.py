"""The JSON schema by which editors complete and check profiles; generated, never written by hand."""

from __future__ import annotations

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
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
