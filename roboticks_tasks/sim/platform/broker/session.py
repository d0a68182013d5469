"""What outlives a connection: a client's subscriptions and the messages it has still to get."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from roboticks_tasks.sim.platform.broker.limits import OVERHEAD, WINDOW
from roboticks_tasks.sim.platform.broker.packets import Message, encode_message


class Wire(Protocol):
    """What a session needs of its client's connection."""

    loop: asyncio.AbstractEventLoop
    writable: bool

    def send(self, data: bytes) -> None:
        """Write a packet."""

    def fail(self, reason: str, *, abort: bool = False) -> None:
        """End the connection for a fault of the client."""


@dataclass(eq=False, slots=True)
class Session:
    """What the broker keeps for a client: subscriptions, messages to come, messages sent and not acknowledged.

    `received` holds the packet ids of QoS 2 publishes that are not released yet, `waiting` the bytes of all messages.
    """

    client_id: str
    clean: bool = True
    link: Wire | None = None
    filters: set[str] = field(default_factory=set)
    queue: deque[Message] = field(default_factory=deque)
    unacknowledged: dict[int, Message] = field(default_factory=dict)
    received: set[int] = field(default_factory=set)
    waiting: int = 0
    last_id: int = 0

    def offer(self, message: Message, limit: int) -> bool:
        """Send or queue a message; False when it was dropped because `limit` bytes are waiting already."""
        if self.link is None and not message.qos:
            return True
        size = len(message.payload) + OVERHEAD
        if self.waiting + size > limit:
            if message.qos and self.link is not None:
                self.drop_qos0()
            if not message.qos or self.waiting + size > limit:
                return False
        self.waiting += size
        self.queue.append(message)
        self.pump()
        return True

    def pump(self) -> None:
        """Write what is queued, as far as the connection and the window take it."""
        link, queue = self.link, self.queue
        while queue and link is not None and link.writable:
            message = queue[0]
            if message.qos:
                if len(self.unacknowledged) >= WINDOW:
                    return
                if not message.packet_id:
                    message = message._replace(packet_id=self._free_id())
                self.unacknowledged[message.packet_id] = message
            else:
                self.waiting -= len(message.payload) + OVERHEAD
            queue.popleft()
            link.send(encode_message(message))

    def acknowledge(self, packet_id: int) -> None:
        """Forget a delivered message and go on with the queue."""
        message = self.unacknowledged.pop(packet_id, None)
        if message is not None:
            self.waiting -= len(message.payload) + OVERHEAD
            self.pump()

    def suspend(self) -> None:
        """Get ready for the client's return: what it has not acknowledged comes first, in order, as duplicates."""
        self.link = None
        self.drop_qos0()
        self.queue.extendleft(message._replace(duplicate=True) for message in reversed(self.unacknowledged.values()))
        self.unacknowledged.clear()

    def drop_qos0(self) -> None:
        """Give up the queued messages that were promised to nobody."""
        kept = deque(message for message in self.queue if message.qos)
        if len(kept) < len(self.queue):
            self.waiting -= sum(len(message.payload) + OVERHEAD for message in self.queue if not message.qos)
            self.queue = kept

    def _free_id(self) -> int:
        self.last_id = self.last_id % 0xFFFF + 1
        while self.last_id in self.unacknowledged:
            self.last_id = self.last_id % 0xFFFF + 1
        return self.last_id
