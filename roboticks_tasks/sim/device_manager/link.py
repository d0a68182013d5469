"""The link to the platform: kept up for ever, and what must arrive is sent again until the broker has it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from roboticks_tasks.sim.device_manager.connection import Connection, LinkError

if TYPE_CHECKING:
    from roboticks_tasks.sim.device_manager.credentials import Credentials
    from roboticks_tasks.sim.device_manager.journal import Journal
    from roboticks_tasks.sim.device_manager.registration import Registration

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0
REFUSALS_BEFORE_RENEWAL = 3
"""After so many refusals in a row the certificate is taken for unusable (expired, or of another authority)."""

Topic = Callable[[str], str]
"""A function of `topics`: which device it is for is known only when the message is sent."""


class Link:
    """One device's link; messages of QoS 1 stay in the outbox until they are acknowledged."""

    def __init__(
        self,
        credentials: Credentials,
        journal: Journal,
        *,
        on_message: Callable[[str, Any], None],
        on_status: Callable[[bool, str], None],
    ) -> None:
        """`on_message(topic, document)`; `on_status(online, reason)` at each change and failed attempt."""
        self._credentials = credentials
        self._journal = journal
        self._on_message = on_message
        self._on_status = on_status
        self._outbox: dict[int, tuple[Topic, bytes, asyncio.Future[None]]] = {}
        self._sent: dict[int, int] = {}
        self._numbers = itertools.count()
        self._connection: Connection | None = None
        self.dsn = ""

    @property
    def online(self) -> bool:
        """Tell whether messages can be sent now."""
        return self._connection is not None and not self._connection.lost.done()

    async def run(self, registration: Registration, renew: Callable[[bool], Awaitable[Registration]]) -> None:
        """Stay connected until cancelled; `renew(forget)` says again where the broker is, or registers afresh."""
        pause, refusals = FIRST_PAUSE, 0
        while True:
            try:
                reason = await self._connected(registration)
                pause, refusals = FIRST_PAUSE, 0
            except LinkError as error:
                reason = str(error)
                refusals = refusals + 1 if error.refused else 0
            self._on_status(False, reason)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            registration = await renew(refusals >= REFUSALS_BEFORE_RENEWAL)
            refusals %= REFUSALS_BEFORE_RENEWAL

    def publish(self, topic: Topic, document: object) -> asyncio.Future[None]:
        """Send a message that must arrive (QoS 1) and return a future that is done once the broker has it."""
        number, payload = next(self._numbers), encoded(document)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbox[number] = (topic, payload, done)
        self._send(number)
        return done

    def tell(self, topic: Topic, document: object) -> None:
        """Send a message that may be lost (QoS 0): only when online."""
        if self._connection is not None and self.online:
            self._connection.publish(topic(self.dsn), json.dumps(document).encode(), qos=0)

    def drop(self, reason: str) -> None:
        """Give the connection up, for one with the registration that is asked for next."""
        if self._connection is not None:
            self._connection.lose(reason)

    def say_goodbye(self) -> None:
        """End the connection as a device that goes, not as one that was lost."""
        if self._connection is not None:
            self._connection.say_goodbye()

    async def _connected(self, registration: Registration) -> str:
        """Connect, and return the reason once the connection is lost."""
        connection = Connection(
            registration, self._credentials, on_message=self._received, on_acknowledged=self._acknowledged
        )
        try:
            await connection.open()
            if connection.denied:
                self._journal.error("link", f"the broker refused subscriptions: {', '.join(connection.denied)}")
            self.dsn, self._connection = registration.dsn, connection
            for number in list(self._outbox):
                self._send(number)
            self._on_status(True, "")
            return f"connection lost: {await connection.lost}"
        finally:
            self._connection = None
            self._sent.clear()
            connection.close()

    def _send(self, number: int) -> None:
        if self._connection is not None and self.online:
            topic, payload, _done = self._outbox[number]
            self._sent[self._connection.publish(topic(self.dsn), payload, qos=1)] = number

    def _acknowledged(self, mid: int) -> None:
        number = self._sent.pop(mid, None)
        entry = self._outbox.pop(number, None) if number is not None else None
        if entry is not None and not entry[2].done():
            entry[2].set_result(None)

    def _received(self, topic: str, payload: bytes) -> None:
        try:
            document = json.loads(payload)
        except ValueError:
            self._journal.warning("link", f"dropped a message on {topic} that is not JSON")
            return
        self._on_message(topic, document)


def encoded(document: object) -> bytes:
    """Return the bytes of a message of QoS 1."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
