"""How a module talks on the device manager's bus. Copy it: a composition brings all it needs but its libraries."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import zmq

READY = "/roboticks/module/ready"


class ModuleBus:
    """The bus as one module sees it: publish to all, receive the topics it asked for."""

    def __init__(self, *topics: str) -> None:
        """Connect, and wait until messages pass in both directions: what is published from now on is heard."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        # An XPUB is a PUB that hears of its subscribers: a PUB would drop what it sends before it knows one.
        self._out = context.socket(zmq.XPUB)
        self._out.connect(os.environ["ROBOTICKS_BUS_PUBLISH"])
        self._in = context.socket(zmq.SUB)
        for topic in (READY, *topics):
            self._in.subscribe(topic)
        self._in.connect(os.environ["ROBOTICKS_BUS_SUBSCRIBE"])
        self._sequences: dict[str, int] = {}
        self._out.recv()
        self._hear_myself()
        self._in.unsubscribe(READY)

    def say_ready(self) -> None:
        """Tell the device manager that this module does its work from now on."""
        self.publish(READY)

    def publish(self, topic: str, **payload: object) -> int:
        """Publish a message and return its sequence number, which counts from 1 for each topic."""
        sequence = self._sequences[topic] = self._sequences.get(topic, 0) + 1
        message = {
            "sequence": sequence,
            "module": os.environ["ROBOTICKS_MODULE"],
            "composition": os.environ["ROBOTICKS_COMPOSITION"],
            "mode": os.environ["ROBOTICKS_COMPOSITION_MODE"],
            "timestamp_us": time.time_ns() // 1000,
            **payload,
        }
        self._out.send_multipart([topic.encode(), json.dumps(message).encode()])
        return sequence

    def messages(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each message of the topics asked for, as (topic, message); never ends."""
        while True:
            topic, payload = self._in.recv_multipart()
            if topic.decode() != READY:
                yield topic.decode(), json.loads(payload)

    def _hear_myself(self) -> None:
        """Send probes until one comes back: only then is the subscription known on the other side."""
        probe = os.urandom(16)
        while True:
            self._out.send_multipart([READY.encode(), probe])
            while self._in.poll(2):
                if self._in.recv_multipart()[1] == probe:
                    return
