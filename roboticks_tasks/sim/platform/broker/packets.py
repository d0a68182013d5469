"""The packets of MQTT 3.1.1 as values, and how those that the broker sends are written."""

from __future__ import annotations

from typing import NamedTuple

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = range(1, 9)
SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(9, 15)
BAD_VERSION, BAD_CLIENT_ID, UNAVAILABLE, NOT_AUTHORIZED = 1, 2, 3, 5
DENIED = 0x80
LEVEL = 4
"""The protocol level that means MQTT 3.1.1."""


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
