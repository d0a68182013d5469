"""Which sessions want a message, and which messages wait for whoever will want them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from roboticks_tasks.sim.platform.broker.limits import OVERHEAD
from roboticks_tasks.sim.platform.broker.packets import Message
from roboticks_tasks.sim.platform.broker.session import Session


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


class Subscriptions:
    """The sessions of each filter, with the QoS they were granted; one without wildcards is found by its topic."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[Session, int]] = {}
        self._wild: dict[str, dict[Session, int]] = {}

    def add(self, session: Session, topic_filter: str, qos: int) -> None:
        """Subscribe a session, or change its QoS."""
        table = self._wild if is_wild(topic_filter) else self._exact
        table.setdefault(topic_filter, {})[session] = qos
        session.filters.add(topic_filter)

    def remove(self, session: Session, topic_filter: str) -> None:
        """Take a session's subscription away, if it has it."""
        table = self._wild if is_wild(topic_filter) else self._exact
        session.filters.discard(topic_filter)
        if topic_filter in table:
            table[topic_filter].pop(session, None)
            if not table[topic_filter]:
                del table[topic_filter]

    def receivers(self, topic: str) -> dict[Session, int]:
        """Return who wants a message, each with the highest QoS that its matching filters have."""
        found = dict(self._exact.get(topic, ()))
        levels = topic.split("/")
        for topic_filter, sessions in self._wild.items():
            if matches(topic_filter.split("/"), levels):
                for session, qos in sessions.items():
                    found[session] = max(qos, found.get(session, 0))
        return found


class Retained:
    """The last retained message of each topic, `limit` bytes of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: dict[str, Message] = {}
        self._bytes = 0

    def keep(self, message: Message) -> bool:
        """Put a message in the place of its topic's last one, nothing in it if it is empty; False without room."""
        old = self._messages.pop(message.topic, None)
        if old is not None:
            self._bytes -= len(old.payload) + OVERHEAD
        if not message.payload:
            return True
        size = len(message.payload) + OVERHEAD
        if self._bytes + size > self._limit:
            return False
        self._messages[message.topic] = message
        self._bytes += size
        return True

    def matching(self, topic_filter: str) -> Iterator[Message]:
        """Yield the messages that a filter matches."""
        levels = topic_filter.split("/")
        return (message for topic, message in self._messages.items() if matches(levels, topic.split("/")))
