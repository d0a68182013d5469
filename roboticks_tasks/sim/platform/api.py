"""The HTTP application: all routes, and every error as {"detail": one sentence}."""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from roboticks_tasks.sim.platform import parse
from roboticks_tasks.sim.platform.authority import BadRequestError, DamagedError
from roboticks_tasks.sim.platform.routes import ENDPOINTS, Endpoint, table
from roboticks_tasks.sim.platform.serving import API, HEALTH, Guard, Platform, platform_of

if TYPE_CHECKING:
    from starlette.requests import Request

log = logging.getLogger(__name__)

SERVICE = "roboticks-local-platform"
VERSION = "1.0.0"


async def health(request: Request) -> JSONResponse:
    """Tell that the platform runs."""
    return JSONResponse({"status": "ok", "service": SERVICE, "version": VERSION, "broker": platform_of(request).broker})


async def describe(_request: Request) -> JSONResponse:
    """Describe this API as an OpenAPI document."""
    from roboticks_tasks.sim.platform import openapi

    return JSONResponse(openapi.document(EVERYTHING, version=VERSION))


EVERYTHING = (
    Endpoint(method="GET", path=HEALTH, handler=health, answers={200: "Health"}),
    Endpoint(method="GET", path=f"{API}/openapi.json", handler=describe, answers={200: "Document"}),
    *ENDPOINTS,
)


async def refused(_request: Request, error: Exception) -> JSONResponse:
    """Answer a refusal of a route or of the router."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)


async def invalid(_request: Request, error: Exception) -> JSONResponse:
    """Answer a value that was refused."""
    return JSONResponse({"detail": str(error)}, 422)


async def not_stored(_request: Request, error: Exception) -> JSONResponse:
    """Answer a fault of the disk, such as that it is full."""
    log.error("The database refuses: %s", error)
    return JSONResponse({"detail": f"the platform cannot use its database: {error}"}, 503)


async def no_room(_request: Request, error: Exception) -> JSONResponse:
    """Answer that the disk does not take a file."""
    assert isinstance(error, OSError)
    log.error("A file cannot be stored: %s", error)
    return JSONResponse({"detail": f"the platform cannot store this: {error.strerror}"}, 503)


async def gone(_request: Request, _error: Exception) -> JSONResponse:
    """Answer nobody: who sent the request has hung up in the middle of it."""
    return JSONResponse({"detail": "the request is cut off"}, 400)


async def damaged(_request: Request, error: Exception) -> JSONResponse:
    """Answer that the authority's files cannot be used."""
    log.error("%s", error)
    return JSONResponse({"detail": str(error)}, 503)


async def broken(_request: Request, _error: Exception) -> JSONResponse:
    """Answer a bug of ours; the server logs the traceback."""
    return JSONResponse({"detail": "internal error: see the platform's log"}, 500)


def build(platform: Platform) -> Starlette:
    """Return the application that serves `platform`."""
    app = Starlette(
        routes=table(EVERYTHING),
        middleware=[Middleware(Guard, platform=platform)],
        exception_handlers={
            HTTPException: refused,
            parse.InvalidError: invalid,
            BadRequestError: invalid,
            sqlite3.OperationalError: not_stored,
            DamagedError: damaged,
            ClientDisconnect: gone,
            OSError: no_room,
            Exception: broken,
        },
    )
    app.router.redirect_slashes = False
    app.state.platform = platform
    return app
