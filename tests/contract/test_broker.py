"""What the local platform's broker does, whichever it is: our own or mosquitto."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.platform import broker, mosquitto
from tests.contract.mqtt import (
    Client,
    Stoppable,
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
from tests.parts import require

OWN, OTHER = "SIM-00000001", "SIM-00000002"
FOREIGN_TOPICS = (
    topics.heartbeat(OTHER),
    topics.heartbeat(OWN + "0"),
    topics.heartbeat(OWN[:-1]),
    topics.heartbeat(OWN.lower()),
    topics.heartbeat(OWN) + "/more",
    topics.session_response(OWN),
    topics.device_commands(OWN),
    topics.COMMANDS_BROADCAST,
)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture(params=["builtin", "mosquitto"])
def port(request: pytest.FixtureRequest, authority: Authority, tmp_path: Path) -> Iterator[int]:
    server = authority.server
    start: Callable[[], Coroutine[Any, Any, Stoppable]]
    if request.param == "builtin":
        tls = server.server_context()
        start = partial(broker.start, host="127.0.0.1", port=0, tls=tls, allowed=topics.allowed)
    else:
        files = {"ca": server.ca, "certificate": server.certificate, "key": server.key}
        folder, program = tmp_path / "mosquitto", require("mosquitto")
        start = partial(mosquitto.start, host="127.0.0.1", port=0, directory=folder, program=program, **files)
    with running(start) as started:
        yield started.port


@pytest.fixture
def own(authority: Authority) -> Certificate:
    return authority.issue(OWN)


@pytest.fixture
def other(authority: Authority) -> Certificate:
    return authority.issue(OTHER)


@pytest.fixture
def platform(port: int, authority: Authority) -> Iterator[Client]:
    """The platform's own client, which listens to everything."""
    with Client(port, authority.platform) as client:
        client.subscribe("roboticks/#")
        yield client


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_device_publishes_on_its_own_topics(port: int, own: Certificate, platform: Client, qos: int) -> None:
    with Client(port, own) as device:
        granted = [topic.format(dsn=OWN) for action, topic in topics.DEVICE_RULES if action == "publish"]
        for topic in granted:
            device.publish(topic, topic.encode(), qos=qos)
        assert platform.take(len(granted)) == [topic.encode() for topic in granted]


def test_a_device_receives_on_its_own_topics(port: int, own: Certificate, platform: Client) -> None:
    with Client(port, own) as device:
        for action, topic in topics.DEVICE_RULES:
            if action == "subscribe":
                assert device.subscribe(topic.format(dsn=OWN)) == 1
                platform.publish(topic.format(dsn=OWN), b"for you")
                assert device.take() == [b"for you"]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_device_cannot_publish_on_a_foreign_topic(port: int, own: Certificate, platform: Client, qos: int) -> None:
    with Client(port, own) as device:
        for topic in FOREIGN_TOPICS:
            device.publish(topic, b"forged", qos=qos)
        device.publish(topics.heartbeat(OWN), b"own")
        assert platform.take() == [b"own"]


@pytest.mark.parametrize(
    "topic_filter",
    [
        "#",
        "+/+/+/heartbeat",
        "roboticks/#",
        "roboticks/fleet/+/session/response",
        f"roboticks/fleet/{OTHER}/#",
        topics.session_response(OTHER),
        topics.device_commands(OTHER),
    ],
)
def test_a_device_hears_nothing_that_is_foreign(
    port: int, own: Certificate, platform: Client, topic_filter: str
) -> None:
    with Client(port, own) as device:
        device.subscribe(topic_filter)
        device.subscribe(topics.device_commands(OWN))
        for topic in (topics.session_response(OTHER), topics.device_commands(OTHER), topics.heartbeat(OTHER)):
            platform.publish(topic, b"foreign", retain=True)
        device.subscribe(topic_filter)  # nor what is retained
        platform.publish(topics.device_commands(OWN), b"own")
        assert device.take() == [b"own"]


def test_a_client_without_a_certificate_is_refused(port: int, own: Certificate) -> None:
    with raw(port, own.without_certificate()) as sock:
        send(sock, connect_packet(OWN))
        assert read_packet(sock) == (0, b"")


def test_a_certificate_of_another_authority_is_refused(port: int, own: Certificate, tmp_path: Path) -> None:
    forged = Authority(tmp_path / "forged").issue(OWN)
    with Client(port, replace(forged, ca=own.ca)) as client:
        assert client.refused


@pytest.mark.parametrize("clean", [True, False])
def test_a_stolen_client_id_does_not_harm_its_owner(
    port: int, own: Certificate, other: Certificate, platform: Client, clean: bool
) -> None:
    with Client(port, own, clean=False) as owner:
        owner.subscribe(topics.device_commands(OWN))
        with Client(port, other, client_id=OWN, clean=clean) as thief:
            if not thief.refused:
                thief.subscribe(topics.device_commands(OWN))
                thief.publish(topics.heartbeat(OWN), b"forged")
            platform.publish(topics.device_commands(OWN), b"secret")
            assert owner.take() == [b"secret"]
            owner.publish(topics.heartbeat(OWN), b"still here")
            assert not owner.gone.is_set()
            assert thief.messages.empty()
        assert platform.take(2) == [b"secret", b"still here"]


def test_a_will_is_delivered_when_the_connection_is_lost(port: int, own: Certificate, platform: Client) -> None:
    device = Client(port, own, will=(topics.heartbeat(OWN), b"offline"))
    device.drop()
    assert platform.take() == [b"offline"]


def test_a_will_is_delivered_after_a_protocol_error(port: int, own: Certificate, platform: Client) -> None:
    with raw(port, own.client_context()) as sock:
        sock.sendall(connect_packet(OWN, will=(topics.heartbeat(OWN), b"offline", 1, False)))
        assert read_packet(sock) == (0x20, b"\0\0")
        sock.sendall(b"\xff\xff\xff\xff\xff\xff")
        assert is_closed(sock)
    assert platform.take() == [b"offline"]


def test_no_will_is_delivered_after_a_clean_disconnect(port: int, own: Certificate, platform: Client) -> None:
    with Client(port, own, will=(topics.heartbeat(OWN), b"offline")):
        pass
    with Client(port, own) as device:
        device.publish(topics.logs(OWN), b"next")
    assert platform.take() == [b"next"]


@pytest.mark.parametrize("topic", FOREIGN_TOPICS)
def test_a_will_on_a_foreign_topic_is_never_delivered(
    port: int, own: Certificate, platform: Client, topic: str
) -> None:
    device = Client(port, own, will=(topic, b"forged"))
    if not device.refused:
        device.drop()
    with Client(port, own) as device:
        device.publish(topics.logs(OWN), b"next")
    assert platform.take() == [b"next"]


def test_keep_alive_expiry_publishes_the_will(port: int, own: Certificate, platform: Client) -> None:
    with raw(port, own.client_context()) as sock:
        sock.sendall(connect_packet(OWN, keep_alive=1, will=(topics.heartbeat(OWN), b"offline", 0, False)))
        assert platform.take() == [b"offline"]
        assert read_packet(sock) == (0x20, b"\0\0")
        assert is_closed(sock)


def test_a_retained_message_reaches_later_subscribers_until_it_is_cleared(
    port: int, own: Certificate, platform: Client
) -> None:
    topic = topics.session_response(OWN)
    platform.publish(topic, b"first", b"second", retain=True)
    with Client(port, own) as device:
        device.subscribe(topic)
        message = device.messages.get(timeout=5)
        assert (message.payload, message.retain) == (b"second", True)
        platform.publish(topic, b"third", retain=True)
        message = device.messages.get(timeout=5)
        assert (message.payload, message.retain) == (b"third", False)
    platform.publish(topic, b"", retain=True)
    with Client(port, own) as device:
        device.subscribe(topic)
        platform.publish(topic, b"fresh")
        assert device.take() == [b"fresh"]


def test_a_retained_will_is_kept(port: int, own: Certificate, authority: Authority) -> None:
    with raw(port, own.client_context()) as sock:
        sock.sendall(connect_packet(OWN, will=(topics.heartbeat(OWN), b"offline", 1, True)))
        read_packet(sock)
        sock.sendall(packet(0))
        assert is_closed(sock)
    with Client(port, authority.platform) as platform:
        platform.subscribe(topics.heartbeat("+"))
        assert platform.take() == [b"offline"]


def test_acknowledged_messages_survive_the_publishers_disconnect(port: int, own: Certificate, platform: Client) -> None:
    payloads = [b"%d" % number for number in range(1000)]
    with Client(port, own) as device:
        device.publish(topics.logs(OWN), *payloads)
    assert platform.take(len(payloads)) == payloads


@pytest.mark.parametrize("qos", [0, 1])
def test_the_order_is_kept(port: int, own: Certificate, platform: Client, qos: int) -> None:
    payloads = [b"%d" % number + b"." * 500 for number in range(2000)]
    with Client(port, own) as device:
        device.publish(topics.logs(OWN), *payloads, qos=qos)
        assert platform.take(len(payloads)) == payloads


def test_a_subscriber_that_pauses_gets_everything_in_order_once_it_reads_again(
    port: int, own: Certificate, authority: Authority
) -> None:
    payloads = [b"%d" % number + bytes(8000) for number in range(1500)]
    context = authority.platform.client_context()
    with raw(port, context, receive_buffer=4096) as lazy, Client(port, own) as device:
        lazy.sendall(connect_packet(topics.PLATFORM_ID) + subscribe_packet([(topics.logs(OWN), 0)]))
        assert [read_packet(lazy)[0] for _ in range(2)] == [0x20, 0x90]
        device.publish(topics.logs(OWN), *payloads, qos=0)
        device.publish(topics.heartbeat(OWN), b"the broker has them all")
        expected = len(topics.logs(OWN)) + 2
        for payload in payloads:
            assert read_packet(lazy)[1][expected:] == payload


def test_a_persistent_session_gets_what_came_while_it_was_away(port: int, own: Certificate, platform: Client) -> None:
    payloads = [b"%d" % number for number in range(500)]
    with Client(port, own, clean=False) as device:
        assert not device.session_present
        device.subscribe(topics.device_commands(OWN))
    platform.publish(topics.device_commands(OWN), *payloads)
    with Client(port, own, clean=False) as device:
        assert device.session_present
        assert device.take(len(payloads)) == payloads
    with Client(port, own, clean=True) as device:
        assert not device.session_present
    with Client(port, own, clean=False) as device:
        assert not device.session_present
        platform.publish(topics.device_commands(OWN), b"not subscribed any more")
        device.subscribe(topics.session_response(OWN))
        platform.publish(topics.session_response(OWN), b"next")
        assert device.take() == [b"next"]


def test_what_was_not_acknowledged_is_sent_again_first_and_in_order(
    port: int, own: Certificate, platform: Client
) -> None:
    payloads = [b"%d" % number for number in range(6)]
    will = (topics.heartbeat(OWN), b"offline")
    with Client(port, own, clean=False, manual_ack=True, will=will) as device:
        device.subscribe(topics.device_commands(OWN))
        platform.publish(topics.device_commands(OWN), *payloads[:4])
        messages = [device.messages.get(timeout=5) for _ in range(4)]
        assert [message.dup for message in messages] == [False] * 4
        device.acknowledge(messages[0])
        device.acknowledge(messages[1])
        # the acknowledgements are with the broker once this later packet is
        device.publish(topics.logs(OWN), b"now")
        device.drop()
        while platform.take() != [b"offline"]:  # the broker has noticed
            pass
    platform.publish(topics.device_commands(OWN), *payloads[4:])
    with Client(port, own, clean=False) as device:
        messages = [device.messages.get(timeout=5) for _ in range(4)]
        assert [message.payload for message in messages] == payloads[2:]
        assert [message.dup for message in messages] == [True, True, False, False]


def test_the_same_client_takes_over_its_own_connection(port: int, own: Certificate, platform: Client) -> None:
    first = Client(port, own, clean=False)
    first.subscribe(topics.device_commands(OWN))
    with first, Client(port, own, clean=False) as second:
        assert first.gone.wait(5)
        assert second.session_present
        platform.publish(topics.device_commands(OWN), b"for the second")
        assert second.take() == [b"for the second"]
        assert first.messages.empty()


def test_a_message_of_120_kilobytes_arrives_whole(port: int, own: Certificate, platform: Client) -> None:
    payload = bytes(range(256)) * 480
    with Client(port, own) as device:
        device.publish(topics.logs(OWN), payload, payload, qos=1)
    assert platform.take(2) == [payload, payload]


def test_a_packet_beyond_the_limit_ends_its_connection_only(port: int, own: Certificate, platform: Client) -> None:
    with raw(port, own.client_context()) as sock:
        sock.sendall(connect_packet(OWN))
        read_packet(sock)
        send(sock, publish_packet(topics.logs(OWN), bytes(300_000))[:100_000])
        assert is_closed(sock)
    with Client(port, own) as device:
        device.publish(topics.logs(OWN), b"small")
    assert platform.take() == [b"small"]


def test_a_message_sent_twice_with_qos_2_arrives_once(port: int, own: Certificate, platform: Client) -> None:
    with raw(port, own.client_context()) as sock:
        sock.sendall(connect_packet(OWN))
        read_packet(sock)
        for duplicate in (False, True):
            sock.sendall(publish_packet(topics.logs(OWN), b"once", qos=2, packet_id=7, duplicate=duplicate))
            assert read_packet(sock) == (0x50, b"\0\x07")
        sock.sendall(packet(0x62, b"\0\x07"))
        assert read_packet(sock) == (0x70, b"\0\x07")
        sock.sendall(publish_packet(topics.logs(OWN), b"again", qos=2, packet_id=7))
        assert read_packet(sock) == (0x50, b"\0\x07")
        sock.sendall(packet(0x62, b"\0\x07"))
        assert read_packet(sock) == (0x70, b"\0\x07")
    assert platform.take(2) == [b"once", b"again"]


def test_an_unsubscribed_topic_is_not_delivered(port: int, own: Certificate, platform: Client) -> None:
    with raw(port, own.client_context()) as sock:
        sock.sendall(connect_packet(OWN) + subscribe_packet([(topics.session_response(OWN), 0)]))
        assert read_packet(sock)[0] == 0x20
        assert read_packet(sock) == (0x90, b"\0\x01\0")
        sock.sendall(packet(0xA2, b"\0\x02" + subscribe_packet([(topics.session_response(OWN), 0)])[4:-1]))
        assert read_packet(sock) == (0xB0, b"\0\x02")
        platform.publish(topics.session_response(OWN), b"not wanted")
        sock.sendall(packet(0xC0))
        assert read_packet(sock) == (0xD0, b"")


def test_fifty_devices_talk_at_once(port: int, authority: Authority, platform: Client) -> None:
    names = [f"SIM-{number:08X}" for number in range(50)]
    with ExitStack() as stack:
        devices = [stack.enter_context(Client(port, authority.issue(name))) for name in names]
        for device in devices:
            device.subscribe(topics.COMMANDS_BROADCAST)
        for name, device in zip(names, devices, strict=True):
            device.publish(topics.heartbeat(name), name.encode())
        assert sorted(platform.take(len(names))) == [name.encode() for name in names]
        platform.publish(topics.COMMANDS_BROADCAST, b"all of you")
        assert [device.take() for device in devices] == [[b"all of you"]] * len(devices)


def test_garbage_does_not_disturb_others(port: int, own: Certificate, other: Certificate, platform: Client) -> None:
    garbage = (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\x02\0\0",
        packet(0x30, b"\0\x01a"),
        connect_packet(OTHER) * 2,
        connect_packet(OTHER) + packet(0x82, b"\0\x01"),
        connect_packet(OTHER) + packet(0x36, b"\0\x01a\0\x01"),
        connect_packet(OTHER) + packet(0x30, b"\0\x02\xff\xfe"),
        connect_packet(OTHER) + packet(0xF0),
    )
    with Client(port, own) as device, ExitStack() as stack:
        for content in garbage:
            half_open = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            plain.sendall(content)
            half_open.sendall(b"\x16\x03\x01")
            with raw(port, other.client_context()) as sock:
                send(sock, content)
                assert is_closed(sock)
            device.publish(topics.logs(OWN), content)
            assert platform.take() == [content]
