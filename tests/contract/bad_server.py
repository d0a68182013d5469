"""A server that takes connections and does with each what a test says: nothing, half, too much, or without end."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Behave = Callable[[socket.socket, threading.Event], None]
"""What becomes of a connection once its request has come; the event is set when the test is over."""

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@dataclass
class BadServer:
    """Where it is, what it does, with which certificate, and how many requests have come."""

    port: int
    behave: Behave
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    ends: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Its address, by a name for which certificates are made."""
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        """Read one request and misbehave."""
        with suppress(OSError), connection:
            connection.settimeout(20)
            secure = self.tls.wrap_socket(connection, server_side=True) if self.tls else connection
            with secure:
                request = b""
                while b"\r\n\r\n" not in request:
                    chunk = secure.recv(65536)
                    if not chunk:
                        return
                    request += chunk
                head, _, body = request.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                # Whoever closes with bytes unread resets the connection, and the answer is lost.
                while length and len(body) < int(length[1]) and (chunk := secure.recv(65536)):
                    body += chunk
                self.requests.append(request)
                self.behave(secure, self.ends)


@contextmanager
def misbehaving(behave: Behave, *, tls: ssl.SSLContext | None = None) -> Iterator[BadServer]:
    """Run such a server for the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = BadServer(listener.getsockname()[1], behave, tls)
        threads: list[threading.Thread] = []

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                if server.ends.is_set():
                    connection.close()
                    return
                threads.append(threading.Thread(target=server.serve, args=[connection], daemon=True))
                threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield server
        finally:
            server.ends.set()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", server.port)).close()
            for thread in (accepting, *threads):
                thread.join(5)


def answering(data: bytes) -> Behave:
    """Send `data` and hang up."""
    return lambda connection, _: connection.sendall(data)


def answer(status: str, body: bytes = b"{}", *headers: str) -> Behave:
    """Send a whole answer."""
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""])
    return answering(head.encode() + body)


def hanging(data: bytes = b"") -> Behave:
    """Send `data` and then nothing, with the connection open."""

    def behave(connection: socket.socket, ends: threading.Event) -> None:
        connection.sendall(data)
        ends.wait(20)

    return behave


def dripping(data: bytes) -> Behave:
    """Send `data`, and then a byte now and then: often enough for every limit of a single read."""

    def behave(connection: socket.socket, ends: threading.Event) -> None:
        connection.sendall(data)
        while not ends.wait(0.02):
            connection.sendall(b" ")

    return behave


def flooding(data: bytes) -> Behave:
    """Send `data`, and then as much as is taken, up to a thousand million bytes."""

    def behave(connection: socket.socket, ends: threading.Event) -> None:
        connection.sendall(data)
        for _ in range(1000):
            if ends.is_set():
                return
            connection.sendall(b" " * 1_000_000)

    return behave
