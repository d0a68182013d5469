"""The HTTP listener: uvicorn on our socket, without its signal handlers and 0.1 s ticks, and with bounds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from roboticks_tasks.sim.platform.serving import UPLOADS
from roboticks_tasks.sim.platform.throttle import Sparse

if TYPE_CHECKING:
    from starlette.applications import Starlette

CONNECTIONS = 500
KEEP_ALIVE_SECONDS = 60
LAST_ANSWERS_SECONDS = 0.05
REQUEST_SECONDS = 10.0
"""How long a request may take to arrive, from its first byte to the last of its body."""

UPLOAD_SECONDS = 600.0
"""The same for a file that goes with a test run: it may be large, and its sender slow."""

ANSWER_SECONDS = 30.0
"""How long a client may not read the answer that it has asked for."""

HEAD_BYTES = 16 * 1024


class Bounded(H11Protocol):
    """One connection that is closed when its client dawdles: uvicorn itself waits for half a request for ever."""

    _receiving: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None
    _is_upload = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request, or close one connection too many: uvicorn would only answer that there are."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        else:
            self._receiving = self.loop.call_later(REQUEST_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take what has come, and time what has not; the answer says when, for a device whose clock is wrong."""
        self.server_state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            _cancel(self._receiving)
            self._receiving = None
            self._is_upload = False
        elif self._receiving is None:
            self._receiving = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)
        elif not self._is_upload and self.scope is not None and self.scope["path"].startswith(UPLOADS):
            self._is_upload = True
            self._receiving.cancel()
            self._receiving = self.loop.call_later(UPLOAD_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; a request whose body turned out not to be is answered by nobody else."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        super().send_400_response(msg)

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever."""
        super().pause_writing()
        self._sending = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        _cancel(self._sending)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clocks."""
        _cancel(self._receiving)
        _cancel(self._sending)
        super().connection_lost(exc)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


@contextlib.asynccontextmanager
async def serving(app: Starlette, listener: socket.socket) -> AsyncIterator[None]:
    """Serve `app` inside the block; at its end answers under way get a moment."""
    config = uvicorn.Config(
        app,
        http=Bounded,
        h11_max_incomplete_event_size=HEAD_BYTES,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    logging.getLogger("uvicorn.error").addFilter(Sparse())  # anybody on this machine can send nonsense
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
