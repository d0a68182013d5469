"""An MQTT 3.1.1 broker for one machine, on asyncio and the standard library alone.

Every client proves who it is with a certificate: its common name is its identity and must be its client id. In this
order below: the wire format as pure functions, then sessions (what outlives a connection), connections, and the broker.

Our choices where the standard leaves room. QoS 2 is accepted from publishers with its full handshake (no duplicates)
and delivered at QoS 1. A denied publish is acknowledged, dropped and counted; a denied subscribe is answered with
0x80; a connect with a denied will is refused. A client that reads too slowly first loses QoS 0 messages and is then
disconnected; a persistent session that is full while its client is away loses what comes next. Sessions live in memory.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = range(1, 9)
SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(9, 15)
BAD_VERSION, BAD_CLIENT_ID, UNAVAILABLE, NOT_AUTHORIZED = 1, 2, 3, 5
DENIED = 0x80
LEVEL = 4
"""The protocol level that means MQTT 3.1.1."""
FROM_CLIENTS = frozenset(range(1, 15)) - {CONNACK, SUBACK, UNSUBACK, PINGRESP}
WINDOW = 256
"""How many QoS 1 messages may wait for a client's acknowledgement."""
BURST = 256 * 1024
"""How many bytes are put together for one write; larger gains nothing, smaller costs a system call each."""
UNRELEASED = 4096
"""How many QoS 2 publishes a client may leave half done; paho leaves 20."""
SHOWN = 100
"""How many characters of what a client calls itself or a topic are logged."""
OVERHEAD = 256
"""What a queued message costs in memory besides its text, so that many tiny ones are bounded too."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on what clients can make the broker hold: bytes, counts and seconds."""

    packet_bytes: int = 256 * 1024
    queue_bytes: int = 16 * 1024 * 1024
    retained_bytes: int = 16 * 1024 * 1024
    connections: int = 1000
    sessions: int = 2000
    subscriptions: int = 100
    connect_seconds: float = 10.0
    topic_bytes: int = 1024
    topic_levels: int = 32
    identity_connections: int = 20
    burst_packets: int = 50_000
    packets_per_second: float = 10_000.0
    """What a client may send for long; after a burst it is read only as fast as this."""


class ProtocolError(Exception):
    """What a client sent is not MQTT 3.1.1; the only error that parsing raises."""


class Message(NamedTuple):
    """A published message; `packet_id` is 0 while it has none."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    packet_id: int = 0
    duplicate: bool = False


class Connect(NamedTuple):
    """A client's first packet; keep-alive in seconds, 0 for none."""

    level: int
    client_id: str = ""
    clean: bool = True
    keep_alive: int = 0
    will: Message | None = None


class Filters(NamedTuple):
    """SUBSCRIBE, with the QoS wanted for each filter, or UNSUBSCRIBE, where it says nothing."""

    kind: int
    packet_id: int
    filters: tuple[tuple[str, int], ...]


class Signal(NamedTuple):
    """A packet that has at most a packet id: acknowledgements, PINGREQ, DISCONNECT."""

    kind: int
    packet_id: int = 0


Packet = Message | Connect | Filters | Signal


def encode(kind: int, body: bytes, *, flags: int = 0) -> bytes:
    """Return a whole packet: fixed header, then the body."""
    length, rest = bytearray(), len(body)
    while True:
        rest, digit = rest >> 7, rest & 0x7F
        length.append(digit | 0x80 if rest else digit)
        if not rest:
            return bytes((kind << 4 | flags,)) + length + body


def encode_message(message: Message) -> bytes:
    """Return the PUBLISH packet of a message."""
    topic = message.topic.encode()
    number = message.packet_id.to_bytes(2, "big") if message.qos else b""
    flags = message.duplicate << 3 | message.qos << 1 | message.retain
    return encode(PUBLISH, b"".join((len(topic).to_bytes(2, "big"), topic, number, message.payload)), flags=flags)


def encode_signal(kind: int, packet_id: int) -> bytes:
    """Return an acknowledgement of `packet_id`; PUBREL has flag bits of its own."""
    return bytes((kind << 4 | (2 if kind == PUBREL else 0), 2, packet_id >> 8, packet_id & 0xFF))


def next_packet(buffer: bytes | bytearray, start: int, limit: int) -> tuple[Packet, int] | None:
    """Parse the packet at `start`; return it and where it ends, or None while it is not complete.

    Raises ProtocolError for anything malformed, as soon as it shows: a wrong first byte, or a packet of more than
    `limit` bytes, is not waited for.
    """
    if start >= len(buffer):
        return None
    kind, flags = buffer[start] >> 4, buffer[start] & 0x0F
    if kind not in FROM_CLIENTS:
        raise ProtocolError(f"packet type {kind} from a client")
    if kind != PUBLISH and flags != (2 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0):
        raise ProtocolError(f"flags {flags:#x} in packet type {kind}")
    length = 0
    for at in range(1, 5):
        if start + at >= len(buffer):
            return None
        digit = buffer[start + at]
        length |= (digit & 0x7F) << 7 * (at - 1)
        if digit < 0x80:
            break
    else:
        raise ProtocolError("malformed length")
    body = start + at + 1
    if body + length - start > limit:
        raise ProtocolError(f"packet of {body + length - start} bytes, the limit is {limit}")
    if body + length > len(buffer):
        return None
    return _parse(kind, flags, bytes(buffer[body : body + length])), body + length


def _parse(kind: int, flags: int, body: bytes) -> Packet:
    if kind == PUBLISH:
        return _parse_publish(flags, body)
    if kind == CONNECT:
        return _parse_connect(body)
    if kind in (SUBSCRIBE, UNSUBSCRIBE):
        return _parse_filters(kind, body)
    number, at = (0, 0) if kind in (PINGREQ, DISCONNECT) else _packet_id(body, 0)
    _expect_end(body, at)
    return Signal(kind, number)


def _parse_publish(flags: int, body: bytes) -> Message:
    qos = flags >> 1 & 3
    if qos > 2 or (flags & 8 and not qos):
        raise ProtocolError(f"publish flags {flags:#x}")
    topic, at = _text(body, 0)
    number, at = _packet_id(body, at) if qos else (0, at)
    return Message(_topic(topic), body[at:], qos, bool(flags & 1), number, bool(flags & 8))


def _parse_connect(body: bytes) -> Connect:
    protocol, at = _binary(body, 0)
    level = _byte(body, at)
    if protocol not in (b"MQTT", b"MQIsdp"):
        raise ProtocolError("not MQTT")
    if level != LEVEL:
        return Connect(level)  # to be refused: what follows may look different
    flags = _byte(body, at + 1)
    keep_alive, at = _word(body, at + 2)
    has_will, qos, retain = bool(flags & 4), flags >> 3 & 3, bool(flags & 32)
    if flags & 1 or qos > 2 or (not has_will and (qos or retain)) or (flags & 64 and not flags & 128):
        raise ProtocolError(f"connect flags {flags:#x}")
    client_id, at = _text(body, at)
    will = None
    if has_will:
        topic, at = _text(body, at)
        payload, at = _binary(body, at)
        will = Message(_topic(topic), payload, qos, retain)
    for given in (flags & 128, flags & 64):
        if given:  # user name and password: the certificate says who it is, so they are read over
            _, at = _binary(body, at)
    _expect_end(body, at)
    return Connect(level, client_id, bool(flags & 2), keep_alive, will)


def _parse_filters(kind: int, body: bytes) -> Filters:
    number, at = _packet_id(body, 0)
    filters: list[tuple[str, int]] = []
    while at < len(body) or not filters:
        topic_filter, at = _text(body, at)
        qos = 0
        if kind == SUBSCRIBE:
            qos, at = _byte(body, at), at + 1
        if qos > 2:
            raise ProtocolError(f"subscribe with QoS {qos}")
        filters.append((_filter(topic_filter), qos))
    return Filters(kind, number, tuple(filters))


def _byte(body: bytes, at: int) -> int:
    if at >= len(body):
        raise ProtocolError("packet too short")
    return body[at]


def _word(body: bytes, at: int) -> tuple[int, int]:
    if at + 2 > len(body):
        raise ProtocolError("packet too short")
    return body[at] << 8 | body[at + 1], at + 2


def _packet_id(body: bytes, at: int) -> tuple[int, int]:
    number, at = _word(body, at)
    if not number:
        raise ProtocolError("packet id 0")
    return number, at


def _binary(body: bytes, at: int) -> tuple[bytes, int]:
    length, at = _word(body, at)
    if at + length > len(body):
        raise ProtocolError("packet too short")
    return body[at : at + length], at + length


def _text(body: bytes, at: int) -> tuple[str, int]:
    raw, at = _binary(body, at)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("text that is not UTF-8") from error
    if "\0" in text:
        raise ProtocolError("text with a null character")
    return text, at


def _topic(text: str) -> str:
    if not text or "+" in text or "#" in text:
        raise ProtocolError(f"{text!r} is no topic to publish on")
    return text


def _filter(text: str) -> str:
    levels = text.split("/")
    if not text or "#" in levels[:-1] or any(len(level) > 1 and ("+" in level or "#" in level) for level in levels):
        raise ProtocolError(f"{text!r} is no topic filter")
    return text


def _expect_end(body: bytes, at: int) -> None:
    if at != len(body):
        raise ProtocolError(f"{len(body) - at} bytes too many in a packet")


def is_wild(topic_filter: str) -> bool:
    """Tell whether a valid filter has wildcards."""
    return "+" in topic_filter or topic_filter.endswith("#")


def matches(levels: Sequence[str], topic: Sequence[str]) -> bool:
    """Tell whether a filter matches a topic, both split at "/"; wildcards do not match a leading "$" level."""
    if topic[0].startswith("$") and levels[0] in ("+", "#"):
        return False
    for position, level in enumerate(levels):
        if level == "#":
            return True
        if position >= len(topic) or level not in ("+", topic[position]):
            return False
    return len(levels) == len(topic)


def common_name(certificate: object) -> str | None:
    """Return the one common name of a certificate as `ssl` describes it; None when it has none or several."""
    subject = cast("dict[str, tuple[tuple[tuple[str, str], ...], ...]]", certificate or {}).get("subject", ())
    names = [value for group in subject for key, value in group if key == "commonName"]
    return names[0] if len(names) == 1 else None


@dataclass(eq=False, slots=True)
class Session:
    """What the broker keeps for a client: subscriptions, messages to come, messages sent and not acknowledged.

    `received` holds the packet ids of QoS 2 publishes that are not released yet, `waiting` the bytes of all messages.
    """

    client_id: str
    clean: bool = True
    link: Link | None = None
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


class Link(asyncio.Protocol):
    """One client's connection: bytes to packets, packets to bytes, and the clocks that end it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.loop = asyncio.get_running_loop()
        self.identity: str | None = None
        self.session: Session | None = None
        self.will: Message | None = None
        self.closed = self.loop.create_future()
        self.writable = True
        self._paused = self._closing = self._flushing = False
        self._input = bytearray()
        self._output: list[bytes] = []
        self._output_bytes = 0
        self._clock: asyncio.TimerHandle | None = None
        self._credit = float(broker.limits.burst_packets)
        self._credited = self.loop.time()
        self._patience = broker.limits.connect_seconds
        self._heard = self.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=BURST)
        self.identity = common_name(transport.get_extra_info("peercert"))
        self.broker.links.add(self)
        self._tick()
        if not self.broker.admit(self):
            self.close(abort=True)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._input += data
        if self.session is not None:
            self._heard = self.loop.time()
        at, limit, count = 0, self.broker.limits.packet_bytes, 0
        try:
            while not self._closing and (found := next_packet(self._input, at, limit)) is not None:
                packet, at = found
                count += 1
                self.broker.receive(self, packet)
        except ProtocolError as error:
            self.fail(f"protocol error: {error}")
        del self._input[:at]
        self._pay(count)

    def _pay(self, packets: int) -> None:
        """Take packets off the client's credit; whoever has none left is not read until there is some again."""
        now, limits = self.loop.time(), self.broker.limits
        earned = (now - self._credited) * limits.packets_per_second
        self._credit = min(self._credit + earned, limits.burst_packets) - packets
        self._credited = now
        if self._credit < 0 and not self._closing:
            self.broker.note(
                "throttled", "%s sends more than %s packets a second", self.identity, int(limits.packets_per_second)
            )
            seconds = -self._credit / limits.packets_per_second
            self._heard = now + seconds  # that it is not heard meanwhile is our doing
            self.transport.pause_reading()
            self.loop.call_later(seconds, self._read_again)

    def _read_again(self) -> None:
        if not self._closing:
            self.transport.resume_reading()

    def keep_alive(self, seconds: int) -> None:
        """Expect a packet at least every one and a half times `seconds`, as the standard has it; 0 for never."""
        self._patience, self._heard = seconds * 1.5, self.loop.time()
        if self._clock is not None:
            self._clock.cancel()
        if seconds:
            self._tick()

    def _tick(self) -> None:
        remaining = self._heard + self._patience - self.loop.time()
        if remaining <= 0:
            self.fail("keep-alive expired" if self.session else "no CONNECT in time", abort=True)
        else:
            self._clock = self.loop.call_later(remaining, self._tick)

    def send(self, data: bytes) -> None:
        """Write `data` together with whatever else is said in this turn of the loop."""
        self._output.append(data)
        self._output_bytes += len(data)
        self.writable = not self._paused and self._output_bytes < BURST
        if not self._flushing and not self._paused:
            self._flushing = True
            self.loop.call_soon(self._flush)
        elif self._output_bytes > self.broker.limits.queue_bytes:
            self.loop.call_soon(self.fail, "reads too slowly")

    def _flush(self) -> None:
        self._flushing = False
        if self._paused or self.closed.done():
            return
        if self._output:
            data, self._output, self._output_bytes = b"".join(self._output), [], 0
            self.transport.write(data)  # may call pause_writing
        self.writable = not self._paused
        if self.session is not None:
            self.session.pump()

    def pause_writing(self) -> None:
        self._paused, self.writable = True, False

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def fail(self, reason: str, *, abort: bool = False) -> None:
        """End the connection for a fault of the client, so that its will is published."""
        if not self._closing:
            log.warning("closing the connection of %s: %s", self.identity, reason)
            self.close(abort=abort)

    def close(self, *, abort: bool = False, will: bool = True) -> None:
        """End the connection: after what is written, or at once."""
        if self._closing:
            return
        self._closing = True
        self.broker.leave(self, will=will)
        self._flush()
        if self._clock is not None:
            self._clock.cancel()
        if abort or self._paused:
            self.transport.abort()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self.close(abort=True)
        self.broker.links.discard(self)
        self.broker.dismiss(self)


class Broker:
    """A running broker; made by `start`."""

    def __init__(self, listener: socket.socket, *, allowed: Callable[[str, str, str], bool], limits: Limits) -> None:
        self.port: int = listener.getsockname()[1]
        self.limits = limits
        self.links: set[Link] = set()
        self.counts: Counter[str] = Counter()
        """How often each kind of trouble happened: denied publishes, refused connections, dropped messages."""
        self._listener = listener
        self._allowed = allowed
        self.sessions: OrderedDict[str, Session] = OrderedDict()
        self._exact: dict[str, dict[Session, int]] = {}
        self._wild: dict[str, dict[Session, int]] = {}
        self._retained: dict[str, Message] = {}
        self._retained_bytes = 0
        self._connections: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Close the port and every connection, without wills; returns when all are closed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()
        links = list(self.links)
        for link in links:
            link.close(abort=True, will=False)
        if links:
            await asyncio.wait([link.closed for link in links], timeout=1.0)

    async def accept(self, tls: ssl.SSLContext) -> None:
        """Take connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0)  # a flood of connections must not keep the others waiting
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # out of file descriptors, or the client left already
                self.note("accept", "cannot accept a connection: %s", error)
                await asyncio.sleep(0.05)
                continue
            if len(self._tasks) - 1 + len(self.links) >= self.limits.connections:  # one task is this one
                self.note("full", "refused a connection: %s are open", self.limits.connections)
                connection.close()
                continue
            self.spawn(self._welcome(connection, tls))

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` until it is done or the broker stops."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _welcome(self, connection: socket.socket, tls: ssl.SSLContext) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Link(self),
                connection,
                ssl=tls,
                ssl_handshake_timeout=self.limits.connect_seconds,
                ssl_shutdown_timeout=1.0,
            )
        except OSError as error:
            self.note("handshake", "refused a connection in its TLS handshake: %r", error)
            connection.close()

    def admit(self, link: Link) -> bool:
        """Count a connection of its identity; False when there are too many: one device must not take all."""
        name = link.identity or ""
        self._connections[name] += 1
        if self._connections[name] <= self.limits.identity_connections:
            return True
        self.note("crowded", "refused a connection of %s: it has %s", name, self.limits.identity_connections)
        return False

    def dismiss(self, link: Link) -> None:
        """Forget a connection that `admit` has counted."""
        name = link.identity or ""
        self._connections[name] -= 1
        if self._connections[name] <= 0:
            del self._connections[name]

    def receive(self, link: Link, packet: Packet) -> None:
        """Do what a packet asks for; raises ProtocolError for one that is out of place, or beyond the limits."""
        self._check_size(packet)
        session = link.session
        if session is None:
            if not isinstance(packet, Connect):
                raise ProtocolError("the first packet is no CONNECT")
            self._connect(link, packet)
        elif isinstance(packet, Message):
            self._publish(link, session, packet)
        elif isinstance(packet, Signal):
            self._signal(link, session, packet)
        elif isinstance(packet, Connect):
            raise ProtocolError("a second CONNECT")
        elif packet.kind == SUBSCRIBE:
            self._subscribe(link, session, packet)
        else:
            for topic_filter, _ in packet.filters:
                self._unsubscribe(session, topic_filter)
            link.send(encode_signal(UNSUBACK, packet.packet_id))

    def _check_size(self, packet: Packet) -> None:
        limits = self.limits
        if isinstance(packet, Filters):
            if len(packet.filters) > limits.subscriptions:
                raise ProtocolError(f"{len(packet.filters)} topic filters at once")
            topics = [name for name, _ in packet.filters]
        elif isinstance(packet, Message):
            topics = [packet.topic]
        else:
            topics = [packet.will.topic] if isinstance(packet, Connect) and packet.will is not None else []
        for topic in topics:
            if len(topic) > limits.topic_bytes or topic.count("/") >= limits.topic_levels:
                raise ProtocolError(f"a topic of {len(topic)} characters and {topic.count('/') + 1} levels")

    def _connect(self, link: Link, packet: Connect) -> None:
        refusal = self._refusal(link, packet)
        if refusal:
            name = packet.client_id[:SHOWN]
            self.note("refused", "refused %s as client id %r: code %s", link.identity, name, refusal)
            link.send(encode(CONNACK, bytes((0, refusal))))
            link.close()
            return
        old = self.sessions.get(packet.client_id)
        if old is not None and old.link is not None:
            old.link.fail("its client connected again", abort=True)
        if packet.clean and packet.client_id in self.sessions:
            self._forget(self.sessions[packet.client_id])
        present = packet.client_id in self.sessions
        session = self.sessions.setdefault(packet.client_id, Session(packet.client_id))
        self.sessions.move_to_end(packet.client_id)
        session.clean, session.link = packet.clean, link
        link.session, link.will = session, packet.will
        link.keep_alive(packet.keep_alive)
        link.send(encode(CONNACK, bytes((present, 0))))  # and then what is queued

    def _refusal(self, link: Link, packet: Connect) -> int:
        """Return why a connect is refused, as a CONNACK code; 0 when it is welcome."""
        if packet.level != LEVEL:
            return BAD_VERSION
        if link.identity is None:
            return NOT_AUTHORIZED
        if packet.client_id != link.identity:
            return BAD_CLIENT_ID
        if packet.will is not None and not self._allowed(link.identity, "publish", packet.will.topic):
            return NOT_AUTHORIZED
        if packet.client_id not in self.sessions and len(self.sessions) >= self.limits.sessions:
            away = next((session for session in self.sessions.values() if session.link is None), None)
            if away is None:
                return UNAVAILABLE
            self._forget(away)
        return 0

    def _publish(self, link: Link, session: Session, message: Message) -> None:
        first = message.qos < 2 or message.packet_id not in session.received
        if not self._allowed(session.client_id, "publish", message.topic):
            self.note("denied publish", "%s may not publish on %r", session.client_id, message.topic[:SHOWN])
        elif first:
            self.route(message)
        if message.qos == 1:
            link.send(encode_signal(PUBACK, message.packet_id))
        elif message.qos == 2:
            session.received.add(message.packet_id)
            if len(session.received) > UNRELEASED:
                raise ProtocolError(f"more than {UNRELEASED} publishes of QoS 2 are not released")
            link.send(encode_signal(PUBREC, message.packet_id))

    def _signal(self, link: Link, session: Session, packet: Signal) -> None:
        if packet.kind == PUBACK:
            session.acknowledge(packet.packet_id)
        elif packet.kind == PUBREL:
            session.received.discard(packet.packet_id)
            link.send(encode_signal(PUBCOMP, packet.packet_id))
        elif packet.kind == PINGREQ:
            link.send(encode(PINGRESP, b""))
        elif packet.kind == DISCONNECT:
            link.close(will=False)
        else:
            raise ProtocolError(f"packet type {packet.kind} although nothing was sent with QoS 2")

    def _subscribe(self, link: Link, session: Session, packet: Filters) -> None:
        granted = bytearray()
        for topic_filter, wanted in packet.filters:
            known = topic_filter in session.filters
            if not self._allowed(session.client_id, "subscribe", topic_filter):
                self.note("denied subscribe", "%s may not subscribe to %r", session.client_id, topic_filter[:SHOWN])
                granted.append(DENIED)
            elif not known and len(session.filters) >= self.limits.subscriptions:
                granted.append(DENIED)
            else:
                table = self._wild if is_wild(topic_filter) else self._exact
                granted.append(min(wanted, 1))
                table.setdefault(topic_filter, {})[session] = granted[-1]
                session.filters.add(topic_filter)
        link.send(encode(SUBACK, packet.packet_id.to_bytes(2, "big") + granted))
        for (topic_filter, _), qos in zip(packet.filters, granted, strict=True):
            if qos != DENIED:
                self._send_retained(session, topic_filter.split("/"), qos)

    def _send_retained(self, session: Session, levels: list[str], qos: int) -> None:
        for topic, message in self._retained.items():
            if matches(levels, topic.split("/")):
                self._deliver(session, Message(topic, message.payload, min(qos, message.qos), retain=True))

    def _unsubscribe(self, session: Session, topic_filter: str) -> None:
        table = self._wild if is_wild(topic_filter) else self._exact
        session.filters.discard(topic_filter)
        if topic_filter in table:
            table[topic_filter].pop(session, None)
            if not table[topic_filter]:
                del table[topic_filter]

    def route(self, message: Message) -> None:
        """Deliver to each subscriber once, at the highest QoS that its matching filters have; keep a retained one."""
        if message.retain:
            self._retain(message)
        receivers = dict(self._exact.get(message.topic, ()))
        levels = message.topic.split("/")
        for topic_filter, sessions in self._wild.items():
            if matches(topic_filter.split("/"), levels):
                for session, qos in sessions.items():
                    receivers[session] = max(qos, receivers.get(session, 0))
        for session, qos in receivers.items():
            self._deliver(session, Message(message.topic, message.payload, min(qos, message.qos)))

    def _deliver(self, session: Session, message: Message) -> None:
        if not session.offer(message, self.limits.queue_bytes):
            self.note("dropped", "dropped a QoS %s message: the queue of %s is full", message.qos, session.client_id)
            if message.qos and session.link is not None:
                # not now: its will may make other queues overflow while this message is still being delivered
                session.link.loop.call_soon(session.link.fail, "reads too slowly")

    def _retain(self, message: Message) -> None:
        old = self._retained.pop(message.topic, None)
        if old is not None:
            self._retained_bytes -= len(old.payload) + OVERHEAD
        size = len(message.payload) + OVERHEAD
        if not message.payload:
            return
        if self._retained_bytes + size > self.limits.retained_bytes:
            self.note("not retained", "no room to retain a message on %r", message.topic)
            return
        self._retained[message.topic] = message
        self._retained_bytes += size

    def leave(self, link: Link, *, will: bool) -> None:
        """Take a connection off its session, which ends if it was a clean one; publish the will if asked."""
        session, link.session = link.session, None
        if session is None:
            return
        session.suspend()
        if session.clean:
            self._forget(session)
        if will and link.will is not None:
            self.route(link.will)

    def _forget(self, session: Session) -> None:
        for topic_filter in tuple(session.filters):
            self._unsubscribe(session, topic_filter)
        del self.sessions[session.client_id]

    def note(self, kind: str, text: str, *values: object) -> None:
        """Count trouble of a kind, and log it the 1st, 2nd, 4th, 8th … time: a client must not fill the log."""
        self.counts[kind] += 1
        count = self.counts[kind]
        if count & (count - 1) == 0:
            log.warning(text + " (%s times)", *values, count)


async def start(
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext,
    allowed: Callable[[str, str, str], bool],
    limits: Limits = Limits(),
) -> Broker:
    """Listen on `host` and `port` (0: any free one, see `Broker.port`) and return the running broker.

    `allowed(identity, "publish" | "subscribe", topic or filter)` decides what a client may do. Raises OSError when the
    port is taken, and ValueError when `tls` does not demand certificates of clients.
    """
    if tls.verify_mode is not ssl.CERT_REQUIRED:
        raise ValueError("the broker knows its clients by their certificates: set verify_mode to CERT_REQUIRED")
    listener = socket.create_server((host, port), backlog=512)
    listener.setblocking(False)
    broker = Broker(listener, allowed=allowed, limits=limits)
    broker.spawn(broker.accept(tls))
    return broker
