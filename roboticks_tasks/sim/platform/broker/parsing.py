"""From bytes to packets, as pure functions: whatever is not MQTT 3.1.1 is one ProtocolError."""

from __future__ import annotations

from roboticks_tasks.sim.platform.broker.packets import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    LEVEL,
    PINGREQ,
    PINGRESP,
    PUBLISH,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Connect,
    Filters,
    Message,
    Packet,
    ProtocolError,
    Signal,
)

FROM_CLIENTS = frozenset(range(1, 15)) - {CONNACK, SUBACK, UNSUBACK, PINGRESP}


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
