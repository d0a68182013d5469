"""The OpenAPI 3.1 document of the local platform, written from the table that its server routes by."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from roboticks_tasks.sim.platform import devices, fleet, parse, sessions, store_devices, store_sessions
from roboticks_tasks.sim.platform.routes import Endpoint
from roboticks_tasks.sim.platform.serving import (
    API,
    BODY_LIMIT,
    DEEPEST_PAGE,
    HEALTH,
    ORGANIZATION,
    PAGE_LIMIT,
    PROJECT,
    SECRET_ONLY,
)

PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")

BLANK = r"\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What Python's `str.strip` takes away, spelt out: every dialect of regular expressions has its own idea of it."""

WRITTEN = rf"^[^\u0000]*[^\u0000{BLANK}][^\u0000]*$"
"""A text that is not empty: more than white space, and no null character."""

Schema = dict[str, Any]


def _text(limit: int = 200) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": limit, "pattern": WRITTEN}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _whole(minimum: int, maximum: int) -> Schema:
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


def _page_of(name: str, **more: Schema) -> Schema:
    return _object({"items": {"type": "array", "items": _ref(name)}, "total": {"type": "integer"}, **more})


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "format": "date-time"}
NEVER: Schema = {"type": ["string", "null"], "format": "date-time"}
ANYTHING: Schema = {"type": "object"}
BROKER = _object({"host": TEXT, "port": _whole(1, 65535)})
PAGE = {"page": {"type": "integer"}, "page_size": {"type": "integer"}}
WHEN: Schema = {"anyOf": [TIME, {"type": "number", "minimum": 0, "maximum": parse.LATEST}]}

SCHEMAS: dict[str, Schema] = {
    "Problem": _object({"detail": TEXT}),
    "Health": _object({"status": {"const": "ok"}, "service": TEXT, "version": TEXT, "broker": TEXT}),
    "NewDevice": _object(
        {"serial": _text(), "name": _text(), "csr": _text(fleet.CSR_LIMIT)},
        {"type": _text(), "test_device": {"type": "boolean"}, "environment": _text()},
    ),
    "Registration": _object(
        {
            **dict.fromkeys(("device_id", "dsn", "certificate", "ca_certificate"), TEXT),
            "mqtt": BROKER,
            "test_device": {"type": "boolean"},
        }
    ),
    "Connection": _object({"mqtt": BROKER}),
    "Limits": _object(
        {"device_units": _object({key: {"type": "integer"} for key in ("purchased", "used", "test_devices")})}
    ),
    "Device": _object(
        {
            **dict.fromkeys(("id", "name", "dsn", "type", "environment"), TEXT),
            "status": {"enum": list(store_devices.STATUSES)},
            "last_heartbeat": NEVER,
            "created_at": TIME,
            "current_session_id": {"type": ["string", "null"]},
            "package_id": {"type": "null"},
            "package_name": {"type": "null"},
            "groups": {"type": "array"},
            "metrics": {"type": ["object", "null"]},
            "test_device": {"type": "boolean"},
            "compositions": {"type": "array", "items": ANYTHING},
        }
    ),
    "DevicePage": _page_of("Device", **PAGE),
    "DeviceChange": {
        "type": "object",
        "properties": {key: _text() for key in ("name", "environment", "type")},
        "additionalProperties": False,
    },
    "Command": _object({"type": {"anyOf": [_text(), {"type": "integer"}]}}, {"payload": {"type": ["object", "null"]}}),
    "SentCommand": _object({"command_id": TEXT}, {"delivered": {"type": "boolean"}}),
    "Session": _object(
        {
            **dict.fromkeys(("id", "device_id", "dsn", "name"), TEXT),
            "status": {"enum": list(store_sessions.STATUSES)},
            "metadata": ANYTHING,
            "tags": {"type": "array", "items": TEXT},
            "started_at": TIME,
            "ended_at": NEVER,
        }
    ),
    "SessionPage": _page_of("Session", **PAGE),
    "Tag": _object({"tag": _text()}),
    "Tags": _object({"tags": {"type": "array", "items": TEXT}}),
    "LogMessage": _object({"timestamp": TIME, "level": TEXT, "module": TEXT, "message": TEXT}),
    "LogPage": _page_of("LogMessage"),
    "Document": ANYTHING,
}

QUERY: dict[str, Schema] = {
    "page": _whole(1, DEEPEST_PAGE),
    "page_size": _whole(1, PAGE_LIMIT),
    "status": {"enum": list(store_devices.STATUSES)},
    "session_status": {"enum": list(store_sessions.STATUSES)},
    "since": WHEN,
    "until": WHEN,
    "limit": _whole(1, sessions.LOGS_LIMIT),
    "offset": _whole(0, sessions.LOGS_DEEPEST),
    "dsn": {"type": "string", "minLength": 1},
    **dict.fromkeys(("type", "group_id", "device_id", "level", "module", "search"), TEXT),
}
NAMES = {"session_status": "status"}
"""Where two operations give one name two meanings."""

REFUSALS = {
    400: "the request is not HTTP as it should be, or names another host",
    401: "a credential is missing or wrong",
    404: "there is nothing of this name",
    409: "all purchased device units are used",
    413: f"the body is larger than {BODY_LIMIT} bytes",
    422: "a value is missing or makes no sense",
    503: "the broker, the database or the platform as a whole cannot do it now",
}
FIXED = {"org": ORGANIZATION, "project": PROJECT}


def document(endpoints: Iterable[Endpoint], *, version: str) -> Schema:
    """Return the document; every refusal is an object with one sentence under `detail`."""
    paths: dict[str, Schema] = {}
    for endpoint in endpoints:
        paths.setdefault(PARAMETER.sub(r"{\1}", endpoint.path), {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Roboticks local platform",
            "version": version,
            "description": f"Commands are messages of at most {devices.MESSAGE_LIMIT} bytes.",
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "projectSecret": {"type": "apiKey", "in": "header", "name": "X-Project-Secret"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(endpoint: Endpoint) -> Schema:
    kinds = PARAMETER.findall(endpoint.path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"const": FIXED[name]} if name in FIXED else _text()}
        for name in kinds
    ]
    parameters += [
        {"name": NAMES.get(name, name), "in": "query", "required": name in endpoint.required, "schema": QUERY[name]}
        for name in endpoint.query
    ]
    operation: Schema = {
        "summary": endpoint.summary,
        "operationId": f"{endpoint.method.lower()}_{'_'.join(re.findall(r'[a-z]+', endpoint.path.removeprefix(API)))}",
        "parameters": parameters,
        "security": _security(endpoint.path),
        "responses": {str(status): _answer(schema) for status, schema in endpoint.answers.items()},
    }
    for status in _refusals(endpoint, kinds):
        operation["responses"][str(status)] = {"description": REFUSALS[status], "content": _json("Problem")}
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(endpoint.body)}
    return operation


def _refusals(endpoint: Endpoint, kinds: list[str]) -> list[int]:
    found = {400, 503, *endpoint.refusals}
    if endpoint.path != HEALTH:
        found.add(401)
    if kinds:
        found.add(404)
    if endpoint.query or endpoint.body:
        found.add(422)
    if endpoint.body:
        found.add(413)
    return sorted(found)


def _security(path: str) -> list[dict[str, list[str]]]:
    if path == HEALTH:
        return []
    names = ["projectSecret"] if path.startswith(SECRET_ONLY) else ["projectSecret", "apiKey", "bearer"]
    return [{name: []} for name in names]


def _answer(schema: str | None) -> Schema:
    return {"description": "done"} if schema is None else {"description": "done", "content": _json(schema)}


def _json(schema: str) -> Schema:
    return {"application/json": {"schema": _ref(schema)}}
