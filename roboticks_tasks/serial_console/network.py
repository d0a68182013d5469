"""Ports behind a console server: raw bytes over TCP, RFC 2217, and what else pyserial knows by a URL."""

from __future__ import annotations

import select
import socket
from contextlib import suppress

from roboticks_tasks.serial_console import library, reasons, registration
from roboticks_tasks.serial_console.channel import Port, watch
from roboticks_tasks.serial_console.reasons import Console

CONNECT_TIMEOUT = 5.0
REFUSAL_TIMEOUT = 0.1
"""Seconds that a console server has to hang up after it has let us in."""


def open_network(console: Console) -> Port:
    """Open a port that has a URL, for this process alone among those of its user."""
    address = _address(console)
    # A network server may serve several clients and mix up what they send: the owner is settled here.
    path = registration.file_of(console.port, ".port")
    lock = registration.try_lock(path)
    if lock is None:
        raise reasons.busy(console, path=str(path))
    try:
        port = _open_socket(console, address) if reasons.scheme(console) == "socket" else _open_other(console)
    except BaseException:
        lock.close()
        raise

    def close() -> None:
        try:
            port.close()
        finally:
            lock.close()

    return Port(port.fileno(), close, reason=port.reason)


def _open_socket(console: Console, address: tuple[str, int]) -> Port:
    try:
        connection = socket.create_connection(address, CONNECT_TIMEOUT)
    except OSError as error:
        raise reasons.explain(console, error) from error
    # A server that cannot give the port says so and hangs up; one that can has nothing to announce.
    poller = select.poll()
    poller.register(connection, select.POLLRDHUP)
    if poller.poll(REFUSAL_TIMEOUT * 1000):
        said = b""
        with connection, suppress(OSError):
            connection.settimeout(1.0)
            said = connection.recv(4096)
        raise reasons.refused(console, said)
    connection.setblocking(False)
    watch(connection)
    return Port(connection.fileno(), connection.close, reason=lambda: "the server closed the connection")


def _open_other(console: Console) -> Port:
    handle = library.closed_port(console)
    try:
        handle.open()
    except (OSError, ValueError) as error:
        if said := handle.left() if hasattr(handle, "left") else b"":
            raise reasons.refused(console, said) from error
        raise reasons.explain(console, error) from error
    running = library.Pump(handle)
    return Port(running.ours.fileno(), running.close, reason=running.reason)


def _address(console: Console) -> tuple[str, int]:
    """Return host and port of a console server; pyserial's other schemes have none, and get ("", 0)."""
    from urllib.parse import urlsplit

    if reasons.scheme(console) not in {"socket", "rfc2217"}:
        return "", 0
    try:
        parts = urlsplit(console.port)
        if not parts.hostname or parts.port is None:
            raise ValueError("host or port is missing")
    except ValueError as error:
        raise reasons.bad_address(console, error) from error
    return parts.hostname, parts.port
