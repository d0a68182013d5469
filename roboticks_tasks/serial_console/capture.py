"""The program that owns a serial port: it writes what comes out of it to a log, and serves clients on a socket.

Started by `captures.start_capture`; its only argument is JSON, and so is what it reads on standard input: the secrets
that must not reach the log. Standard error leads to whoever started it until the
port is open, so that it sees even an import that fails.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from types import FrameType
from typing import NamedTuple

from roboticks_tasks.errors import EXIT_BUG, ConfigError, RoboticksError
from roboticks_tasks.redaction import NOTHING, Redactor
from roboticks_tasks.serial_console import registration
from roboticks_tasks.serial_console.channel import Port
from roboticks_tasks.serial_console.clients import Client, Clients
from roboticks_tasks.serial_console.port import PASSING, link_of, may_come_back, open_port
from roboticks_tasks.serial_console.records import Records
from roboticks_tasks.serial_console.rotation import RotatingLog
from roboticks_tasks.serial_console.traffic import Traffic

SENDING_LIMIT = 65536
"""Bytes that wait for a full port; the clients are not read while there are more."""

FIRST_RETRY, LAST_RETRY = 0.2, 1.0
"""Seconds between two attempts to open a port that was lost."""

CHECK = 2.0
"""Seconds between two looks at the log: without its folder there is no reason to hold the port."""


class Settings(NamedTuple):
    """What a capture is told: a console, its log, the size of a part of it, how many old parts are kept."""

    port: str
    baudrate: int
    log: str
    size: int
    keep: int


class Capturing:
    """A port, its log and its clients, served by one loop that never waits for any of them."""

    def __init__(self, settings: Settings, redactor: Redactor = NOTHING) -> None:
        self._settings = settings
        self._port: Port | None = open_port(settings)
        self._link = link_of(settings.port)
        self._log = RotatingLog(Path(settings.log), size=settings.size, keep=settings.keep)
        self._records = Records()
        self._traffic = Traffic()
        self._redacted = redactor.stream()
        self._selector = DefaultSelector()
        self._sending = bytearray()
        self._ended = self._is_blocked = False
        self._retry, self._pause = 0.0, FIRST_RETRY
        path = registration.socket_of(settings.port)
        self._clients = Clients(path, self._selector)
        self._selector.register(self._port, EVENT_READ)
        # Before anybody knows that this process is here: the first signal must find the clean-up in place.
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._wake, EVENT_READ)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        self._registration = registration.file_of(settings.port, registration.SUFFIX)
        registration.register(self._registration, port=settings.port, log=settings.log, socket=str(path))

    def run(self) -> None:
        """Capture until a signal comes, or nothing is left to capture into."""
        check = time.monotonic() + CHECK
        while not self._ended:
            now = time.monotonic()
            if self._port is None and now >= self._retry:
                self._reopen()
            if now >= check:
                check = now + CHECK
                self._look_at_log()
            wait = min(check, self._retry if self._port is None else check) - now
            for key, events in self._selector.select(max(0.0, wait)):
                if isinstance(key.data, Client):
                    self._sending += self._clients.serve(key.data, events)
                elif key.data is self._clients:
                    self._clients.accept(connected=self._port is not None)
                elif key.fileobj is self._port:
                    self._receive()
            self._send()

    def note(self, text: str) -> None:
        """Write a record of our own."""
        self._tell_loss()
        self._log.write(self._rest() + self._records.note(text))

    def close(self) -> None:
        """Complete the log, and let go of everything; the names first, for a successor may wait for the port."""
        self._registration.unlink(missing_ok=True)
        self._clients.close()
        self._tell_loss()
        self._log.write(self._rest() + self._records.end())
        self._log.close()
        if self._port is not None:
            self._port.close()

    def _receive(self) -> None:
        assert self._port is not None
        self._clients.accept(connected=True)  # whoever connected before these bytes came gets them
        try:
            data = self._port.read()
        except OSError as error:
            self._lose(error)
            return
        if data:
            self._tell_loss()
            self._log.write(self._records.take(self._redacted.feed(self._traffic.take(data))))
            self._clients.send(data)

    def _send(self) -> None:
        """Give the port what it takes of what the clients have sent."""
        if self._port is None:
            self._sending.clear()  # must not arrive when the board is another one
            return
        try:
            if self._sending:
                del self._sending[: self._port.write(self._sending)]
        except OSError as error:
            self._lose(error)
            return
        self._selector.modify(self._port, EVENT_READ | (EVENT_WRITE if self._sending else 0))
        self._clients.let_send(len(self._sending) < SENDING_LIMIT)

    def _lose(self, error: OSError) -> None:
        assert self._port is not None
        self._selector.unregister(self._port)
        with suppress(OSError):
            self._port.close()
        self._port = None
        self._sending.clear()
        self.note(f"console lost: {error.strerror or error}")
        self._clients.drop_all()
        self._clients.let_send(True)
        self._pause = FIRST_RETRY
        self._retry = time.monotonic() + self._pause
        if self._link == PASSING:
            self.note("capture ended: a pseudo terminal does not come back")
            self._ended = True

    def _reopen(self) -> None:
        self._is_blocked = True  # a connection may take seconds: a signal ends it
        try:
            if may_come_back(self._settings.port, self._link):
                self._port = open_port(self._settings)
        except RoboticksError:
            pass  # not yet, whatever the reason
        finally:
            self._is_blocked = False
        if self._port is None:
            self._pause = min(LAST_RETRY, self._pause * 1.5)
            self._retry = time.monotonic() + self._pause
            return
        self._link = link_of(self._settings.port)
        self._selector.register(self._port, EVENT_READ)
        self.note("console back")

    def _rest(self) -> bytes:
        """Return what the filters have held back: nothing more comes, or something of our own comes in between."""
        return self._records.take(self._redacted.feed(self._traffic.end()) + self._redacted.close())

    def _tell_loss(self) -> None:
        """Write how much a full disk has lost, if there is room by now; what is said next begins a record."""
        if not self._log.lost:
            return
        lost, self._log.lost = self._log.lost, 0
        text = self._records.note(f"{lost} bytes lost: {self._log.problem}")
        note = text[:-1].rpartition(b"\n")[2]  # what completes a record is of one that was lost
        if not self._log.write((b"" if self._log.is_complete else b"\n") + note + b"\n"):
            self._log.lost = lost

    def _look_at_log(self) -> None:
        if self._log.is_removed():
            try:
                self._log.reopen()
                self._records.end()  # the line that is under way gets a time in the new file
            except OSError:
                self._ended = True
        self._tell_loss()

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ended = True
        if self._is_blocked:
            raise SystemExit


def _told() -> Redactor:
    """Read on standard input what is to be redacted, and leave nothing there for others to read."""
    told = json.load(sys.stdin.buffer)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return Redactor(told["secrets"], files=map(Path, told["files"]))


def main() -> int:
    """Capture; exit 0 after a signal, 1 when the port could not be opened, 70 for a bug, which the log names."""
    arguments = json.loads(sys.argv[1])
    ready = arguments.pop("ready")
    try:
        capturing = Capturing(Settings(**arguments), _told())
    except RoboticksError as error:
        answer = {"error": error.args[0], "remedy": error.remedy, "config": isinstance(error, ConfigError)}
        os.write(ready, json.dumps(answer).encode())
        return 1
    try:
        os.write(ready, b"{}")  # fails when whoever started it is no more: nobody would stop us
        os.close(ready)
        os.dup2(1, 2)
        capturing.run()
    except Exception as error:
        capturing.note(f"capture ended: {type(error).__name__}: {error}")
        return EXIT_BUG
    finally:
        capturing.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
