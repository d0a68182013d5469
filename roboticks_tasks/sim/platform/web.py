"""The HTTP listener: uvicorn's protocol on our socket, without its signal handlers and its 0.1 s ticks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from starlette.applications import Starlette

CONNECTIONS = 500
KEEP_ALIVE_SECONDS = 60
LAST_ANSWERS_SECONDS = 0.05


@contextlib.asynccontextmanager
async def serving(app: Starlette, listener: socket.socket) -> AsyncIterator[None]:
    """Serve `app` inside the block; at its end answers under way get a moment."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    try:
        yield
    finally:
        for part in server.servers:
            part.close()
        if server.server_state.tasks:
            await asyncio.wait(server.server_state.tasks, timeout=LAST_ANSWERS_SECONDS)
