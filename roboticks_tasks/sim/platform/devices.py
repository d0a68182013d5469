"""Routes of devices: list, show, change, forget, their logs, and commands to them."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.platform import parse, store_devices
from roboticks_tasks.sim.platform.serving import Platform, body_of, not_found, page_of, platform_of
from roboticks_tasks.sim.platform.sessions import logs_answer

if TYPE_CHECKING:
    from starlette.requests import Request

MESSAGE_LIMIT = 128 * 1024
"""Largest MQTT message, https://docs.roboticks.io/features/device-file-upload."""


async def known(request: Request) -> dict[str, Any]:
    """Return the device that the path names by its id or DSN; 404 when there is none."""
    key = request.path_params["device"]
    device = await platform_of(request).store.read(store_devices.find, key)
    if device is None:
        not_found("device", key)
    return device


async def listing(request: Request) -> JSONResponse:
    """List devices in the order of their registration.

    The local platform has no device groups (our choice): the documented filter `group_id` selects no device.
    """
    query = request.query_params
    page, size = page_of(request)
    status = parse.choice(query, "status", among=store_devices.STATUSES)
    if query.get("group_id"):
        return JSONResponse({"items": [], "total": 0, "page": page, "page_size": size})
    items, total = await platform_of(request).store.read(
        store_devices.page, status=status, kind=query.get("type"), offset=(page - 1) * size, limit=size
    )
    return JSONResponse({"items": items, "total": total, "page": page, "page_size": size})


async def show(request: Request) -> JSONResponse:
    """Show one device."""
    return JSONResponse(await known(request))


async def change(request: Request) -> JSONResponse:
    """Change a device's name, environment or type."""
    body = await body_of(request)
    for key in body:
        if key not in ("name", "environment", "type"):
            raise parse.InvalidError(f"{key[:80]}: cannot be changed, only name, environment and type")
    values = {key: parse.text(body, key) for key in body}
    device = await known(request)
    await platform_of(request).store.write(store_devices.change, device["id"], values)
    return JSONResponse(await known(request))


async def remove(request: Request) -> Response:
    """Forget a device with its sessions and logs; it must register again."""
    device = await known(request)
    await platform_of(request).store.write(store_devices.remove, device["id"])
    return Response(status_code=204)


async def logs(request: Request) -> JSONResponse:
    """Show a device's log messages, in and outside sessions."""
    device = await known(request)
    return await logs_answer(request, device=device["id"])


async def command(request: Request) -> JSONResponse:
    """Send a command to one device, on the topic of https://docs.roboticks.io/sdk/session-control.

    The answer's `delivered` tells whether the device was online to get it (our choice: not documented).
    """
    body = await body_of(request)
    device = await known(request)
    sent = send_command(platform_of(request), body, topic=topics.device_commands(device["dsn"]))
    return JSONResponse({"command_id": sent, "delivered": device["status"] == "online"}, 202)


async def broadcast(request: Request) -> JSONResponse:
    """Send a command to all devices."""
    sent = send_command(platform_of(request), await body_of(request), topic=topics.COMMANDS_BROADCAST)
    return JSONResponse({"command_id": sent}, 202)


def send_command(platform: Platform, body: dict[str, object], *, topic: str) -> str:
    """Publish a command and return its id; 422 for a body that is none, 503 while the broker is out of reach."""
    kind = body.get("type")
    if isinstance(kind, str):
        kind = parse.text(body, "type")
    elif isinstance(kind, bool) or not isinstance(kind, int):
        raise parse.InvalidError("type: must be a command's number or name")
    identity = str(uuid.uuid4())
    wire = {"command_id": identity, "type": kind, "payload": parse.mapping(body, "payload")}
    if len(json.dumps(wire)) > MESSAGE_LIMIT:
        raise parse.InvalidError(f"payload: the message is larger than {MESSAGE_LIMIT} bytes")
    if not platform.publish(topic, wire):
        raise HTTPException(503, "the platform has no connection to its broker")
    return identity
