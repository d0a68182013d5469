"""What a client has of a console: bytes as they come, bytes to send. One client of a port writes at a time."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from roboticks_tasks.errors import TargetError
from roboticks_tasks.serial_console import registration
from roboticks_tasks.serial_console.channel import Port
from roboticks_tasks.serial_console.holders import holders
from roboticks_tasks.serial_console.port import open_port

if TYPE_CHECKING:
    from roboticks_tasks.models import Capture
    from roboticks_tasks.profiles.values import Console

WRITER_TIMEOUT = 10.0
"""Seconds to wait for another client of the same port; commands on a console are short."""

WRITE_TIMEOUT = 30.0
"""Seconds in which a console takes no byte until it counts as dead."""

LOST = "--- console lost: "
"""How a capture notes in its log that it has lost the port."""


class Line(Protocol):
    """A console, as a client has it; TargetError when it is lost."""

    def read(self, timeout: float) -> bytes:
        """Return what came, at most 64 KiB, as soon as something is there; b"" after `timeout` seconds."""

    def write(self, data: bytes) -> None:
        """Send all of `data`."""


@contextmanager
def open_line(console: Console, *, wait: float = WRITER_TIMEOUT) -> Iterator[Line]:
    """Open the console for the block: through the capture that owns the port, or the port itself.

    `wait`: seconds for another client to be done. TargetError when it is not, or the capture does not answer; the
    errors of `open_port` when there is no capture.
    """
    capture = registration.find_capture(console.port)
    path = registration.file_of(console.port if capture is None else capture.port, ".line")
    with registration.locked(path, seconds=wait) as held, ExitStack() as stack:
        if not held:
            who = " and ".join(holders(str(path))) or "another process"
            raise TargetError(
                f"the console {console.port} is in use: {who} writes to it", remedy="wait until it is done"
            )
        port = open_port(console) if capture is None else _connect(capture)
        stack.callback(port.close)
        yield _PortLine(port, console.port)


class _PortLine:
    """A `Line` on an open port."""

    def __init__(self, port: Port, name: str) -> None:
        self._port = port
        self._name = name

    def read(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        poller = select.poll()
        poller.register(self._port, select.POLLIN)
        try:
            while True:
                remaining = deadline - time.monotonic()
                ready = poller.poll(max(0.0, remaining) * 1000)
                if data := self._port.read() if ready else b"":
                    return data
                if remaining <= 0:
                    return b""
        except OSError as error:
            raise self._lost(error) from error

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        poller = select.poll()
        poller.register(self._port, select.POLLOUT)
        try:
            while rest:
                if not poller.poll(WRITE_TIMEOUT * 1000):
                    raise TargetError(
                        f"the console {self._name} takes no bytes: {len(rest)} of {len(data)} are left",
                        remedy="turn its flow control off, or connect RTS and CTS",
                    )
                rest = rest[self._port.write(rest) :]
        except OSError as error:
            raise self._lost(error) from error

    def _lost(self, error: OSError) -> TargetError:
        return TargetError(
            f"the console {self._name} is lost: {error.strerror or error}",
            remedy="see the end of console.log, check the adapter and its cable, and run again",
        )


def _connect(capture: Capture) -> Port:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(capture.socket)
    except OSError as error:
        connection.close()
        raise TargetError(
            f"the capture of the console {capture.port} (pid {capture.process.pid}) does not answer: {error.strerror}",
            remedy=f"`kill {capture.process.pid}`, and run again",
        ) from error
    connection.setblocking(False)
    return Port(connection.fileno(), connection.close, reason=lambda: _what_happened(capture))


def _what_happened(capture: Capture) -> str:
    """Return why a capture has closed a client's connection; the log's last marker tells when the port was lost."""
    if not registration.is_capturing(capture):
        return f"its capture (pid {capture.process.pid}) has ended"
    with Path(capture.log).open("rb") as log:
        log.seek(max(0, log.seek(0, 2) - 4096))
        for line in reversed(log.read().decode("utf-8", "replace").splitlines()):
            text = line.split(" ", 2)[-1]
            if text.startswith(LOST):
                return text.removeprefix(LOST)
    return f"its capture (pid {capture.process.pid}) closed the connection; a client must read what it is sent"
