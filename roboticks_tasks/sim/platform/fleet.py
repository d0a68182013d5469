"""Routes of devices that join: registration, where the broker is, and the organization's limits."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from roboticks_tasks.sim.platform import authority, parse, store_devices
from roboticks_tasks.sim.platform.serving import body_of, broker_of, not_found, platform_of

if TYPE_CHECKING:
    from starlette.requests import Request

CSR_LIMIT = 16_384


async def register(request: Request) -> JSONResponse:
    """Register a device and sign its certificate (path and body are our choice: not documented).

    The same serial number gives the same DSN with a fresh certificate (200 instead of 201).
    """
    platform = platform_of(request)
    body = await body_of(request)
    csr = parse.text(body, "csr", limit=CSR_LIMIT)
    serial, name = parse.text(body, "serial"), parse.text(body, "name")
    kind = parse.text(body, "type", default="robot")
    test_device = parse.flag(body, "test_device", default=False)
    environment = parse.text(body, "environment", default="test" if test_device else "production")
    authority.check(csr)

    def add(connection: sqlite3.Connection) -> tuple[str, str, bool]:
        return store_devices.register(
            connection, serial, name=name, kind=kind, environment=environment, test_device=test_device
        )

    try:
        identity, dsn, new = await platform.store.write(add)
    except store_devices.NoUnitsError as error:
        raise HTTPException(409, str(error)) from error
    answer = {
        "device_id": identity,
        "dsn": dsn,
        "certificate": authority.sign(platform.certificates, csr, dsn=dsn),
        "ca_certificate": platform.certificates.ca.read_text(encoding="ascii"),
        "mqtt": broker_of(request),
        "test_device": test_device,
    }
    return JSONResponse(answer, 201 if new else 200)


async def connection(request: Request) -> JSONResponse:
    """Tell a registered device where the broker is now (our choice: not documented); 404 means register again."""
    platform = platform_of(request)
    dsn = request.query_params.get("dsn")
    if not dsn:
        raise parse.InvalidError("dsn: missing")
    if await platform.store.read(store_devices.identify, dsn) is None:
        not_found("device", dsn)
    return JSONResponse({"mqtt": broker_of(request)})


async def limits(request: Request) -> JSONResponse:
    """Tell the device units bought and used."""
    return JSONResponse({"device_units": await platform_of(request).store.read(store_devices.units)})
