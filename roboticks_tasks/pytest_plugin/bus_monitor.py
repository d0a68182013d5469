"""Who listens on the bus: a thread that stamps each message when it comes, and keeps so many of them."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from typing import Any, NamedTuple

import zmq

from roboticks_tasks.errors import TargetError
from roboticks_tasks.waiting import Deadline

MOST = 50_000
"""Messages that are kept; older ones are lost, and counted."""

MOST_BYTES = 64 * 1024 * 1024
"""Likewise, of their bodies as they came."""

LARGEST = 16 * 1024 * 1024
"""Bytes of one message; whoever sends a larger one is hung up on."""

BURST = 1000
"""Messages that are taken at once."""

CONNECTED = 5.0
"""Seconds that the publisher is waited for at first."""


class Message(NamedTuple):
    """A message of a module; `at` is when it came here, in monotonic seconds, `number` counts those of all topics."""

    topic: str
    body: dict[str, Any]
    at: float
    number: int


class Monitor:
    """The messages of `endpoint` from now on: two frames each, the topic and a JSON object (the format is our choice).

    `lost` and `malformed` count messages: those that were too many, and those of another format. TargetError when
    nobody publishes there: a bus that is not reached would be silent, too.
    """

    def __init__(self, endpoint: str) -> None:
        self.count = self.lost = self.malformed = 0
        self._kept: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._wake, self._end = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        self._end.bind("inproc://end")
        self._wake.connect("inproc://end")
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 10_000)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        try:
            self._connect(endpoint)
        except BaseException:
            self._close()
            raise
        self._thread = threading.Thread(target=self._work, name="bus", daemon=True)
        self._thread.start()

    def since(self, number: int) -> tuple[list[Message], int]:
        """Return the messages that are kept from `number` on, and the number that the next one will have."""
        with self._changed:
            found = []
            for message, _ in reversed(self._kept):
                if message.number < number:
                    break
                found.append(message)
            return found[::-1], self.count

    def wait(self, number: int, deadline: Deadline) -> bool:
        """Wait until the message of this number has come; False when `deadline` is over."""
        with self._changed:
            # Asked first: in a flood there is always one more.
            return not deadline.expired and self._changed.wait_for(lambda: self.count > number, deadline.remaining)

    def clear(self) -> None:
        """Forget what is kept."""
        with self._changed:
            self._kept.clear()
            self._bytes = 0

    def close(self) -> None:
        """Listen no more."""
        self._wake.send(b"")
        self._thread.join()
        self._close()

    def _close(self) -> None:
        for each in (self._socket, self._wake, self._end):
            each.close(0)
        self._context.term()

    def _connect(self, endpoint: str) -> None:
        """Connect, and wait for the publisher: what it says before it knows us is not heard."""
        watcher = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        try:
            self._socket.connect(endpoint)
            if not watcher.poll(round(CONNECTED * 1000)):
                raise TargetError(
                    f"the device's message bus at {endpoint} is unreachable: no answer within {CONNECTED:g} s",
                    remedy="see device-manager.log",
                )
        finally:
            self._socket.disable_monitor()
            watcher.close(0)

    def _work(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._end, zmq.POLLIN)
        while self._end not in dict(poller.poll()):
            for _ in range(BURST):  # a flood must not keep us from ending
                if not self._socket.poll(0):
                    break
                self._take(self._socket.recv_multipart(), time.monotonic())

    def _take(self, frames: list[bytes], at: float) -> None:
        try:
            name, content = frames
            topic, body = name.decode(), json.loads(content)
            if not isinstance(body, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError):
            self.malformed += 1
            return
        with self._changed:
            self._kept.append((Message(topic, body, at, self.count), len(content)))
            self.count += 1
            self._bytes += len(content)
            while len(self._kept) > MOST or (self._bytes > MOST_BYTES and len(self._kept) > 1):
                self._bytes -= self._kept.popleft()[1]
                self.lost += 1
            self._changed.notify_all()
