"""pyserial, loaded when a port needs it, and told not to touch the lines by which boards are reset.

Ports that it alone can read, such as rfc2217://, are pumped: two threads make a socket of them that `poll` understands.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.serial_console import reasons
from roboticks_tasks.serial_console.reasons import Console

LOST = (OSError, TypeError, ValueError)
"""What pyserial raises when a port is lost or was closed under a reader; its own error is an OSError."""


def closed_port(console: Console, *, exclusive: bool | None = None) -> Any:
    """Return pyserial's object for the port, not yet open."""
    try:
        import serial  # type: ignore[import-untyped]  # pyserial ships no types
    except ImportError as error:
        raise ConfigError(
            f"the console {console.port} needs pyserial, which is not installed",
            remedy="install `roboticks-tasks[serial]`",
        ) from error
    options = {"baudrate": console.baudrate, "timeout": 0.2, "exclusive": exclusive}
    try:
        if reasons.scheme(console) == "rfc2217":
            handle = _rfc2217(console.port, options)
        else:
            handle = serial.serial_for_url(console.port, do_not_open=True, **options)
        # The kernel raises both at open, and many boards reset by one of them: pyserial lowers them at once.
        handle.dtr = False
        handle.rts = False
    except (ValueError, OSError) as error:
        raise reasons.explain(console, error) from error
    return handle


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


def _rfc2217(url: str, options: dict[str, Any]) -> Any:
    from roboticks_tasks.serial_console.rfc2217 import Client

    handle = Client(None, **options)
    # A server whose port has no DTR and RTS (a pty, some adapters) never answers that it has set them.
    handle.port = url if "ign_set_control" in url else f"{url}{'&' if '?' in url else '?'}ign_set_control"
    return handle
