"""One MQTT connection over mutual TLS: paho does the protocol, the event loop the reading and writing."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.device_manager.offload import offload

if TYPE_CHECKING:
    from roboticks_tasks.sim.device_manager.credentials import Credentials
    from roboticks_tasks.sim.device_manager.registration import Registration

ANSWER_TIMEOUT = 5.0
OFFLINE = {"status": "offline"}


class LinkError(Exception):
    """The broker could not be reached, or refused; `refused` when it was there and did not want us."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class Connection:
    """A connection that is used once; `lost` gets the reason when it is over."""

    def __init__(
        self,
        registration: Registration,
        credentials: Credentials,
        *,
        keepalive: int,
        on_message: Callable[[str, bytes], None],
        on_acknowledged: Callable[[int], None],
    ) -> None:
        """`on_message(topic, payload)`; `on_acknowledged(mid)` for what was published with QoS 1.

        After `keepalive` seconds of silence the broker is asked for a sign of life, and has as long to give it.
        """
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = loop.create_future()
        self.denied: list[str] = []
        self._subscribed: asyncio.Future[None] = loop.create_future()
        self._clock_words = registration.clock_words
        self._host, self._port, self._keepalive = registration.host, registration.port, keepalive
        self._keeper: asyncio.Task[None] | None = None
        dsn = registration.dsn
        self._wanted = (
            topics.session_response(dsn),
            topics.file_upload_response(dsn),
            topics.logs_response(dsn),
            topics.device_commands(dsn),
            topics.COMMANDS_BROADCAST,
        )
        # A clean session: a command from before the start is not for this start (our choice: not documented).
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=dsn, clean_session=True)
        self._client.tls_set_context(_tls(credentials))
        self._client.will_set(topics.heartbeat(dsn), json.dumps(OFFLINE).encode(), qos=1)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = lambda _client, _data, message: on_message(message.topic, bytes(message.payload))
        self._client.on_publish = lambda _client, _data, mid, _code, _properties: on_acknowledged(mid)
        self._client.on_socket_open = _send_at_once

    async def open(self) -> None:
        """Connect and subscribe to all that a device listens to; LinkError when that is not possible.

        The socket and its TLS handshake are made in a thread: a broker that hangs must not hold up the event loop.
        """
        broker = f"the broker at {self._host}:{self._port}"
        try:
            await offload(lambda: self._client.connect(self._host, self._port, self._keepalive))
        except ssl.SSLError as error:
            # Of certificates nothing is wrong more often than the clock by which they are judged.
            reason = getattr(error, "verify_message", None) or error.reason or error
            words = "; ".join(filter(None, [f"no TLS with {broker}: {reason}", self._clock_words]))
            raise LinkError(words, refused=True) from error
        except OSError as error:
            raise LinkError(f"{broker} is not reachable: {error.strerror or error}") from error
        self._watch()
        self._keeper = asyncio.create_task(self._keep_alive())
        either: set[asyncio.Future[Any]] = {self._subscribed, self.lost}
        await asyncio.wait(either, timeout=ANSWER_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if self.lost.done():
            raise LinkError(f"{broker} closed the connection: {self.lost.result()}", refused=True)
        if not self._subscribed.done():
            raise LinkError(f"{broker} did not answer within {ANSWER_TIMEOUT:g} s")

    def publish(self, topic: str, payload: bytes, *, qos: int) -> int:
        """Send a message and return its number for the acknowledgement."""
        return self._client.publish(topic, payload, qos=qos).mid

    def say_goodbye(self) -> None:
        """Tell the broker that the device goes, so that it keeps the last will to itself."""
        self._client.disconnect()

    def lose(self, reason: str) -> None:
        """Take the connection for lost, for this reason."""
        if not self.lost.done():
            self.lost.set_result(reason)

    def close(self) -> None:
        """Close the socket of a connection that nobody wants any more; a lost one is closed already."""
        if self._keeper is not None:
            self._keeper.cancel()
        connection, loop = self._client.socket(), asyncio.get_running_loop()
        if connection is not None:
            loop.remove_reader(connection.fileno())
            loop.remove_writer(connection.fileno())
            connection.close()

    def _watch(self) -> None:
        """Let the event loop do the reading and writing of the connection that the thread has made."""
        client, loop = self._client, asyncio.get_running_loop()
        connection = client.socket()
        if connection is None:
            raise LinkError("the broker closed the connection", refused=True)
        descriptor = connection.fileno()

        def readable() -> None:
            client.loop_read()
            # TLS may hold more packets than the socket shows.
            while isinstance(open_socket := client.socket(), ssl.SSLSocket) and open_socket.pending():
                client.loop_read()

        def on_register_write(_client: mqtt.Client, _data: Any, _connection: Any) -> None:
            loop.add_writer(descriptor, client.loop_write)

        def on_unregister_write(_client: mqtt.Client, _data: Any, _connection: Any) -> None:
            loop.remove_writer(descriptor)

        def on_close(_client: mqtt.Client, _data: Any, _connection: Any) -> None:
            loop.remove_reader(descriptor)
            loop.remove_writer(descriptor)

        client.on_socket_close = on_close
        client.on_socket_register_write = on_register_write
        client.on_socket_unregister_write = on_unregister_write
        loop.add_reader(descriptor, readable)
        if client.want_write():
            loop.add_writer(descriptor, client.loop_write)
        readable()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._client.loop_misc()

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            self.lose(str(code))
        else:
            client.subscribe([(topic, 1) for topic in self._wanted])

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, _mid: int, codes: list[Any], _properties: Any) -> None:
        self.denied = [topic for topic, code in zip(self._wanted, codes, strict=False) if code.is_failure]
        if not self._subscribed.done():
            self._subscribed.set_result(None)

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        self.lose(str(code))


def _tls(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=str(credentials.authority))
        context.load_cert_chain(str(credentials.certificate), str(credentials.key))
    except OSError as error:
        raise LinkError(f"the device's credentials cannot be used: {error}", refused=True) from error
    return context


def _send_at_once(_client: mqtt.Client, _data: Any, connection: Any) -> None:
    """Turn Nagle's algorithm off, which paho leaves on: a second small message would wait 40 ms for a delayed ACK."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
