"""The port: connections are taken and brought through their TLS handshake."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Coroutine

from roboticks_tasks.sim.platform.broker.link import Hub, Link


class Listener:
    """A port that is listened on, and the connections on it that no client has yet."""

    def __init__(self, listening: socket.socket, broker: Hub) -> None:
        self._socket, self._broker = listening, broker
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, tls: ssl.SSLContext) -> None:
        """Take connections until stopped."""
        self._spawn(self._accept(tls))

    async def stop(self) -> None:
        """Close the port, and the connections whose handshake is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    async def _accept(self, tls: ssl.SSLContext) -> None:
        loop, broker = asyncio.get_running_loop(), self._broker
        while True:
            await asyncio.sleep(0)  # a flood of connections must not keep the others waiting
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError as error:  # out of file descriptors, or the client left already
                broker.note("accept", "cannot accept a connection: %s", error)
                await asyncio.sleep(0.05)
                continue
            if len(self._tasks) - 1 + len(broker.links) >= broker.limits.connections:  # one task is this one
                broker.note("full", "refused a connection: %s are open", broker.limits.connections)
                connection.close()
                continue
            self._spawn(self._welcome(connection, tls))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _welcome(self, connection: socket.socket, tls: ssl.SSLContext) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Link(self._broker),
                connection,
                ssl=tls,
                ssl_handshake_timeout=self._broker.limits.connect_seconds,
                ssl_shutdown_timeout=1.0,
            )
        except OSError as error:
            self._broker.note("handshake", "refused a connection in its TLS handshake: %r", error)
            connection.close()
