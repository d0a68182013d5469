"""pyserial's client of RFC 2217 (serial ports over telnet), without what it does wrong when the server hangs up."""

from __future__ import annotations

import warnings
from contextlib import suppress

from serial import rfc2217  # type: ignore[import-untyped]  # pyserial ships no types

from roboticks_tasks.serial_console.channel import watch


class Client(rfc2217.Serial):  # type: ignore[misc]  # as above
    """A port that closes its socket, ends its thread in silence, and gives what it had received."""

    def open(self) -> None:
        """Connect and agree on the settings; OSError or ValueError when the server does not."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pyserial 3.5 uses Thread.setDaemon
            super().open()
        watch(self._socket)

    def close(self) -> None:
        """Disconnect; pyserial alone leaves the socket open when the server was first to."""
        connection = self._socket
        super().close()
        if connection is not None:
            connection.close()

    def left(self) -> bytes:
        """Return what was received and not read: once the connection is lost, `read` refuses to give it."""
        queue = self._read_buffer
        return b"" if queue is None else b"".join(queue.get(False) or b"" for _ in range(queue.qsize()))

    def _telnet_read_loop(self) -> None:
        with suppress(OSError):  # it answers a server that may have hung up
            super()._telnet_read_loop()
