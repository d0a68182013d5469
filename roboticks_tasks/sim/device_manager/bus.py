"""The bus between modules and tests: a ZeroMQ proxy that the device manager listens in on.

Modules publish into an XSUB socket, everybody subscribes to an XPUB socket on port 5556 (documented as the device
manager's publisher). A message is two frames, the topic and a JSON object; the format is our choice: not documented.
"""

from __future__ import annotations

import asyncio
import errno
import json
from typing import TYPE_CHECKING, Any

import zmq

from roboticks_tasks.sim.device_manager import endings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

READY = "/roboticks/module/ready"
SESSION_CONTROL = "/roboticks/session/control"
"""The documented topic on which a module starts and stops sessions."""

HOST = "tcp://127.0.0.1"
PORT = 5556
"""The port the documentation's picture gives to the device manager's ZeroMQ publisher."""

HIGH_WATER_MARK = 10_000
BURST = 500
"""Messages forwarded before the event loop gets its turn."""


class Bus:
    """An open proxy; `publish` is where modules send to, `subscribe` where all receive from."""

    def __init__(self, port: int | None, listeners: Mapping[str, Callable[[dict[str, Any]], None]]) -> None:
        """Bind to `port` (0: any free one) and call the listener of a topic for each message.

        None is the documented port, or any free one when that is taken. Errors: Ending when a port that was asked for
        cannot be had: whoever set it relies on it.
        """
        self._listeners = {topic.encode(): listener for topic, listener in listeners.items()}
        self._context = zmq.Context()
        self._in = self._context.socket(zmq.XSUB)
        self._out = self._context.socket(zmq.XPUB)
        for side in (self._in, self._out):
            side.setsockopt(zmq.LINGER, 0)
            side.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
            side.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        self._in.bind(f"{HOST}:*")
        self._bind(port)
        self.publish = _address(self._in)
        self.subscribe = _address(self._out)
        # Everything comes in, whoever listens: the device manager itself is a listener. XPUB filters on the way out.
        self._in.send(b"\x01")
        loop = asyncio.get_running_loop()
        self._descriptors = (self._in.fileno(), self._out.fileno())
        for descriptor in self._descriptors:
            loop.add_reader(descriptor, self._forward)
        self._forward()

    def close(self) -> None:
        """Close the sockets; what is still queued is dropped."""
        loop = asyncio.get_running_loop()
        for descriptor in self._descriptors:
            loop.remove_reader(descriptor)
        self._in.close()
        self._out.close()
        self._context.term()

    def _bind(self, port: int | None) -> None:
        wanted = PORT if port is None else port
        try:
            self._out.bind(f"{HOST}:{wanted or '*'}")
        except zmq.ZMQError as error:
            if port is None and error.errno == errno.EADDRINUSE:
                self._out.bind(f"{HOST}:*")
                return
            self._context.destroy()
            sentence = f"the bus cannot have {HOST}:{wanted}: {zmq.strerror(error.errno or 0)}"
            raise endings.Ending(sentence, code="bus-port", exit_code=endings.BAD_CONFIGURATION) from error

    def _forward(self) -> None:
        """Forward what is there; ZeroMQ's descriptor reports changes only, so both sockets are read until empty."""
        if self._in.closed:
            return
        try:
            while True:
                self._out.recv_multipart(zmq.NOBLOCK)  # subscriptions: nothing to do, but they pile up unread
        except zmq.Again:
            pass
        try:
            for _ in range(BURST):
                frames = self._in.recv_multipart(zmq.NOBLOCK)
                self._out.send_multipart(frames, zmq.NOBLOCK)
                listener = self._listeners.get(frames[0])
                if listener is not None and (document := _document(frames)) is not None:
                    listener(document)
        except zmq.Again:
            return
        asyncio.get_running_loop().call_soon(self._forward)


def _address(side: zmq.Socket[bytes]) -> str:
    endpoint = side.getsockopt(zmq.LAST_ENDPOINT)
    return endpoint.decode().rstrip("\0") if isinstance(endpoint, bytes) else str(endpoint)


def _document(frames: list[bytes]) -> dict[str, Any] | None:
    try:
        document = json.loads(frames[1])
    except (ValueError, IndexError):
        return None
    return document if isinstance(document, dict) else None
