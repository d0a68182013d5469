"""An open serial port, local or behind a server: bytes that are there, bytes that it takes, never a wait."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

CHUNK = 65536
HUNG_UP = "it hung up"
ENDED = {errno.EIO, errno.EPIPE, errno.ECONNRESET}


class Port:
    """A file descriptor for `poll`, and how to close what is behind it.

    One kind for all: a terminal, a socket of a console server, the socket of a capture.
    """

    def __init__(self, fd: int, close: Callable[[], None], *, reason: Callable[[], str] = lambda: HUNG_UP) -> None:
        self._fd = fd
        self._close = close
        self.reason = reason

    def fileno(self) -> int:
        """Return the descriptor that is readable when bytes are there, writable when the port takes some."""
        return self._fd

    def read(self) -> bytes:
        """Return what is there, at most 64 KiB, b"" when nothing is; OSError when the port is lost."""
        chunks: list[bytes] = []
        size = 0
        while size < CHUNK:  # a terminal gives 4 KiB at a time
            try:
                data = os.read(self._fd, CHUNK - size)
            except BlockingIOError:
                break
            except OSError as error:
                if not chunks:
                    raise self._lost(error) from error
                break  # it will be raised by the next call
            if not data:
                if not chunks:
                    raise self._lost(ConnectionResetError(errno.ECONNRESET, ""))
                break
            chunks.append(data)
            size += len(data)
        return b"".join(chunks)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Send what fits at this moment; return how many bytes that was; OSError when the port is lost."""
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._lost(error) from error

    def _lost(self, error: OSError) -> OSError:
        """Return the error with what is known of its reason; the kernel says no more than that nobody is there."""
        return OSError(error.errno, self.reason()) if error.errno in ENDED else error

    def close(self) -> None:
        """Close the port; a second time does nothing."""
        close, self._close = self._close, _nothing
        close()


def watch(connection: socket.socket) -> None:
    """Have the kernel notice within half a minute that a console server has lost its power or its network."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _nothing() -> None:
    pass
