"""The monitor of the device manager's message bus (documented: a ZeroMQ publisher, port 5556)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from roboticks_tasks.waiting import Deadline

if TYPE_CHECKING:
    import zmq


class Bus:
    """Messages of modules: two frames each, the topic and a JSON object (the format is our choice)."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._seen: list[tuple[str, dict[str, Any]]] = []

    def collect(self, topic: str, count: int, timeout: float = 5.0) -> list[dict[str, Any]]:
        """Return the first `count` messages of `topic`, in order; AssertionError when they do not come in time."""
        deadline = Deadline(timeout)
        while len(found := [message for name, message in self._seen if name == topic]) < count:
            if not self._socket.poll(max(1, round(deadline.remaining * 1000))) or deadline.expired:
                others = sorted({name for name, _ in self._seen})
                raise AssertionError(
                    f"{len(found)} of {count} messages on {topic} within {timeout:g} s; other topics: {others}"
                )
            name, body = self._socket.recv_multipart()
            self._seen.append((name.decode(), json.loads(body)))
        return found[:count]


@contextmanager
def open_bus(endpoint: str) -> Iterator[Bus]:
    """Subscribe to everything on `endpoint` for the block."""
    import zmq

    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, 100_000)
        socket.setsockopt_string(zmq.SUBSCRIBE, "")
        socket.connect(endpoint)
        yield Bus(socket)
    finally:
        socket.close()
        context.term()
