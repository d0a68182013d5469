"""Bounds on what clients can make the broker hold."""

from __future__ import annotations

from dataclasses import dataclass

from roboticks_tasks.sim.platform.broker.packets import Connect, Filters, Message, Packet, ProtocolError

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


DEFAULTS = Limits()


def check(packet: Packet, limits: Limits) -> None:
    """Raise ProtocolError for topics that are too long or too many."""
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
