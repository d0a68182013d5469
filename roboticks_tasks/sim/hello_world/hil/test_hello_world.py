"""What a tester writes: the fixtures are those of the roboticks_tasks pytest plugin, the device is already running."""

from __future__ import annotations

from typing import Any

import pytest

COMPOSITION = "HelloWorldComposition"
TEXTS = {"dev": "Hello, developer!", "prod": "Hello, world!"}


@pytest.fixture
def hello(deployment: Any) -> Any:
    """The composition under test; a run that deployed something else has nothing to test here."""
    for composition in deployment.compositions:
        if composition.name == COMPOSITION:
            return composition
    pytest.skip(f"{COMPOSITION} is not deployed")


def sequences(messages: list[dict[str, Any]], key: str = "sequence") -> list[int]:
    return [message[key] for message in messages]


def test_the_device_is_registered_as_a_test_device(device: Any, platform: Any) -> None:
    known = platform.device(device.dsn)

    assert known["dsn"] == device.dsn
    assert known["test_device"] is True
    assert known["status"] == "online"


def test_the_session_is_active_on_the_platform(session: Any, platform: Any) -> None:
    assert platform.session(session.id)["status"] == "active"


def test_the_composition_runs_in_the_mode_that_was_asked_for(hello: Any, bus: Any) -> None:
    assert hello.status == "running"

    [greeting] = bus.collect("/hello/greeting", 1)

    assert greeting["mode"] == hello.mode
    assert greeting["text"] == TEXTS[hello.mode]


@pytest.mark.usefixtures("hello")
def test_greetings_come_in_order_without_a_gap(bus: Any) -> None:
    numbers = sequences(bus.collect("/hello/greeting", 5))

    assert numbers == list(range(numbers[0], numbers[0] + 5))


@pytest.mark.usefixtures("hello")
def test_each_greeting_is_answered_in_order(bus: Any) -> None:
    answers = bus.collect("/hello/answer", 5)
    first = answers[0]

    assert sequences(answers) == list(range(first["sequence"], first["sequence"] + 5))
    assert sequences(answers, "answer_to") == list(range(first["answer_to"], first["answer_to"] + 5))


def test_the_modules_logs_arrive_at_the_platform(hello: Any, session: Any, platform: Any) -> None:
    def greeter_has_logged() -> list[dict[str, Any]]:
        logs = platform.logs(session.id)
        return [entry for entry in logs if entry["module"] == "greeter" and TEXTS[hello.mode] in entry["message"]]

    assert platform.wait_for(greeter_has_logged)[0]["level"] == "INFO"
