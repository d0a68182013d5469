"""Nonsense over real connections: the broker lives, keeps nothing, and the device beside it gets all its messages."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.platform import broker, mosquitto
from roboticks_tasks.sim.platform.broker import packets, parsing
from roboticks_tasks.sim.platform.broker.link import Link
from roboticks_tasks.sim.platform.broker.session import Session
from tests.conditions import until
from tests.contract.mqtt import (
    Client,
    Stoppable,
    connect_packet,
    is_closed,
    packet,
    publish_packet,
    raw,
    running,
    send,
    subscribe_packet,
    text,
    unsubscribe_packet,
)
from tests.contract.pki import Authority, Certificate
from tests.parts import require

FUZZER, NEIGHBOUR = "SIM-0BADBEEF", "SIM-00000001"
LIMIT = broker.Limits().packet_bytes

calm = partial(
    settings,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

VALID = (
    connect_packet(FUZZER),
    connect_packet(FUZZER, clean=False, will=(topics.heartbeat(FUZZER), b"gone", 1, True)),
    publish_packet(topics.logs(FUZZER), b"text", qos=1),
    publish_packet(topics.logs(FUZZER), b"text", qos=2, packet_id=7),
    subscribe_packet([(topics.device_commands(FUZZER), 1)]),
    unsubscribe_packet([topics.device_commands(FUZZER)]),
    packet(0x62, b"\0\7"),
    packet(0x40, b"\0\7"),
    packet(0xC0),
    packet(0xE0),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid packet with some bytes changed, cut, or with more behind it."""
    data = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=8))


absurd_lengths = st.builds(
    lambda first, length, rest: bytes([first]) + length + rest,
    st.integers(0, 255),
    st.sampled_from([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x01", b"\x80\x80\x80\x80\x01", b"\xff"]),
    st.binary(max_size=20),
)
odd_texts = st.sampled_from(
    [b"", b"\0", b"a\0b", b"\xff\xfe", b"\xed\xa0\x80", b"+", b"#", b"/" * 40, b"a" * 65535, b"$SYS/x"]
)
odd_topics = st.builds(lambda name, qos: packet(0x30 | qos << 1, text(name) + b"\0\1x"), odd_texts, st.integers(0, 3))
odd_filters = st.builds(
    lambda names, qos: packet(0x82, b"\0\1" + b"".join(text(name) + bytes([qos]) for name in names)),
    st.lists(odd_texts | st.sampled_from([b"+/" * 400 + b"#", b"roboticks/" + b"+/" * 31 + b"#"]), max_size=3),
    st.integers(0, 3),
)
anything = st.one_of(st.binary(max_size=64), mutated(), st.sampled_from(VALID), absurd_lengths, odd_topics, odd_filters)
conversations = st.tuples(st.booleans(), st.lists(anything, min_size=1, max_size=5))


@given(anything, st.integers(1, 400))
@calm(max_examples=400)
def test_the_parser_raises_a_protocol_error_or_nothing_and_never_reads_beyond_the_packet(
    data: bytes, limit: int
) -> None:
    at = 0
    with contextlib.suppress(packets.ProtocolError):
        while (found := parsing.next_packet(data, at, limit)) is not None:
            _, end = found
            assert at < end <= len(data)
            assert end - at <= limit
            at = end


@given(mutated())
@calm(max_examples=200)
def test_a_packet_that_is_cut_off_is_waited_for_or_refused(data: bytes) -> None:
    for end in range(len(data)):
        with contextlib.suppress(packets.ProtocolError):
            found = parsing.next_packet(data[:end], 0, LIMIT)
            assert found is None or found[1] <= end


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture(params=["builtin", "mosquitto"])
def server(request: pytest.FixtureRequest, authority: Authority, tmp_path: Path) -> Iterator[Stoppable]:
    certificate = authority.server
    start: Callable[[], Coroutine[Any, Any, Stoppable]]
    if request.param == "builtin":
        tls = certificate.server_context()
        start = partial(broker.start, host="127.0.0.1", port=0, tls=tls, allowed=topics.allowed)
    else:
        files = {"ca": certificate.ca, "certificate": certificate.certificate, "key": certificate.key}
        folder, program = tmp_path / "mosquitto", require("mosquitto")
        start = partial(mosquitto.start, host="127.0.0.1", port=0, directory=folder, program=program, **files)
    with running(start) as started:
        yield started


class Neighbours:
    """A device that behaves, and the platform that hears it."""

    def __init__(self, port: int, authority: Authority) -> None:
        self.platform = Client(port, authority.platform)
        self.device = Client(port, authority.issue(NEIGHBOUR))
        self.platform.subscribe(topics.logs(NEIGHBOUR))
        self.device.subscribe(topics.device_commands(NEIGHBOUR))
        self.count = 0

    def talk(self) -> None:
        """Send one message each way, and expect just those."""
        self.count += 1
        mark = str(self.count).encode()
        self.device.publish(topics.logs(NEIGHBOUR), mark)
        self.platform.publish(topics.device_commands(NEIGHBOUR), mark)
        assert self.platform.take() == [mark]
        assert self.device.take() == [mark]
        assert not self.device.gone.is_set()


@pytest.fixture
def neighbours(server: Stoppable, authority: Authority) -> Iterator[Neighbours]:
    pair = Neighbours(server.port, authority)
    with pair.platform, pair.device:
        yield pair


def descriptors(server: Stoppable) -> int:
    """Count the open files of the process that the broker is in."""
    pid = server.pid if isinstance(server, mosquitto.Mosquitto) else os.getpid()
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - counted, not looked at


def test_a_device_beside_a_fuzzer_gets_all_its_messages(
    server: Stoppable, authority: Authority, neighbours: Neighbours, caplog: pytest.LogCaptureFixture
) -> None:
    context = authority.issue(FUZZER).client_context()
    neighbours.talk()
    before = descriptors(server)

    @given(conversations)
    @calm(max_examples=60)
    def fuzz(conversation: tuple[bool, list[bytes]]) -> None:
        greets, packets = conversation
        with raw(server.port, context) as sock:
            send(sock, (connect_packet(FUZZER) if greets else b"") + b"".join(packets))
        if neighbours.count < 20:
            neighbours.talk()

    fuzz()
    neighbours.talk()
    until(lambda: descriptors(server) <= before, "every connection of the fuzzer is closed")
    assert [record for record in caplog.records if record.name == "asyncio" or record.exc_info] == []
    if isinstance(server, broker.Broker):
        until(lambda: len(server.links) == 2, "only the neighbours are connected")
        assert set(server.sessions) <= {FUZZER, NEIGHBOUR, topics.PLATFORM_ID}
        assert sum(server._connections.values()) == 2


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(publish_packet(topics.logs(FUZZER), b"x"), id="a message before CONNECT"),
        pytest.param(packet(0xC0), id="a ping before CONNECT"),
        pytest.param(connect_packet(FUZZER) * 2, id="a second CONNECT"),
        pytest.param(connect_packet(FUZZER) + b"\x30\xff\xff\xff\xff\x01", id="a length of five bytes"),
        pytest.param(connect_packet(FUZZER) + b"\x30\xff\xff\xff\x7f", id="a packet of 256 MB"),
        pytest.param(connect_packet(FUZZER) + packet(0x30, text(b"\xff\xfe") + b"x"), id="a topic that is not UTF-8"),
        pytest.param(connect_packet(FUZZER) + packet(0x30, text(b"a\0b") + b"x"), id="a null character"),
        pytest.param(connect_packet(FUZZER) + packet(0xF0), id="a packet type that there is not"),
    ],
)
def test_what_is_out_of_place_ends_the_connection_and_only_that(
    server: Stoppable, authority: Authority, neighbours: Neighbours, talk: bytes
) -> None:
    with raw(server.port, authority.issue(FUZZER).client_context()) as sock:
        send(sock, talk)
        assert is_closed(sock)
    neighbours.talk()


@pytest.fixture
def ours(authority: Authority) -> Iterator[broker.Broker]:
    tls = authority.server.server_context()
    limits = broker.Limits(identity_connections=3, burst_packets=200, packets_per_second=400.0)
    start = partial(broker.start, host="127.0.0.1", port=0, tls=tls, allowed=topics.allowed, limits=limits)
    with running(start) as started:
        yield started


@pytest.fixture
def fuzzer(authority: Authority) -> Certificate:
    return authority.issue(FUZZER)


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(subscribe_packet([("a" * 2000, 1)]), id="a huge filter"),
        pytest.param(subscribe_packet([("+/" * 100 + "#", 1)]), id="a deep filter"),
        pytest.param(subscribe_packet([(f"f/{number}", 1) for number in range(5000)]), id="thousands of filters"),
        pytest.param(unsubscribe_packet([f"f/{number}" for number in range(5000)]), id="thousands to unsubscribe"),
        pytest.param(publish_packet("t" * 2000, b""), id="a huge topic"),
        pytest.param(publish_packet("/" * 40, b""), id="a deep topic"),
        pytest.param(
            b"".join(publish_packet(topics.logs(FUZZER), b"", qos=2, packet_id=n + 1) for n in range(5000)),
            id="thousands of half done publishes",
        ),
    ],
)
def test_beyond_the_limits_our_broker_hangs_up(authority: Authority, fuzzer: Certificate, talk: bytes) -> None:
    tls = authority.server.server_context()
    start = partial(broker.start, host="127.0.0.1", port=0, tls=tls, allowed=topics.allowed)
    with running(start) as server, raw(server.port, fuzzer.client_context()) as sock:
        send(sock, connect_packet(FUZZER) + talk)
        assert is_closed(sock)


def test_one_device_cannot_take_all_connections(ours: broker.Broker, authority: Authority, fuzzer: Certificate) -> None:
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(raw(ours.port, fuzzer.client_context())) for _ in range(4)]
        assert is_closed(many[-1])
        assert ours.counts["crowded"] == 1
        neighbours = Neighbours(ours.port, authority)
        with neighbours.platform, neighbours.device:
            neighbours.talk()
    until(lambda: not ours.links and not ours._connections, "all are forgotten")


def test_a_device_that_floods_is_slowed_down_and_loses_nothing(
    ours: broker.Broker, authority: Authority, fuzzer: Certificate
) -> None:
    with Client(ours.port, authority.platform) as platform, Client(ours.port, fuzzer) as device:
        platform.subscribe(topics.logs(FUZZER))
        payloads = [str(number).encode() for number in range(300)]
        device.publish(topics.logs(FUZZER), *payloads)
        assert platform.take(300) == payloads
        assert ours.counts["throttled"] >= 1
        assert not device.gone.is_set()


def test_garbage_before_tls_leaves_nothing(ours: broker.Broker) -> None:
    before = descriptors(ours)
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(100), b"", bytes(range(256))):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ours.port)) as plain:
            plain.sendall(data)
            plain.shutdown(socket.SHUT_WR)
            plain.settimeout(5)
            while plain.recv(4096):
                pass
    until(lambda: not ours.links and descriptors(ours) <= before, "nothing is open")


def test_many_nonsense_connections_leave_no_memory_behind(ours: broker.Broker, fuzzer: Certificate) -> None:
    context: ssl.SSLContext = fuzzer.client_context()

    def storm(count: int) -> int:
        for number in range(count):
            with raw(ours.port, context) as sock:
                send(sock, connect_packet(FUZZER) + bytes([number % 256]) * 50)
        until(lambda: not ours.links, "all are closed")
        gc.collect()
        return sum(isinstance(each, Link | Session) for each in gc.get_objects())

    first = storm(5)
    assert storm(40) <= first + 1
