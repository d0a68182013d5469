"""A TCP proxy in this process that can become a bad network: cut, swallow everything, refuse."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class TcpProxy:
    """Pass connections on to a port of the loopback; what happens to them is changed while they last."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = socket.socketpair()
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._lock = threading.RLock()
        self._swallows = False
        self._ends = False
        self._listener: socket.socket | None = None
        self.port = 0
        self._thread = threading.Thread(target=self._serve, name="tcp-proxy", daemon=True)

    def start(self) -> None:
        """Listen, and pass on what comes."""
        self.accept_connections()
        self._thread.start()

    def stop(self) -> None:
        """End everything."""
        self._ends = True
        self._wake()
        self._thread.join(10)
        self.cut()
        self.refuse()
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def accept_connections(self) -> None:
        """Listen at the port again after `refuse`."""
        with self._lock:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listener.getsockname()[1]
            self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake()

    def refuse(self) -> None:
        """Refuse new connections; those that there are stay."""
        with self._lock:
            if self._listener is not None:
                self._selector.unregister(self._listener)
                self._listener.close()
                self._listener = None

    def blackhole(self, on: bool = True) -> None:
        """Accept connections and bytes, but pass nothing on."""
        self._swallows = on
        self._wake()

    def cut(self) -> None:
        """Reset every connection, as a router that has forgotten them does."""
        with self._lock:
            for each in list(self._peers):
                with suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._close(each)

    @property
    def connections(self) -> int:
        """Return how many connections go through it."""
        return len(self._peers) // 2

    def _wake(self) -> None:
        self._wake_in.send(b".")

    def _serve(self) -> None:
        while not self._ends:
            ready = self._selector.select(1.0)
            with self._lock:
                for key, _ in ready:
                    self._handle(key.fileobj)

    def _handle(self, ready: object) -> None:
        if ready is self._wake_out:
            self._wake_out.recv(4096)
        elif ready is self._listener and self._listener is not None:
            self._connect(self._listener.accept()[0])
        elif isinstance(ready, socket.socket) and ready in self._peers:
            self._pass_on(ready)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream), timeout=5)
        except OSError:
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        try:
            chunk = source.recv(65536)
            if chunk and not self._swallows:
                self._peers[source].sendall(chunk)
        except OSError:
            chunk = b""
        if not chunk:
            self._close(source)

    def _close(self, one: socket.socket) -> None:
        for each in (one, self._peers.get(one)):
            if each is not None and self._peers.pop(each, None) is not None:
                self._selector.unregister(each)
                each.close()


@contextmanager
def running_proxy(upstream: int) -> Iterator[TcpProxy]:
    """Run a proxy to a port of the loopback for the block."""
    proxy = TcpProxy(upstream)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
