"""The link to the platform: kept up for ever, and what must arrive is sent again until the platform has answered.

That the broker has taken a message is not enough: both brokers keep what they have in memory only.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from roboticks_tasks.sim.device_manager.connection import Connection, LinkError

if TYPE_CHECKING:
    from roboticks_tasks.sim.device_manager.credentials import Credentials
    from roboticks_tasks.sim.device_manager.journal import Journal
    from roboticks_tasks.sim.device_manager.registration import Registration

RESEND = 2.0
"""Seconds after which a message that the broker has, but the platform has not answered, is sent again."""

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0
REFUSALS_BEFORE_RENEWAL = 3
"""After so many refusals in a row the certificate is taken for unusable (expired, or of another authority)."""

Topic = Callable[[str], str]
"""A function of `topics`: which device it is for is known only when the message is sent."""


class Link:
    """One device's link; messages of QoS 1 stay in the outbox until they are answered."""

    def __init__(
        self,
        credentials: Credentials,
        journal: Journal,
        *,
        keepalive: int,
        on_message: Callable[[str, Any], None],
        on_status: Callable[[bool, str], None],
    ) -> None:
        """`on_message(topic, document)`; `on_status(online, reason)` at each change and failed attempt."""
        self._credentials = credentials
        self._journal = journal
        self._keepalive = keepalive
        self._on_message = on_message
        self._on_status = on_status
        self._outbox: dict[int, tuple[Topic, bytes]] = {}
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
            # Not all devices of a platform that comes back at the same moment.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret
            pause = min(2 * pause, LONGEST_PAUSE)
            registration = await renew(refusals >= REFUSALS_BEFORE_RENEWAL)
            refusals %= REFUSALS_BEFORE_RENEWAL

    def publish(self, topic: Topic, document: object) -> asyncio.Future[dict[str, Any]]:
        """Send a message that must arrive (QoS 1) until the returned future is done: whoever gets its answer sets it.

        It goes out with every new connection, and again when the platform takes long to answer, so the platform must
        be able to tell that it has it already.
        """
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: self._outbox.pop(number, None))
        self._outbox[number] = (topic, encoded(document))
        self._send(number)
        return answer

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
            registration,
            self._credentials,
            keepalive=self._keepalive,
            on_message=self._received,
            on_acknowledged=self._acknowledged,
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
        if self._connection is not None and self.online and number in self._outbox:
            topic, payload = self._outbox[number]
            self._sent[self._connection.publish(topic(self.dsn), payload, qos=1)] = number

    def _acknowledged(self, mid: int) -> None:
        number = self._sent.pop(mid, None)
        if number is not None and number in self._outbox:
            asyncio.get_running_loop().call_later(RESEND, self._send_again, number, self._connection)

    def _send_again(self, number: int, connection: Connection | None) -> None:
        if connection is self._connection:  # a new connection has sent everything by itself
            self._send(number)

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
