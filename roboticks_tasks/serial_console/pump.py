"""Ports that pyserial alone can read, such as rfc2217://: two threads make a socket of them that `poll` understands."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

LOST = (OSError, TypeError, ValueError)
"""What pyserial raises when a port is lost or was closed under a reader; its own error is an OSError."""


class Pump:
    """A serial port whose bytes come and go through the socket `ours`."""

    def __init__(self, handle: Any) -> None:
        self.ours, self._theirs = socket.socketpair()
        self.ours.setblocking(False)
        self._handle = handle
        self._lost = ""
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._write)]
        for thread in self._threads:
            thread.start()

    def reason(self) -> str:
        """Return why no more bytes come."""
        return self._lost or "it was closed"

    def close(self) -> None:
        """Close the port and end both threads."""
        with suppress(OSError):
            self._theirs.shutdown(socket.SHUT_RDWR)
        with suppress(*LOST):
            self._handle.close()
        for thread in self._threads:
            thread.join(1.0)
        self.ours.close()
        self._theirs.close()

    def _read(self) -> None:
        try:
            while True:
                self._theirs.sendall(self._handle.read(self._handle.in_waiting or 1))
        except LOST as error:
            text = str(error)
            self._lost = "the server closed the connection" if "reader thread died" in text else text
            with suppress(*LOST):
                self._theirs.sendall(self._handle.left() if hasattr(self._handle, "left") else b"")
                self._theirs.shutdown(socket.SHUT_RDWR)

    def _write(self) -> None:
        with suppress(*LOST):
            while data := self._theirs.recv(4096):
                self._handle.write(data)


def start(handle: Any) -> Pump:
    """Start to pump the bytes of an open pyserial object."""
    return Pump(handle)


def watch(connection: socket.socket) -> None:
    """Have the kernel notice within half a minute that a console server has lost its power or its network."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
