"""The wire format of our own broker: what is written is read back, and garbage is an error and nothing worse."""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.platform import broker
from roboticks_tasks.sim.platform.broker import filters, packets, parsing
from roboticks_tasks.sim.platform.broker.link import common_name
from tests.contract.mqtt import (
    Client,
    connect_packet,
    packet,
    publish_packet,
    raw,
    running,
    send,
    subscribe_packet,
    unsubscribe_packet,
)
from tests.contract.pki import Authority

unhurried = settings(deadline=None)  # a busy machine is no failure
LIMIT = broker.Limits().packet_bytes

ids = st.integers(1, 0xFFFF)
names = st.text(st.characters(codec="utf-8", exclude_characters="+#\0"), min_size=1, max_size=40)
levels = st.sampled_from(["a", "b", "", "$x"])
some_topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
some_filters = (
    st.tuples(st.lists(levels | st.just("+"), max_size=4), st.sampled_from([[], ["#"]]))
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(bool)
)
messages = st.builds(
    packets.Message, names, st.binary(max_size=300), st.just(0), st.booleans(), st.just(0), st.just(False)
) | st.builds(
    packets.Message, names, st.binary(max_size=300), st.sampled_from([1, 2]), st.booleans(), ids, st.booleans()
)
wills = st.tuples(names, st.binary(max_size=50), st.integers(0, 2), st.booleans())
logins = st.tuples(st.binary(max_size=9), st.binary(max_size=9))
some_packets = st.one_of(
    messages.map(packets.encode_message),
    st.builds(
        connect_packet,
        names,
        clean=st.booleans(),
        keep_alive=st.integers(0, 0xFFFF),
        will=st.none() | wills,
        login=st.none() | logins,
    ),
    st.builds(subscribe_packet, st.lists(st.tuples(some_filters, st.integers(0, 2)), min_size=1), packet_id=ids),
    st.builds(unsubscribe_packet, st.lists(some_filters, min_size=1), packet_id=ids),
    st.builds(
        packets.encode_signal, st.sampled_from([packets.PUBACK, packets.PUBREC, packets.PUBREL, packets.PUBCOMP]), ids
    ),
    st.sampled_from([packet(0xC0), packet(0xE0)]),
)


def parse(data: bytes) -> packets.Packet:
    """Parse one packet and nothing but one packet."""
    found = parsing.next_packet(data, 0, LIMIT)
    assert found is not None
    assert found[1] == len(data)
    return found[0]


def parse_all(buffer: bytes | bytearray) -> tuple[list[packets.Packet], int]:
    """Parse as the broker does: everything that is complete, and how far that went."""
    parsed, at = [], 0
    while (found := parsing.next_packet(buffer, at, LIMIT)) is not None:
        parsed.append(found[0])
        at = found[1]
    return parsed, at


@unhurried
@given(messages)
def test_a_message_is_read_back(message: packets.Message) -> None:
    assert parse(packets.encode_message(message)) == message


@unhurried
@given(messages)
def test_a_message_is_written_as_the_standard_says(message: packets.Message) -> None:
    topic, payload, qos, retain, packet_id, duplicate = message
    expected = publish_packet(topic, payload, qos=qos, retain=retain, duplicate=duplicate, packet_id=packet_id)
    assert packets.encode_message(message) == expected


@pytest.mark.parametrize("size", [0, 127, 128, 16_383, 16_384, 200_000])
def test_lengths_of_one_to_three_bytes_are_written_and_read_back(size: int) -> None:
    written = packets.encode(packets.PUBLISH, b"\0\1t" + bytes(size))
    assert written == packet(0x30, b"\0\1t" + bytes(size))
    assert parse(written) == packets.Message("t", bytes(size))


@unhurried
@given(
    name=names, clean=st.booleans(), seconds=st.integers(0, 0xFFFF), will=st.none() | wills, login=st.none() | logins
)
def test_a_connect_is_read(
    name: str,
    clean: bool,
    seconds: int,
    will: tuple[str, bytes, int, bool] | None,
    login: tuple[bytes, bytes] | None,
) -> None:
    data = connect_packet(name, clean=clean, keep_alive=seconds, will=will, login=login)
    assert parse(data) == packets.Connect(4, name, clean, seconds, None if will is None else packets.Message(*will))


@unhurried
@given(st.lists(st.tuples(some_filters, st.integers(0, 2)), min_size=1), ids)
def test_filters_are_read(filters: list[tuple[str, int]], packet_id: int) -> None:
    subscribe = packets.Filters(packets.SUBSCRIBE, packet_id, tuple(filters))
    assert parse(subscribe_packet(filters, packet_id=packet_id)) == subscribe
    names_only = [name for name, _ in filters]
    unsubscribe = packets.Filters(packets.UNSUBSCRIBE, packet_id, tuple((name, 0) for name in names_only))
    assert parse(unsubscribe_packet(names_only, packet_id=packet_id)) == unsubscribe


@unhurried
@given(st.sampled_from([packets.PUBACK, packets.PUBREC, packets.PUBREL, packets.PUBCOMP]), ids)
def test_an_acknowledgement_is_read_back(kind: int, packet_id: int) -> None:
    assert parse(packets.encode_signal(kind, packet_id)) == packets.Signal(kind, packet_id)


@unhurried
@given(st.lists(some_packets, max_size=6), st.randoms(use_true_random=False))
def test_chunks_make_no_difference(written: list[bytes], chance: random.Random) -> None:
    stream = b"".join(written)
    whole = [parse(data) for data in written]
    assert parse_all(stream) == (whole, len(stream))
    parsed, buffer = [], bytearray()
    while stream:
        size = chance.randint(1, len(stream))
        buffer += stream[:size]
        stream = stream[size:]
        found, at = parse_all(buffer)
        parsed += found
        del buffer[:at]
    assert (parsed, bytes(buffer)) == (whole, b"")


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Change, cut or lengthen a packet."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed[: chance.randint(1, len(changed))]) + chance.randbytes(chance.choice([0, 0, 3]))


@unhurried
@given(st.binary(max_size=200) | st.builds(mutate, some_packets, st.randoms(use_true_random=False)))
def test_garbage_raises_a_protocol_error_or_nothing(data: bytes) -> None:
    try:
        parsed, at = parse_all(data)
    except packets.ProtocolError:
        return
    assert 0 <= at <= len(data)
    for found in parsed:
        if isinstance(found, packets.Message):
            assert found.topic
            assert "#" not in found.topic
            assert "+" not in found.topic


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"G", id="another protocol"),
        pytest.param(packet(0x00), id="type 0"),
        pytest.param(packet(0xF0), id="type 15"),
        pytest.param(packet(0x20, b"\0\0"), id="a packet that only brokers send"),
        pytest.param(b"\x30\xff\xff\xff\xff", id="a length of five bytes"),
        pytest.param(b"\x30\xff\xff\x7f", id="longer than the limit, before it has arrived"),
        pytest.param(packet(0x36, b"\0\1t\0\1"), id="QoS 3"),
        pytest.param(packet(0x38, b"\0\1t"), id="a duplicate with QoS 0"),
        pytest.param(packet(0x30, b"\0\0"), id="an empty topic"),
        pytest.param(packet(0x30, b"\0\1+"), id="a wildcard in a topic"),
        pytest.param(packet(0x30, b"\0\1\0"), id="a null character"),
        pytest.param(packet(0x30, b"\0\3\xed\xa0\x80"), id="a surrogate"),
        pytest.param(packet(0x30, b"\0\5t"), id="a topic longer than the packet"),
        pytest.param(packet(0x32, b"\0\1t\0\0"), id="packet id 0"),
        pytest.param(packet(0x32, b"\0\1t\0"), id="half a packet id"),
        pytest.param(packet(0x80, b"\0\1\0\1t\0"), id="subscribe with wrong flags"),
        pytest.param(packet(0x82, b"\0\1"), id="subscribe to nothing"),
        pytest.param(packet(0x82, b"\0\1\0\1t"), id="subscribe without QoS"),
        pytest.param(packet(0x82, b"\0\1\0\1t\3"), id="subscribe with QoS 3"),
        pytest.param(packet(0x82, b"\0\1\0\3#/a\0"), id="# that is not last"),
        pytest.param(packet(0x82, b"\0\1\0\2a+\0"), id="+ that is not a whole level"),
        pytest.param(packet(0x82, b"\0\1\0\2a#\0"), id="# that is not a whole level"),
        pytest.param(packet(0xA2, b"\0\1"), id="unsubscribe from nothing"),
        pytest.param(packet(0x40, b"\0\1\0"), id="an acknowledgement too long"),
        pytest.param(packet(0xC0, b"\0"), id="a ping with content"),
        pytest.param(packet(0x10, b"\0\4HTTP\4\2\0\0\0\1a"), id="connect for another protocol"),
        pytest.param(packet(0x10, b"\0\4MQTT\4\3\0\0\0\1a"), id="connect with the reserved flag"),
        pytest.param(packet(0x10, b"\0\4MQTT\4\x0a\0\0\0\1a"), id="a will's QoS without a will"),
        pytest.param(packet(0x10, b"\0\4MQTT\4\x1e\0\0\0\1a\0\1t\0\0"), id="a will with QoS 3"),
        pytest.param(packet(0x10, b"\0\4MQTT\4\x42\0\0\0\1a\0\0"), id="a password without a user name"),
        pytest.param(packet(0x10, connect_packet("a")[2:] + b"b"), id="connect too long"),
    ],
)
def test_it_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(packets.ProtocolError):
        parse_all(data)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a", False),
        ("a", "a/b", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("a/+", "a/b/c", False),
        ("+/b", "a/b", True),
        ("+", "/a", False),
        ("+/+", "/a", True),
        ("#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("#", "$SYS/a", False),
        ("+/a", "$SYS/a", False),
        ("$SYS/#", "$SYS/a", True),
    ],
)
def test_filters_match_as_the_standard_says(topic_filter: str, topic: str, expected: bool) -> None:
    assert filters.matches(topic_filter.split("/"), topic.split("/")) is expected


@unhurried
@given(some_topics)
def test_a_filter_without_wildcards_matches_itself_only(topic: str) -> None:
    assert not filters.is_wild(topic)
    assert filters.matches(topic.split("/"), topic.split("/"))
    assert not filters.matches(topic.split("/"), [*topic.split("/"), ""])


def test_a_certificate_names_nobody_unless_it_has_one_common_name() -> None:
    assert common_name(None) is None
    assert common_name({}) is None
    assert common_name({"subject": ((("commonName", "a"),),)}) == "a"
    assert common_name({"subject": ((("organizationName", "o"),), (("commonName", "a"),))}) == "a"
    assert common_name({"subject": ((("commonName", "a"),), (("commonName", "b"),))}) is None
    assert common_name({"subject": ((("commonName", "a"), ("commonName", "b")),)}) is None


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def server(authority: Authority) -> Iterator[broker.Broker]:
    tls = authority.server.server_context()
    with running(partial(broker.start, host="127.0.0.1", port=0, tls=tls, allowed=topics.allowed)) as started:
        yield started


def test_a_broker_outlives_three_hundred_garbled_connections(
    server: broker.Broker, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    name, chance = "SIM-0BADBEEF", random.Random(2026)
    context: ssl.SSLContext = authority.issue(name).client_context()
    talk = [
        publish_packet(topics.logs(name), b"text", qos=1),
        publish_packet(topics.logs(name), b"text", qos=2),
        subscribe_packet([(topics.device_commands(name), 1)]),
        unsubscribe_packet([topics.device_commands(name)]),
        packets.encode_signal(packets.PUBREL, 1),
        packet(0xC0),
    ]
    with Client(server.port, authority.platform) as platform:
        platform.subscribe("roboticks/#")
        for _ in range(300):
            connect = connect_packet(name, clean=chance.random() < 0.5, will=(topics.heartbeat(name), b"", 1, True))
            with raw(server.port, context) as sock:
                send(sock, connect if chance.random() < 0.9 else mutate(connect, chance))
                send(sock, b"".join(mutate(chance.choice(talk), chance) for _ in range(4)))
        platform.publish(topics.device_commands(name), b"alive")
        while platform.take() != [b"alive"]:
            pass
    assert [record for record in caplog.records if record.name == "asyncio" or record.exc_info] == []
