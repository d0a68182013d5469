"""Listening ports: the one that was asked for, else the one of the last start, else any free one."""

from __future__ import annotations

import asyncio
import errno
import socket

HOST = "127.0.0.1"
ATTEMPTS = 10
PAUSE_SECONDS = 0.01


class PortInUseError(Exception):
    """A port that was asked for is taken."""


def bind(port: int) -> socket.socket:
    """Return a listening socket on `port`, 0 for any free one; raise OSError."""
    # With IPPROTO_TCP spelt out asyncio sets TCP_NODELAY; without it every HTTP answer takes 40 ms more.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


async def claim(purpose: str, *, wanted: int, last: int) -> socket.socket:
    """Return a socket on `wanted`; when that is 0 on `last` or any free port. Raises PortInUseError and OSError."""
    if wanted:
        try:
            return bind(wanted)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortInUseError(f"{purpose} port {wanted} is in use: choose another, or 0 for any free one") from error
    for _ in range(ATTEMPTS if last else 0):
        try:
            return bind(last)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # After a kill the broker of the platform before us may need a moment to die.
            await asyncio.sleep(PAUSE_SECONDS)
    return bind(0)
