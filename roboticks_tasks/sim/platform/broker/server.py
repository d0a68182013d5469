"""The broker: what each packet of a client means for the sessions of all."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable

from roboticks_tasks.sim.platform.broker import packets
from roboticks_tasks.sim.platform.broker.filters import Retained, Subscriptions
from roboticks_tasks.sim.platform.broker.limits import DEFAULTS, SHOWN, UNRELEASED, Limits, check
from roboticks_tasks.sim.platform.broker.link import Link
from roboticks_tasks.sim.platform.broker.listening import Listener
from roboticks_tasks.sim.platform.broker.packets import (
    Connect,
    Filters,
    Message,
    Packet,
    ProtocolError,
    Signal,
    encode,
    encode_signal,
)
from roboticks_tasks.sim.platform.broker.session import Session
from roboticks_tasks.sim.platform.throttle import Throttle

log = logging.getLogger(__name__)


class Broker:
    """A running broker; made by `start`."""

    def __init__(self, listening: socket.socket, *, allowed: Callable[[str, str, str], bool], limits: Limits) -> None:
        self.port: int = listening.getsockname()[1]
        self.limits = limits
        self.links: set[Link] = set()
        self.sessions: OrderedDict[str, Session] = OrderedDict()
        self.listener = Listener(listening, self)
        self._allowed = allowed
        self._subscriptions = Subscriptions()
        self._retained = Retained(limits.retained_bytes)
        self._connections: Counter[str] = Counter()
        self._trouble = Throttle(log)

    @property
    def counts(self) -> Counter[str]:
        """How often each kind of trouble happened: denied publishes, refused connections, dropped messages."""
        return self._trouble.counts

    def note(self, kind: str, text: str, *values: object) -> None:
        """Count and log trouble of a kind: a client must not fill the log."""
        self._trouble.note(kind, text, *values)

    async def stop(self) -> None:
        """Close the port and every connection, without wills; returns when all are closed."""
        await self.listener.stop()
        links = list(self.links)
        for link in links:
            link.close(abort=True, will=False)
        if links:
            await asyncio.wait([link.closed for link in links], timeout=1.0)

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
        check(packet, self.limits)
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
        elif packet.kind == packets.SUBSCRIBE:
            self._subscribe(link, session, packet)
        else:
            for topic_filter, _ in packet.filters:
                self._subscriptions.remove(session, topic_filter)
            link.send(encode_signal(packets.UNSUBACK, packet.packet_id))

    def _connect(self, link: Link, packet: Connect) -> None:
        refusal = self._refusal(link, packet)
        if refusal:
            name = packet.client_id[:SHOWN]
            self.note("refused", "refused %s as client id %r: code %s", link.identity, name, refusal)
            link.send(encode(packets.CONNACK, bytes((0, refusal))))
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
        link.send(encode(packets.CONNACK, bytes((present, 0))))  # and then what is queued

    def _refusal(self, link: Link, packet: Connect) -> int:
        """Return why a connect is refused, as a CONNACK code; 0 when it is welcome."""
        if packet.level != packets.LEVEL:
            return packets.BAD_VERSION
        if link.identity is None:
            return packets.NOT_AUTHORIZED
        if packet.client_id != link.identity:
            return packets.BAD_CLIENT_ID
        if packet.will is not None and not self._allowed(link.identity, "publish", packet.will.topic):
            return packets.NOT_AUTHORIZED
        if packet.client_id not in self.sessions and len(self.sessions) >= self.limits.sessions:
            away = next((session for session in self.sessions.values() if session.link is None), None)
            if away is None:
                return packets.UNAVAILABLE
            self._forget(away)
        return 0

    def _publish(self, link: Link, session: Session, message: Message) -> None:
        first = message.qos < 2 or message.packet_id not in session.received
        if not self._allowed(session.client_id, "publish", message.topic):
            self.note("denied publish", "%s may not publish on %r", session.client_id, message.topic[:SHOWN])
        elif first:
            self.route(message)
        if message.qos == 1:
            link.send(encode_signal(packets.PUBACK, message.packet_id))
        elif message.qos == 2:
            session.received.add(message.packet_id)
            if len(session.received) > UNRELEASED:
                raise ProtocolError(f"more than {UNRELEASED} publishes of QoS 2 are not released")
            link.send(encode_signal(packets.PUBREC, message.packet_id))

    def _signal(self, link: Link, session: Session, packet: Signal) -> None:
        if packet.kind == packets.PUBACK:
            session.acknowledge(packet.packet_id)
        elif packet.kind == packets.PUBREL:
            session.received.discard(packet.packet_id)
            link.send(encode_signal(packets.PUBCOMP, packet.packet_id))
        elif packet.kind == packets.PINGREQ:
            link.send(encode(packets.PINGRESP, b""))
        elif packet.kind == packets.DISCONNECT:
            link.close(will=False)
        else:
            raise ProtocolError(f"packet type {packet.kind} although nothing was sent with QoS 2")

    def _subscribe(self, link: Link, session: Session, packet: Filters) -> None:
        granted = bytearray()
        for topic_filter, wanted in packet.filters:
            known = topic_filter in session.filters
            if not self._allowed(session.client_id, "subscribe", topic_filter):
                self.note("denied subscribe", "%s may not subscribe to %r", session.client_id, topic_filter[:SHOWN])
                granted.append(packets.DENIED)
            elif not known and len(session.filters) >= self.limits.subscriptions:
                granted.append(packets.DENIED)
            else:
                granted.append(min(wanted, 1))
                self._subscriptions.add(session, topic_filter, granted[-1])
        link.send(encode(packets.SUBACK, packet.packet_id.to_bytes(2, "big") + granted))
        for (topic_filter, _), qos in zip(packet.filters, granted, strict=True):
            if qos != packets.DENIED:
                for message in self._retained.matching(topic_filter):
                    self._deliver(session, Message(message.topic, message.payload, min(qos, message.qos), retain=True))

    def route(self, message: Message) -> None:
        """Deliver to each subscriber once, at the highest QoS that its matching filters have; keep a retained one."""
        if message.retain and not self._retained.keep(message):
            self.note("not retained", "no room to retain a message on %r", message.topic)
        for session, qos in self._subscriptions.receivers(message.topic).items():
            self._deliver(session, Message(message.topic, message.payload, min(qos, message.qos)))

    def _deliver(self, session: Session, message: Message) -> None:
        if not session.offer(message, self.limits.queue_bytes):
            self.note("dropped", "dropped a QoS %s message: the queue of %s is full", message.qos, session.client_id)
            if message.qos and session.link is not None:
                # not now: its will may make other queues overflow while this message is still being delivered
                session.link.loop.call_soon(session.link.fail, "reads too slowly")

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
            self._subscriptions.remove(session, topic_filter)
        del self.sessions[session.client_id]


async def start(
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext,
    allowed: Callable[[str, str, str], bool],
    limits: Limits = DEFAULTS,
) -> Broker:
    """Listen on `host` and `port` (0: any free one, see `Broker.port`) and return the running broker.

    `allowed(identity, "publish" | "subscribe", topic or filter)` decides what a client may do. Raises OSError when the
    port is taken, and ValueError when `tls` does not demand certificates of clients.
    """
    if tls.verify_mode is not ssl.CERT_REQUIRED:
        raise ValueError("the broker knows its clients by their certificates: set verify_mode to CERT_REQUIRED")
    listening = socket.create_server((host, port), backlog=512)
    listening.setblocking(False)
    broker = Broker(listening, allowed=allowed, limits=limits)
    broker.listener.start(tls)
    return broker
