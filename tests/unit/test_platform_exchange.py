"""The platform's MQTT client without a broker: what it answers and drops when the store does not work."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from typing import Any

import pytest
from paho.mqtt.client import MQTTMessage

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.platform import exchange

DSN = "SIM-0A1B2C3D"


class Store:
    """Takes what is written, or raises `error`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.written = 0

    async def write(self, _work: object, received: list[object], **_: object) -> list[object]:
        """Count."""
        if self.error is not None:
            raise self.error
        self.written += len(received)
        return []


def run(store: Any, *sent: tuple[str, bytes]) -> list[tuple[str, object]]:
    """Let the client receive messages; return its replies."""

    async def scenario() -> list[tuple[str, object]]:
        client = exchange.Exchange(store, connection_changed=lambda _: None)
        replies: list[tuple[str, object]] = []

        def publish(topic: str, body: object) -> bool:
            if topic != exchange.FENCE:
                replies.append((topic, body))
            return topic != exchange.FENCE

        client.publish = publish  # type: ignore[method-assign]
        for topic, payload in sent:
            message = MQTTMessage(topic=topic.encode())
            message.payload = payload
            client._on_message(client._client, None, message)
        await asyncio.sleep(0)
        await client.stop()
        return replies

    return asyncio.run(scenario())


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk is full"), RuntimeError("a bug")])
def test_session_requests_of_a_lost_batch_are_answered(error: Exception) -> None:
    replies = run(
        Store(error),
        (topics.heartbeat(DSN), b'{"status": "online"}'),
        (topics.sessions(DSN), json.dumps({"action": "create", "request_id": "one"}).encode()),
        (topics.sessions(DSN), b"garbage"),
        (topics.sessions(DSN), json.dumps({"action": "complete", "request_id": "two"}).encode()),
    )
    assert [topic for topic, _ in replies] == [topics.session_response(DSN)] * 2
    bodies = [body for _, body in replies if isinstance(body, dict)]
    assert [body["request_id"] for body in bodies] == ["one", "two"]
    assert all("the platform" in body["error"] for body in bodies)


def test_the_bound_on_memory_counts_what_small_messages_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "QUEUE_BYTES", 100 * exchange.OVERHEAD_BYTES)
    store = Store()
    run(store, *[(topics.heartbeat(DSN), b"")] * 1000)
    assert store.written == 100
