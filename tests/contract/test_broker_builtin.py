"""What our own broker does beyond what both brokers do: refusals with a reason, bounds, and a quick end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import pytest

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.platform import broker
from roboticks_tasks.sim.platform.broker import packets
from roboticks_tasks.sim.platform.broker.limits import WINDOW
from roboticks_tasks.sim.platform.broker.link import Link
from tests.contract.mqtt import (
    Client,
    connect_packet,
    is_closed,
    packet,
    publish_packet,
    raw,
    read_packet,
    running,
    send,
    subscribe_packet,
)
from tests.contract.pki import Authority, Certificate

OWN, OTHER = "SIM-00000001", "SIM-00000002"
SMALL = broker.Limits(
    packet_bytes=64 * 1024,
    queue_bytes=256 * 1024,
    retained_bytes=4096,
    connections=4,
    sessions=3,
    subscriptions=2,
    connect_seconds=0.3,
)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


def serve(authority: Authority, limits: broker.Limits) -> AbstractContextManager[broker.Broker]:
    tls = authority.server.server_context()
    return running(partial(broker.start, host="127.0.0.1", port=0, tls=tls, allowed=topics.allowed, limits=limits))


@pytest.fixture
def server(authority: Authority) -> Iterator[broker.Broker]:
    with serve(authority, broker.Limits()) as started:
        yield started


@pytest.fixture
def small(authority: Authority) -> Iterator[broker.Broker]:
    """A broker with small limits."""
    with serve(authority, SMALL) as started:
        yield started


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (connect_packet(OTHER), packets.BAD_CLIENT_ID),
        (connect_packet(""), packets.BAD_CLIENT_ID),
        (connect_packet(OWN, level=5), packets.BAD_VERSION),
        (connect_packet(OWN, will=(topics.heartbeat(OTHER), b"", 0, False)), packets.NOT_AUTHORIZED),
        (connect_packet(OWN, login=(b"user", b"password")), 0),
    ],
)
def test_a_connect_is_answered_with_the_reason(
    server: broker.Broker, authority: Authority, first: bytes, code: int
) -> None:
    with raw(server.port, authority.issue(OWN).client_context()) as sock:
        sock.sendall(first)
        assert read_packet(sock) == (0x20, bytes([0, code]))
        assert code == 0 or is_closed(sock)


def test_denials_are_answered_and_counted(server: broker.Broker, authority: Authority) -> None:
    with Client(server.port, authority.issue(OWN)) as device:
        assert device.subscribe("#") == packets.DENIED
        assert device.subscribe(topics.device_commands(OTHER)) == packets.DENIED
        device.publish(topics.heartbeat(OTHER), b"", b"", b"")
    assert server.counts == {"denied subscribe": 2, "denied publish": 3}


def test_overlapping_subscriptions_deliver_once_at_the_highest_qos(server: broker.Broker, authority: Authority) -> None:
    with Client(server.port, authority.platform) as platform, Client(server.port, authority.issue(OWN)) as device:
        for topic_filter, qos in ((topics.logs("+"), 1), ("roboticks/#", 0), (topics.logs(OWN), 0)):
            assert platform.subscribe(topic_filter, qos=qos) == qos
        device.publish(topics.logs(OWN), b"one", b"two")
        messages = [platform.messages.get(timeout=5) for _ in range(2)]
        assert [(message.payload, message.qos) for message in messages] == [(b"one", 1), (b"two", 1)]


def test_qos_2_is_granted_and_delivered_as_qos_1(server: broker.Broker, authority: Authority) -> None:
    with Client(server.port, authority.platform) as platform:
        assert platform.subscribe("roboticks/#", qos=2) == 1
        platform.publish(topics.COMMANDS_BROADCAST, b"hello", qos=2)
        assert platform.messages.get(timeout=5).qos == 1


def test_a_client_that_never_says_connect_is_dropped(small: broker.Broker, authority: Authority) -> None:
    with raw(small.port, authority.issue(OWN).client_context()) as sock:
        sock.sendall(b"\x10")  # and no more
        assert is_closed(sock)


def test_a_connection_without_a_handshake_is_dropped(small: broker.Broker) -> None:
    with socket.create_connection(("127.0.0.1", small.port)) as plain:
        plain.settimeout(5)
        assert plain.recv(1) == b""


def test_connections_beyond_the_limit_are_closed_and_later_ones_welcome(
    small: broker.Broker, authority: Authority
) -> None:
    own = authority.issue(OWN)
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", small.port))) for _ in range(5)]
        idle[-1].settimeout(5)
        assert idle[-1].recv(1) == b""
    assert small.counts["full"] == 1
    while not answers_connect(small.port, own):  # until it has noticed that the others are gone
        pass


def answers_connect(port: int, certificate: Certificate) -> bool:
    with contextlib.suppress(OSError), raw(port, certificate.client_context()) as sock:
        sock.sendall(connect_packet(certificate.name))
        return read_packet(sock) == (0x20, b"\0\0")
    return False


def test_small_packets_are_not_held_back(server: broker.Broker, authority: Authority) -> None:
    with Client(server.port, authority.issue(OWN)):
        (link,) = server.links
        sock = link.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_old_session_makes_room_for_a_new_one(small: broker.Broker, authority: Authority) -> None:
    names = [f"SIM-0000000{number}" for number in range(4)]
    certificates = [authority.issue(name) for name in names]
    for certificate in certificates:
        with Client(small.port, certificate, clean=False) as device:
            assert not device.refused
    with Client(small.port, certificates[3], clean=False) as device:
        assert device.session_present
    with Client(small.port, certificates[0], clean=False) as device:
        assert not device.session_present


def test_subscriptions_and_retained_messages_are_bounded(small: broker.Broker, authority: Authority) -> None:
    with Client(small.port, authority.platform) as platform:
        assert [platform.subscribe(f"roboticks/{number}") for number in range(3)] == [1, 1, packets.DENIED]
        assert platform.subscribe("roboticks/0", qos=0) == 0
        for number in range(100):
            platform.publish(f"roboticks/{number}", b"kept", retain=True)
        assert small.counts["not retained"] > 80


def test_a_subscriber_that_does_not_read_loses_qos_0_and_nobody_else_does(
    small: broker.Broker, authority: Authority
) -> None:
    payload = bytes(10_000)
    with (
        raw(small.port, authority.platform.client_context()) as lazy,
        Client(small.port, authority.issue(OWN)) as device,
    ):
        lazy.sendall(connect_packet(topics.PLATFORM_ID) + subscribe_packet([("roboticks/#", 0)]))
        assert read_packet(lazy)[0] == 0x20
        device.subscribe(topics.device_commands(OWN))
        for _ in range(100):
            device.publish(topics.logs(OWN), *[payload] * 20, qos=0)
            device.publish(topics.heartbeat(OWN), b"")  # acknowledged: the broker lives
        assert small.counts["dropped"] > 0
        assert sum(session.waiting for session in small.sessions.values()) <= SMALL.queue_bytes
        assert not device.gone.is_set()


def test_a_subscriber_that_does_not_read_qos_1_is_disconnected_and_its_queue_is_bounded(
    small: broker.Broker, authority: Authority
) -> None:
    with (
        raw(small.port, authority.platform.client_context()) as lazy,
        Client(small.port, authority.issue(OWN)) as device,
    ):
        lazy.sendall(connect_packet(topics.PLATFORM_ID, clean=False) + subscribe_packet([("roboticks/#", 1)]))
        assert read_packet(lazy)[0] == 0x20
        device.publish(topics.logs(OWN), *[bytes(10_000)] * 100)
        assert is_closed(lazy)
        assert sum(session.waiting for session in small.sessions.values()) <= SMALL.queue_bytes
    with Client(small.port, authority.platform, clean=False) as platform:
        assert platform.session_present
        assert [len(payload) for payload in platform.take(20)] == [10_000] * 20


class StuckTransport(asyncio.Transport):
    """A connection whose other side reads nothing."""

    def __init__(self) -> None:
        super().__init__({"peercert": {"subject": ((("commonName", OWN),),)}})
        self.written, self.aborted = b"", False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Accept any."""

    def pause_reading(self) -> None:
        """Go on: what is given to it by hand was read already."""

    def resume_reading(self) -> None:
        """Go on."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written += bytes(data)

    def abort(self) -> None:
        """Note it."""
        self.aborted = True


def connect(server: broker.Broker, *, clean: bool = True) -> tuple[Link, StuckTransport]:
    """Connect a device that subscribes to its commands, without a network."""
    link, transport = Link(server), StuckTransport()
    link.connection_made(transport)
    link.data_received(connect_packet(OWN, clean=clean) + subscribe_packet([(topics.device_commands(OWN), 1)]))
    return link, transport


def test_a_session_counts_the_bytes_it_holds_and_keeps_the_window() -> None:
    topic = topics.device_commands(OWN)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = broker.Broker(listener, allowed=topics.allowed, limits=broker.Limits())
            link, transport = connect(server, clean=False)
            session = server.sessions[OWN]
            for number in range(WINDOW + 2):
                server.route(packets.Message(topic, b"%d" % number, 1))
            await asyncio.sleep(0)
            assert transport.written.count(topic.encode()) == WINDOW
            link.data_received(packets.encode_signal(packets.PUBACK, 1) * 2)
            await asyncio.sleep(0)
            assert transport.written.count(topic.encode()) == WINDOW + 1
            link.pause_writing()
            for _ in range(3):
                server.route(packets.Message(topic, b"", 0))
            link.connection_lost(None)
            assert [message.qos for message in session.queue] == [1] * (WINDOW + 1)
            link, transport = connect(server, clean=False)
            server.route(packets.Message(topic, b"", 0))
            for number in range(1, WINDOW + 3):
                await asyncio.sleep(0)
                link.data_received(packets.encode_signal(packets.PUBACK, number))
            await asyncio.sleep(0)
            assert (session.waiting, len(session.queue), session.unacknowledged) == (0, 0, {})
            link.connection_lost(None)

    asyncio.run(scenario())


def test_a_publisher_that_does_not_read_its_acknowledgements_is_disconnected() -> None:
    async def scenario() -> StuckTransport:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = broker.Broker(listener, allowed=topics.allowed, limits=SMALL)
            link, transport = connect(server)
            link.pause_writing()
            for _ in range(SMALL.queue_bytes // 4000 + 1):
                assert not transport.aborted
                link.data_received(publish_packet(topics.logs(OWN), b"", qos=1) * 1000)
                await asyncio.sleep(0)
            return transport

    transport = asyncio.run(scenario())
    assert transport.aborted
    assert transport.written == b""


def test_what_follows_disconnect_is_not_looked_at(server: broker.Broker, authority: Authority) -> None:
    own = authority.issue(OWN)
    with Client(server.port, authority.platform) as platform:
        platform.subscribe("roboticks/#")
        with raw(server.port, own.client_context()) as sock:
            connect = connect_packet(OWN)
            send(sock, connect + packet(0xE0) + connect + publish_packet(topics.logs(OWN), b"too late"))
            assert is_closed(sock)
        with Client(server.port, own) as device:
            device.publish(topics.logs(OWN), b"in time")
        assert platform.take() == [b"in time"]


def test_it_stops_at_once_and_without_a_sound(
    authority: Authority, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    wills: list[packets.Message] = []
    will = (topics.heartbeat(OWN), b"offline")
    with ExitStack() as stack:
        with serve(authority, broker.Limits()) as server:
            platform = stack.enter_context(Client(server.port, authority.platform))
            platform.subscribe("roboticks/#")
            half_open = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            half_open.sendall(b"\x16\x03\x01")
            device = stack.enter_context(Client(server.port, authority.issue(OWN), will=will))
            caplog.clear()
            monkeypatch.setattr(server, "route", wills.append)
            began = time.monotonic()
        assert time.monotonic() - began < 0.2
        assert device.gone.wait(5)
        assert platform.gone.wait(5)
        assert wills == []
        assert half_open.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_port_in_use_is_an_oserror(server: broker.Broker, authority: Authority) -> None:
    tls = authority.server.server_context()
    with pytest.raises(OSError, match="in use") as caught:
        asyncio.run(broker.start(host="127.0.0.1", port=server.port, tls=tls, allowed=topics.allowed))
    assert caught.value.errno == errno.EADDRINUSE


def test_it_does_not_start_without_client_certificates(authority: Authority) -> None:
    tls = authority.server.server_context()
    tls.verify_mode = ssl.CERT_OPTIONAL
    with pytest.raises(ValueError, match="CERT_REQUIRED"):
        asyncio.run(broker.start(host="127.0.0.1", port=0, tls=tls, allowed=topics.allowed))
