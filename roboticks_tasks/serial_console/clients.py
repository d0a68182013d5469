"""The clients of a capture: each is sent what comes out of the port, and may send what is to go into it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

BEHIND_LIMIT = 4 * 1024 * 1024
"""Bytes that a client may be behind; one that does not read is dropped, it must not stop the capture."""


class Client:
    """A connection, what it has not been sent yet, and what it is watched for."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.behind = bytearray()
        self.events = 0


class Clients:
    """The Unix socket of a capture and all who are connected to it."""

    def __init__(self, path: Path, selector: BaseSelector) -> None:
        self._path = path
        self._selector = selector
        self._clients: set[Client] = set()
        self._may_send = True
        self._listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)  # of one that was killed: the port is ours, so it is no more
        mask = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(mask)
        self._listener.listen()
        self._listener.setblocking(False)
        selector.register(self._listener, EVENT_READ, self)

    def accept(self, *, connected: bool) -> None:
        """Let in all who wait; without a port (`connected`) they are turned away at once."""
        with suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                if not connected:
                    connection.close()
                    continue
                connection.setblocking(False)
                client = Client(connection)
                self._clients.add(client)
                self._watch(client)

    def send(self, data: bytes) -> None:
        """Send what came out of the port to everyone, and drop who is too far behind."""
        for client in list(self._clients):
            client.behind += data
            self._flush(client)
            if len(client.behind) > BEHIND_LIMIT:
                self._drop(client)

    def serve(self, client: Client, events: int) -> bytes:
        """Do what a client is ready for; return what it sends to the port."""
        if events & EVENT_WRITE:
            self._flush(client)
        if not events & EVENT_READ or client not in self._clients:
            return b""
        try:
            data = client.connection.recv(65536)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._drop(client)
        return data

    def let_send(self, allowed: bool) -> None:
        """Stop reading from the clients while the port is full, and go on when it is not."""
        if allowed != self._may_send:
            self._may_send = allowed
            for client in self._clients:
                self._watch(client)

    def drop_all(self) -> None:
        """Close every connection: the port is lost, and who waits for an answer must know."""
        for client in list(self._clients):
            self._flush(client)
            self._drop(client)

    def close(self) -> None:
        """Close everything and remove the socket."""
        self._path.unlink(missing_ok=True)
        self.drop_all()
        self._selector.unregister(self._listener)
        self._listener.close()

    def _flush(self, client: Client) -> None:
        try:
            if client.behind:
                del client.behind[: client.connection.send(client.behind)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        self._watch(client)

    def _watch(self, client: Client) -> None:
        events = (EVENT_READ if self._may_send else 0) | (EVENT_WRITE if client.behind else 0)
        if events == client.events:
            return
        if not client.events:
            self._selector.register(client.connection, events, client)
        elif not events:
            self._selector.unregister(client.connection)
        else:
            self._selector.modify(client.connection, events, client)
        client.events = events

    def _drop(self, client: Client) -> None:
        if client in self._clients:
            self._clients.discard(client)
            if client.events:
                self._selector.unregister(client.connection)
            client.behind.clear()
            client.connection.close()
