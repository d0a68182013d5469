"""A test that is right about a product that is wrong."""

from __future__ import annotations

from typing import Any


def test_greetings_come_without_a_gap(bus: Any) -> None:
    numbers = [message["sequence"] for message in bus.collect("/hello/greeting", 8)]

    assert numbers == list(range(numbers[0], numbers[0] + 8))


def test_the_device_has_a_session(device: Any, session: Any) -> None:
    assert session.dsn == device.dsn
