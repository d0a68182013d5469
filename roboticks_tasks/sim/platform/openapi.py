"""The OpenAPI 3.1 document of the local platform, written from the table that its server routes by."""

from __future__ import annotations

import re
from collections.abc import Iterable

from roboticks_tasks.sim.platform import devices, fleet, openapi_results, sessions, store_devices, store_sessions
from roboticks_tasks.sim.platform.openapi_words import (
    ANYTHING,
    NEVER,
    TEXT,
    TIME,
    WHEN,
    Schema,
    object_of,
    ref,
    text_of,
    whole,
)
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
    SIGNED,
)

PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")


def _page_of(name: str, **more: Schema) -> Schema:
    return object_of({"items": {"type": "array", "items": ref(name)}, "total": {"type": "integer"}, **more})


BROKER = object_of({"host": TEXT, "port": whole(1, 65535)})
PAGE = {"page": {"type": "integer"}, "page_size": {"type": "integer"}}

SCHEMAS: dict[str, Schema] = {
    "Problem": object_of({"detail": TEXT}),
    "Health": object_of({"status": {"const": "ok"}, "service": TEXT, "version": TEXT, "broker": TEXT}),
    "NewDevice": object_of(
        {"serial": text_of(), "name": text_of(), "csr": text_of(fleet.CSR_LIMIT)},
        {"type": text_of(), "test_device": {"type": "boolean"}, "environment": text_of()},
    ),
    "Registration": object_of(
        {
            **dict.fromkeys(("device_id", "dsn", "certificate", "ca_certificate"), TEXT),
            "mqtt": BROKER,
            "test_device": {"type": "boolean"},
        }
    ),
    "Connection": object_of({"mqtt": BROKER}),
    "Limits": object_of(
        {"device_units": object_of({key: {"type": "integer"} for key in ("purchased", "used", "test_devices")})}
    ),
    "Device": object_of(
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
        "properties": {key: text_of() for key in ("name", "environment", "type")},
        "additionalProperties": False,
    },
    "Command": object_of(
        {"type": {"anyOf": [text_of(), {"type": "integer"}]}}, {"payload": {"type": ["object", "null"]}}
    ),
    "SentCommand": object_of({"command_id": TEXT}, {"delivered": {"type": "boolean"}}),
    "Session": object_of(
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
    "Tag": object_of({"tag": text_of()}),
    "Tags": object_of({"tags": {"type": "array", "items": TEXT}}),
    "LogMessage": object_of({"timestamp": TIME, "level": TEXT, "module": TEXT, "message": TEXT}),
    "LogPage": _page_of("LogMessage"),
    "Document": ANYTHING,
    **openapi_results.SCHEMAS,
}

QUERY: dict[str, Schema] = {
    "page": whole(1, DEEPEST_PAGE),
    "page_size": whole(1, PAGE_LIMIT),
    "status": {"enum": list(store_devices.STATUSES)},
    "session_status": {"enum": list(store_sessions.STATUSES)},
    "since": WHEN,
    "until": WHEN,
    "limit": whole(1, sessions.LOGS_LIMIT),
    "offset": whole(0, sessions.LOGS_DEEPEST),
    "dsn": {"type": "string", "minLength": 1},
    **dict.fromkeys(("type", "group_id", "device_id", "level", "module", "search"), TEXT),
    **openapi_results.QUERY,
}
NAMES = {"session_status": "status", **openapi_results.NAMES}
"""Where two operations give one name two meanings."""

REFUSALS = {
    400: "the request is not HTTP as it should be, or names another host",
    401: "a credential is missing or wrong",
    404: "there is nothing of this name",
    403: "an ingest token is good for sending results alone",
    409: "there are as many as there may be, or it cannot be changed any more",
    413: f"the body is larger than {BODY_LIMIT} bytes, a file larger than it may be, or there is no room for it",
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
                "signature": {"type": "apiKey", "in": "query", "name": "signature"},
            },
        },
    }


def _operation(endpoint: Endpoint) -> Schema:
    kinds = PARAMETER.findall(endpoint.path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"const": FIXED[name]} if name in FIXED else text_of()}
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
    if endpoint.form is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"multipart/form-data": {"schema": ref(endpoint.form)}},
        }
    return operation


def _refusals(endpoint: Endpoint, kinds: list[str]) -> list[int]:
    found = {400, 503, *endpoint.refusals}
    if endpoint.path != HEALTH:
        found |= {401} if endpoint.path.startswith(SIGNED) else {401, 403}
    if kinds:
        found.add(404)
    if endpoint.query or endpoint.body or endpoint.form:
        found.add(422)
    if endpoint.body or endpoint.form:
        found.add(413)
    return sorted(found)


def _security(path: str) -> list[dict[str, list[str]]]:
    if path == HEALTH:
        return []
    if path.startswith(SIGNED):
        return [{"signature": []}]
    names = ["projectSecret"] if path.startswith(SECRET_ONLY) else ["projectSecret", "apiKey", "bearer"]
    return [{name: []} for name in names]


def _answer(schema: str | None) -> Schema:
    if schema is None:
        return {"description": "done"}
    kind = "application/octet-stream" if schema == "Content" else "application/json"
    return {"description": "done", "content": {kind: {"schema": ref(schema)}}}


def _json(schema: str) -> Schema:
    return {"application/json": {"schema": ref(schema)}}
