"""Brokers that run in a thread, a paho client that waits for events, and MQTT packets by hand."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    from tests.contract.pki import Certificate

PATIENCE = 10.0
"""Seconds after which something that should happen has not."""


class Stoppable(Protocol):
    """What both brokers are."""

    port: int

    async def stop(self) -> None:
        """Stop it."""


Server = TypeVar("Server", bound=Stoppable)


@contextlib.contextmanager
def running(start: Callable[[], Coroutine[Any, Any, Server]]) -> Iterator[Server]:
    """Run a broker on an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        broker = asyncio.run_coroutine_threadsafe(start(), loop).result(PATIENCE)
        try:
            yield broker
        finally:
            asyncio.run_coroutine_threadsafe(broker.stop(), loop).result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Client:
    """A paho client that is connected when it is made; `refused` tells when it is not."""

    def __init__(
        self,
        port: int,
        certificate: Certificate,
        *,
        client_id: str | None = None,
        clean: bool = True,
        will: tuple[str, bytes] | None = None,
        manual_ack: bool = False,
    ) -> None:
        name = client_id or certificate.name
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.refused = True
        self.session_present = False
        self.gone = threading.Event()
        self._answers: queue.Queue[int] = queue.Queue()
        self._connected = threading.Event()
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=name,
            clean_session=clean,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        self._paho.max_queued_messages_set(0)
        self._paho.tls_set_context(certificate.client_context())
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_message = lambda _client, _userdata, message: self.messages.put(message)
        self._paho.on_subscribe = lambda _client, _userdata, _mid, codes, _properties: self._answers.put(codes[0].value)
        self._paho.on_socket_open = _without_delay
        if will is not None:
            self._paho.will_set(*will, qos=1)
        with contextlib.suppress(OSError):
            self._paho.connect("127.0.0.1", port)
            self._paho.loop_start()
            assert self._connected.wait(PATIENCE)

    def _on_connect(self, _client: object, _userdata: object, flags: Any, code: Any, _properties: object) -> None:
        self.refused, self.session_present = code.is_failure, flags.session_present
        self._connected.set()

    def _on_disconnect(self, *_: object) -> None:
        self.gone.set()
        self._connected.set()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()

    def subscribe(self, topic_filter: str, *, qos: int = 1) -> int:
        """Subscribe and return the broker's answer: the QoS granted, or 0x80."""
        self._paho.subscribe(topic_filter, qos)
        return self._answers.get(timeout=PATIENCE)

    def publish(self, topic: str, *payloads: bytes, qos: int = 1, retain: bool = False) -> None:
        """Publish; returns once everything was acknowledged, or was written for QoS 0."""
        for info in [self._paho.publish(topic, payload, qos, retain) for payload in payloads]:
            info.wait_for_publish(PATIENCE)
            assert info.is_published()

    def take(self, count: int = 1) -> list[bytes]:
        """Wait for `count` messages and return their payloads."""
        return [bytes(self.messages.get(timeout=PATIENCE).payload) for _ in range(count)]

    def acknowledge(self, message: paho.MQTTMessage) -> None:
        """Acknowledge a message by hand."""
        self._paho.ack(message.mid, message.qos)

    def drop(self) -> None:
        """Lose the connection, as when the power fails."""
        sock = self._paho.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)
        assert self.gone.wait(PATIENCE)


def _without_delay(_client: object, _userdata: object, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextlib.contextmanager
def raw(port: int, context: ssl.SSLContext, *, receive_buffer: int | None = None) -> Iterator[ssl.SSLSocket]:
    """Open a TLS connection to write bytes by hand."""
    with socket.socket() as plain:
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(PATIENCE)
        plain.connect(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            yield secure


def read_packet(sock: ssl.SSLSocket) -> tuple[int, bytes]:
    """Read one packet; return its first byte and its body, or (0, b"") when the connection is closed.

    Raises TimeoutError when nothing comes.
    """
    try:
        first = sock.recv(1)
        if not first:
            return 0, b""
        length = shift = 0
        while True:
            digit = sock.recv(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                break
        body = b""
        while len(body) < length:
            part = sock.recv(length - len(body))
            if not part:
                return 0, b""
            body += part
    except TimeoutError:
        raise
    except (OSError, IndexError):
        return 0, b""
    return first[0], body


def send(sock: ssl.SSLSocket, data: bytes) -> None:
    """Write to a broker that may have closed the connection before it has read all."""
    with contextlib.suppress(OSError):
        sock.sendall(data)


def is_closed(sock: ssl.SSLSocket) -> bool:
    """Read until the other side closes the connection."""
    while read_packet(sock) != (0, b""):
        pass
    return True


def packet(first: int, body: bytes = b"") -> bytes:
    """Return a packet: its first byte, the length, the body."""
    length, digits = len(body), b""
    while length > 0x7F:
        digits += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([first]) + digits + bytes([length]) + body


def text(value: str | bytes) -> bytes:
    """Return a string with its length before it."""
    raw_value = value.encode() if isinstance(value, str) else value
    return len(raw_value).to_bytes(2, "big") + raw_value


def connect_packet(
    client_id: str,
    *,
    clean: bool = True,
    keep_alive: int = 0,
    will: tuple[str, bytes, int, bool] | None = None,
    login: tuple[bytes, bytes] | None = None,
    level: int = 4,
) -> bytes:
    """Return CONNECT; the will is (topic, payload, QoS, retain), the login user name and password."""
    flags, tail = 2 * clean, b""
    if will is not None:
        topic, payload, qos, retain = will
        flags |= 4 | qos << 3 | retain << 5
        tail += text(topic) + text(payload)
    if login is not None:
        flags |= 0xC0
        tail += text(login[0]) + text(login[1])
    head = text("MQTT") + bytes([level, flags]) + keep_alive.to_bytes(2, "big")
    return packet(0x10, head + text(client_id) + tail)


def publish_packet(
    topic: str, payload: bytes, *, qos: int = 0, retain: bool = False, duplicate: bool = False, packet_id: int = 1
) -> bytes:
    """Return PUBLISH."""
    number = packet_id.to_bytes(2, "big") if qos else b""
    return packet(0x30 | duplicate << 3 | qos << 1 | retain, text(topic) + number + payload)


def subscribe_packet(filters: Sequence[tuple[str, int]], *, packet_id: int = 1) -> bytes:
    """Return SUBSCRIBE."""
    body = b"".join(text(name) + bytes([qos]) for name, qos in filters)
    return packet(0x82, packet_id.to_bytes(2, "big") + body)


def unsubscribe_packet(filters: Sequence[str], *, packet_id: int = 1) -> bytes:
    """Return UNSUBSCRIBE."""
    return packet(0xA2, packet_id.to_bytes(2, "big") + b"".join(map(text, filters)))
