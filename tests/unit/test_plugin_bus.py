"""Assertions on the messages of the bus, with a real publisher."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import zmq

from roboticks_tasks.errors import TargetError
from roboticks_tasks.pytest_plugin import bus_monitor
from roboticks_tasks.pytest_plugin.bus_assertions import Bus, open_bus
from roboticks_tasks.pytest_plugin.bus_monitor import Message, Monitor
from roboticks_tasks.pytest_plugin.shapes import mismatch
from roboticks_tasks.waiting import Deadline
from tests.conditions import until


class Publisher:
    """A module, and the proxy between it and who listens."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        socket.bind("tcp://127.0.0.1:*")
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def say(self, topic: str, **body: Any) -> None:
        self.send(topic.encode(), json.dumps(body).encode())

    def send(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)

    def await_listener(self) -> None:
        """Wait until what is published is heard; an XPUB hears of its subscribers."""
        assert self._socket.poll(5000)
        self._socket.recv()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    context = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.LINGER, 0)
    try:
        yield Publisher(socket)
    finally:
        socket.close()
        context.term()


@pytest.fixture
def bus(publisher: Publisher) -> Iterator[Bus]:
    with open_bus(publisher.endpoint) as bus:
        publisher.await_listener()
        yield bus


def test_a_bus_that_nobody_serves_is_told_and_not_taken_for_a_silent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_monitor, "CONNECTED", 0.05)
    with pytest.raises(TargetError, match=r"the device's message bus at tcp://127\.0\.0\.1:9 is unreachable"):
        Monitor("tcp://127.0.0.1:9")


def came(bus: Bus, count: int) -> None:
    until(lambda: len(bus.messages()) >= count, f"{count} messages")


def test_the_first_messages_of_a_topic_are_collected_again_and_again(bus: Bus, publisher: Publisher) -> None:
    for number in range(4):
        publisher.say("/a", number=number)
        publisher.say("/b", number=-number)
    for _ in range(2):
        assert bus.collect("/a", 3) == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_too_few_messages_are_told_with_the_last_one_and_the_other_topics(bus: Bus, publisher: Publisher) -> None:
    publisher.say("/a", number=7)
    publisher.say("/b")
    came(bus, 2)
    with pytest.raises(AssertionError) as caught:
        bus.collect("/a", 2, timeout=0.05)
    assert str(caught.value) == (
        "1 of 2 messages on /a within 0.05 s; the last one on it is {'number': 7}; other topics: ['/b']"
    )


def test_a_message_is_expected_by_its_content_behind_the_last_expected_one(bus: Bus, publisher: Publisher) -> None:
    for state in ("idle", "busy", "idle"):
        publisher.say("/arm", state=state)
    publisher.say("/leg", state="early")
    assert bus.expect("/arm", where=lambda message: message["state"] == "busy") == {"state": "busy"}
    assert bus.expect("/arm") == {"state": "idle"}
    assert bus.expect("/leg") == {"state": "early"}
    with pytest.raises(AssertionError, match=r"no message on /arm within 0\.01 s; other topics: "):
        bus.expect("/arm", within=0.01)


def test_a_message_that_comes_later_is_waited_for(bus: Bus, publisher: Publisher) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(bus.expect, "/a", None, 20.0)
        publisher.say("/b")
        publisher.say("/a", number=1)
        assert waiting.result() == {"number": 1}


def test_a_condition_that_does_not_find_its_key_does_not_hold(bus: Bus, publisher: Publisher) -> None:
    publisher.say("/a", other=1)
    publisher.say("/a", number=1)
    assert bus.expect("/a", where=lambda message: message["number"] == 1) == {"number": 1}


def test_the_structure_of_an_expected_message_is_compared(bus: Bus, publisher: Publisher) -> None:
    publisher.say("/a", text="x", at={"x": 1})
    publisher.say("/a", text=5)
    assert bus.expect("/a", like={"text": str, "at": {"x": float}})["text"] == "x"
    with pytest.raises(AssertionError, match=r"another structure: the message\['text'\] is int 5, not str"):
        bus.expect("/a", like={"text": str})


@pytest.mark.parametrize(
    ("value", "shape", "problem"),
    [
        ({"a": 1, "more": 2}, {"a": int}, ""),
        ({"a": True}, {"a": int}, "the message['a'] is bool True, not int"),
        ({"a": 1}, {"a": float}, ""),
        ({"a": None}, {"a": (str, type(None))}, ""),
        ({}, {"a": int}, "the message has no 'a'"),
        ({"a": [1, "2"]}, {"a": [int]}, "the message['a'][1] is str '2', not int"),
        ({"a": {"b": {}}}, {"a": {"b": {"c": str}}}, "the message['a']['b'] has no 'c'"),
        ({"a": "dev"}, {"a": "prod"}, "the message['a'] is 'dev', not 'prod'"),
        (3, {"a": int}, "the message is int 3, not an object"),
        ({"a": 3}, {"a": [int]}, "the message['a'] is int 3, not a list"),
    ],
)
def test_a_structure_says_where_it_differs(value: object, shape: object, problem: str) -> None:
    assert mismatch(value, shape) == problem


def test_messages_of_several_topics_come_in_order(bus: Bus, publisher: Publisher) -> None:
    for topic, state in (("/door", "open"), ("/arm", "moving"), ("/noise", ""), ("/arm", "ready"), ("/door", "shut")):
        publisher.say(topic, state=state)
    found = bus.assert_order("/door", ("/arm", lambda message: message["state"] == "ready"), "/door", within=20.0)
    assert [each.body["state"] for each in found] == ["open", "ready", "shut"]
    with pytest.raises(AssertionError, match=r"no message on /arm after that on /door within 0.05 s \(step 3 of 3\)"):
        bus.assert_order("/arm", ("/door", lambda message: message["state"] == "shut"), "/arm", within=0.05)


class Recorded:
    """A monitor to which messages have come at these moments, when it is first looked at."""

    count = lost = malformed = 0

    def __init__(self, *moments: float) -> None:
        self._messages = [Message("/a", {}, moment, number) for number, moment in enumerate(moments)]

    def since(self, number: int) -> tuple[list[Message], int]:
        return self._messages[number:], len(self._messages)

    def wait(self, number: int, deadline: Deadline) -> bool:
        return False


def rate_of(monkeypatch: pytest.MonkeyPatch, *moments: float, tolerance: float) -> float:
    monkeypatch.setattr("roboticks_tasks.pytest_plugin.bus_assertions.time.monotonic", lambda: 0.0)
    return Bus(cast(Monitor, Recorded(*moments))).assert_rate("/a", 10, tolerance=tolerance, over=2.0)


@pytest.mark.parametrize(("count", "rate"), [(20, 10.0), (19, 9.5), (18, 9.0), (23, 10.5)])
def test_a_rate_is_what_comes_in_a_window(monkeypatch: pytest.MonkeyPatch, count: int, rate: float) -> None:
    assert rate_of(monkeypatch, *(number / 10 for number in range(count)), tolerance=0.05) == rate


def test_another_rate_is_told_with_the_longest_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    words = r"/a has 1\.5 messages per second, not 10 ± 10%: 3 in 2 s, the longest pause 1\.500 s"
    with pytest.raises(AssertionError, match=words):
        rate_of(monkeypatch, 0.1, 0.2, 1.7, 2.1, tolerance=0.1)
    with pytest.raises(AssertionError, match=r"/a has 0 messages per second, not 10 ± 10%: 0 in 2 s"):
        rate_of(monkeypatch, tolerance=0.1)


def test_silence_is_about_what_comes_from_now_on(bus: Bus, publisher: Publisher) -> None:
    publisher.say("/a")
    came(bus, 1)
    bus.assert_silent("/a", over=0.05)
    with ThreadPoolExecutor() as pool:
        listening = pool.submit(bus.assert_silent, "/a", 20.0)
        publisher.say("/b")
        while not listening.done():
            publisher.say("/a", number=1)
        with pytest.raises(AssertionError, match=r"a message on /a after .* of 20 s of silence: {'number': 1}"):
            listening.result()


def test_gaps_in_a_sequence_are_found(bus: Bus, publisher: Publisher) -> None:
    for number in (1, 2, 4, 4, 3, 4):
        publisher.say("/a", sequence=number)
        publisher.say("/b", count=number)
    came(bus, 12)
    assert bus.gaps("/a") == [(2, 4), (4, 4), (4, 3)]
    assert bus.gaps("/b", key="count") == bus.gaps("/a")
    with pytest.raises(AssertionError, match="a message on /b has no number 'sequence'"):
        bus.gaps("/b")


def test_what_is_no_message_is_counted_and_told(bus: Bus, publisher: Publisher) -> None:
    for frames in ([b"/a"], [b"/a", b"no json"], [b"/a", b"3"], [b"\xff", b"{}"], [b"/a", b"{}", b"more"]):
        publisher.send(*frames)
    publisher.send(b"/a", b"[" * 100_000)
    publisher.say("/end")
    bus.expect("/end")
    with pytest.raises(AssertionError, match="6 messages were not two frames, a topic and a JSON object"):
        bus.expect("/a", within=0.01)


def test_memory_is_bounded_and_what_is_lost_is_told(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_monitor, "MOST", 10)
    monkeypatch.setattr(bus_monitor, "MOST_BYTES", 400)
    with open_bus(publisher.endpoint) as bus:
        publisher.await_listener()
        for number in range(20):
            publisher.say("/a", sequence=number)
        bus.expect("/a", where=lambda message: message["sequence"] == 19)
        assert [each.body["sequence"] for each in bus.messages()] == list(range(10, 20))
        with pytest.raises(AssertionError, match="the monitor has lost 10 messages"):
            bus.gaps("/a")
        publisher.say("/a", text="x" * 395)
        bus.expect("/a", where=lambda message: "text" in message)
        assert len(bus.messages()) == 1


def test_a_flood_ends_neither_a_wait_nor_the_monitor_late(publisher: Publisher) -> None:
    with ThreadPoolExecutor() as pool:
        over: list[bool] = []

        def flood() -> None:
            while not over:
                publisher.say("/flood")

        with open_bus(publisher.endpoint) as bus:
            publisher.await_listener()
            flooding = pool.submit(flood)
            came(bus, 100)
            with pytest.raises(AssertionError, match=r"no message on /a within 0\.1 s"):
                bus.expect("/a", within=0.1)
        over.append(True)
        flooding.result()


def test_what_comes_when_the_time_is_over_does_not_prolong_a_wait(bus: Bus, publisher: Publisher) -> None:
    publisher.say("/a")
    came(bus, 1)
    assert bus._monitor.wait(0, Deadline(20.0))
    assert not bus._monitor.wait(0, Deadline(0.0))


def test_nothing_is_remembered_after_a_clear(bus: Bus, publisher: Publisher) -> None:
    publisher.say("/a", number=1)
    came(bus, 1)
    bus.clear()
    assert bus.messages() == []
    publisher.say("/a", number=2)
    assert bus.expect("/a") == {"number": 2}
