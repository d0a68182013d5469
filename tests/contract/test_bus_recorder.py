"""What modules say on a real bus is in the run's folder afterwards; what is wrong with the bus disturbs nobody."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from roboticks_tasks.lifecycle.support.bus_recorder import LARGEST, recording
from roboticks_tasks.redaction import NOTHING, Redactor
from tests.conditions import until


class Publisher:
    """A bus on a free port."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"

    def wait_for_subscriber(self) -> None:
        assert self._socket.poll(10_000), "nobody subscribes"
        assert self._socket.recv() == b"\x01"

    def send(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)


@pytest.fixture
def bus() -> Iterator[Publisher]:
    context: zmq.Context[Any] = zmq.Context()
    try:
        yield Publisher(context)
    finally:
        context.destroy(linger=0)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def recorder_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "bus-recorder"]


def heard(path: Path, count: int) -> Callable[[], bool]:
    return lambda: len(lines(path)) >= count


def test_every_message_is_recorded_with_its_time(bus: Publisher, tmp_path: Path) -> None:
    path = tmp_path / "bus.jsonl"
    before = time.time()
    with recording(bus.endpoint, path, NOTHING):
        bus.wait_for_subscriber()
        bus.send(b"/hello", b'{"n": 1,\n "x": [1.5, null]}')
        bus.send(b"/text", b"no JSON \xff")
        bus.send(b"/alone")
        bus.send(b"/three", b"a", b"b")
        until(heard(path, 4), "four messages")
    found = lines(path)
    assert [(each["topic"], each["message"]) for each in found] == [
        ("/hello", {"n": 1, "x": [1.5, None]}),
        ("/text", "no JSON \\xff"),
        ("/alone", None),
        ("/three", "a b"),
    ]
    assert all(before <= each["at"] <= time.time() for each in found)
    assert recorder_threads() == []


def test_what_was_said_just_before_the_end_is_recorded(bus: Publisher, tmp_path: Path) -> None:
    path = tmp_path / "bus.jsonl"
    with recording(bus.endpoint, path, NOTHING):
        bus.wait_for_subscriber()
        bus.send(b"/first", b"{}")
        until(heard(path, 1))
        for number in range(200):
            bus.send(b"/last", b"%d" % number)
        bus.send(b"/end", b"{}")
        until(lambda: b'"/end"' in path.read_bytes(), "the last message")
    assert [each["message"] for each in lines(path) if each["topic"] == "/last"] == list(range(200))


def test_a_secret_on_the_bus_is_not_recorded(bus: Publisher, tmp_path: Path) -> None:
    path = tmp_path / "bus.jsonl"
    with recording(bus.endpoint, path, Redactor(["hush-hush"])):
        bus.wait_for_subscriber()
        bus.send(b"/hush-hush", b'{"token": "hush-hush"}')
        until(heard(path, 1))
    [line] = lines(path)
    assert (line["topic"], line["message"]) == ("/***", {"token": "***"})


def test_a_record_that_is_full_says_so_once(bus: Publisher, tmp_path: Path) -> None:
    path = tmp_path / "bus.jsonl"
    with recording(bus.endpoint, path, NOTHING, limit=1000):
        bus.wait_for_subscriber()
        for _ in range(50):
            bus.send(b"/hello", b'{"n": 1}')
        until(lambda: not recorder_threads(), "the recorder ends")
    *kept, last = lines(path)
    assert last["topic"] == "--- this record is full: nothing later is kept ---"
    assert len(path.read_bytes()) < 1200
    assert len(kept) > 5
    assert all(each["topic"] == "/hello" for each in kept)


def test_of_a_large_message_the_beginning_is_recorded(bus: Publisher, tmp_path: Path) -> None:
    path = tmp_path / "bus.jsonl"
    with recording(bus.endpoint, path, NOTHING):
        bus.wait_for_subscriber()
        bus.send(b"/picture", b"x" * 2 * LARGEST)
        until(heard(path, 1))
    assert lines(path)[0]["message"] == "x" * LARGEST


def test_without_an_endpoint_nothing_is_done(tmp_path: Path) -> None:
    with recording(None, tmp_path / "bus.jsonl", NOTHING):
        assert recorder_threads() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:1", "nonsense", "tcp://", "tcp://no.such.host.invalid:1", "ipc://"]
)
def test_a_bus_that_is_not_there_disturbs_nobody(endpoint: str, tmp_path: Path) -> None:
    with recording(endpoint, tmp_path / "bus.jsonl", NOTHING):
        pass
    until(lambda: not recorder_threads(), "the recorder ends")
    assert lines(tmp_path / "bus.jsonl") == []


def test_without_pyzmq_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zmq", None)
    with recording("tcp://127.0.0.1:1", tmp_path / "bus.jsonl", NOTHING):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_nothing_is_a_warning(
    bus: Publisher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with recording(bus.endpoint, tmp_path / "none" / "bus.jsonl", NOTHING):
        pass
    assert "is not recorded: [Errno 2]" in caplog.text


def test_the_tests_own_error_comes_through(bus: Publisher, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), recording(bus.endpoint, tmp_path / "bus.jsonl", NOTHING):
        raise KeyboardInterrupt
    assert recorder_threads() == []
