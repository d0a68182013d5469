"""The platform's MQTT client: what devices say goes to the store in batches, replies and commands go out.

paho's thread only puts messages into a queue; a task of the event loop takes all that wait and has the store's thread
apply them in one transaction.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sqlite3
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.platform import messages
from roboticks_tasks.sim.platform.throttle import Throttle

if TYPE_CHECKING:
    from roboticks_tasks.sim.platform.authority import Files
    from roboticks_tasks.sim.platform.store import Store

log = logging.getLogger(__name__)

BATCH = 1000
OVERHEAD_BYTES = 400
"""What a waiting message takes beside its payload: its topic, the objects around both, its place in the queue."""

QUEUE_BYTES = 64 * 1024 * 1024
"""Messages beyond this that the store has not taken yet are dropped: memory must stay bounded."""

STOP_SECONDS = 0.5
FENCE = f"{topics.ROOT}platform/fence"
"""The topic of a message of the platform to itself: when it comes back, all that was sent before it has come too."""
SUBSCRIPTIONS = (
    (topics.heartbeat("+"), 0),
    (topics.sessions("+"), 1),
    (topics.logs("+"), 1),
    (topics.file_upload_request("+"), 1),
    (FENCE, 1),
)


class Exchange:
    """The connected client; made by `start`."""

    def __init__(self, store: Store, *, connection_changed: Callable[[bool], None]) -> None:
        """Prepare for `store`; `connection_changed` is called in the event loop with what is true now."""
        self.subscribed = asyncio.Event()
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[messages.Message | None] = asyncio.Queue()
        self._waiting = 0
        self._throttle = Throttle(log)
        self._connection_changed = connection_changed
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=topics.PLATFORM_ID, clean_session=False, protocol=mqtt.MQTTv311
        )
        self._consumer = self._loop.create_task(self._consume())

    def connect(self, *, host: str, port: int, tls: ssl.SSLContext) -> None:
        """Start connecting; paho does it, and every reconnect, in a thread of its own."""
        client = self._client
        client.tls_set_context(tls)
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.reconnect_delay_set(min_delay=1, max_delay=1)
        client.connect_async(host, port, keepalive=30)
        client.loop_start()

    def publish(self, topic: str, body: object) -> bool:
        """Send `body` as JSON with QoS 1; False while there is no connection."""
        if not self._client.is_connected():
            return False
        return self._client.publish(topic, json.dumps(body), qos=1).rc == mqtt.MQTT_ERR_SUCCESS

    async def stop(self) -> None:
        """Let every message that the broker has acknowledged so far be stored, and disconnect."""
        # A message to ourselves comes back behind all that the broker took before it.
        if not self.publish(FENCE, None):
            self._queue.put_nowait(None)
        await asyncio.wait([self._consumer], timeout=STOP_SECONDS)
        self._consumer.cancel()
        self._client.disconnect()

    async def _consume(self) -> None:
        """Apply what waits, batch by batch, until None is taken from the queue."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            received = [message for message in batch if message is not None]
            self._waiting -= sum(len(payload) + OVERHEAD_BYTES for _, payload in received)
            await self._apply(received)
            if None in batch:
                return

    async def _apply(self, received: list[messages.Message]) -> None:
        try:
            replies = await self._store.write(messages.apply, received, throttle=self._throttle)
        except sqlite3.Error as error:
            text = "Lost %d messages of devices: the database refuses: %s"
            self._throttle.note("database", text, len(received), error, level=logging.ERROR)
            replies = _refusals(received, f"the platform cannot use its database: {error}")
        except Exception:
            log.exception("Lost %d messages of devices", len(received))
            replies = _refusals(received, "the platform failed on this request: see its log")
        for topic, body in replies:
            if not self.publish(topic, body):
                self._throttle.note("no reply", "Could not reply on %s: no connection to the broker", topic)

    def _take(self, topic: str, payload: bytes) -> None:
        size = len(payload) + OVERHEAD_BYTES
        if self._waiting + size > QUEUE_BYTES:
            self._throttle.note("overflow", "Dropped a message on %s: the store does not keep up", topic)
            return
        self._waiting += size
        self._queue.put_nowait((topic, payload))

    def _soon(self, work: Callable[..., None], *args: object) -> None:
        """Run `work` in the event loop; called in paho's thread."""
        try:
            self._loop.call_soon_threadsafe(work, *args)
        except RuntimeError:
            log.debug("The event loop has ended")

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            log.error("The broker refuses the platform: %s", reason)
            return
        client.subscribe(list(SUBSCRIPTIONS))

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            log.error("The broker refuses the platform's subscriptions: %s", reasons)
            return
        self._soon(self.subscribed.set)
        self._soon(self._connection_changed, True)

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        log.debug("Disconnected from the broker: %s", reason)
        self._soon(self._connection_changed, False)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        # A retained heartbeat says how the device was, not how it is.
        if message.topic == FENCE:
            self._soon(self._queue.put_nowait, None)
        elif not message.retain:
            self._soon(self._take, message.topic, message.payload)


def _refusals(received: list[messages.Message], why: str) -> list[messages.Reply]:
    """Return replies to those messages of a lost batch whose senders wait for one."""
    return [reply for reply in (messages.refusal(message, why) for message in received) if reply is not None]


def _no_delay(_client: mqtt.Client, _data: Any, connection: Any) -> None:
    # paho leaves Nagle's algorithm on: the second small message would wait 40 ms.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def client_context(certificates: Files) -> ssl.SSLContext:
    """Return the TLS context of the platform's client: our authority alone, our certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certificates.ca)
    context.load_cert_chain(certificates.client, certificates.client_key)
    return context
