"""Devices and the platform over MQTT with mutual TLS, through both brokers."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import MQTTMessage

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.platform import exchange, store, store_devices
from tests import parts
from tests.conditions import until
from tests.contract.platform_process import Connection, Device, Platform, entry, running

serials = itertools.count()


@pytest.fixture(scope="module", params=["builtin", "mosquitto"])
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    if request.param == "mosquitto":
        parts.require("mosquitto")
    with running(tmp_path_factory.mktemp("exchange") / "platform", "--broker", request.param) as platform:
        assert platform.ready["broker"] == request.param
        yield platform


@pytest.fixture
def device(platform: Platform, tmp_path: Path) -> Device:
    return Device(platform, tmp_path, f"serial-{next(serials)}")


@pytest.fixture
def connection(device: Device) -> Iterator[Connection]:
    with device.connected() as connection:
        yield connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "platform.db"


def messages(platform: Platform, path: str) -> list[str]:
    return [item["message"] for item in platform.get(f"{path}/logs")["items"]]


def test_a_heartbeat_shows_in_the_device_object(platform: Platform, connection: Connection) -> None:
    composition = {"name": "Hello", "mode": "dev", "status": "running"}
    connection.heartbeat(metrics={"cpu_usage": 0.5}, location=None, compositions=[composition])
    connection.settle()
    shown = platform.get(f"devices/{connection.dsn}")
    assert (shown["status"], shown["metrics"], shown["compositions"]) == ("online", {"cpu_usage": 0.5}, [composition])
    assert shown["last_heartbeat"] > shown["created_at"]
    listed = platform.get("devices", status="online", page_size=100)["items"]
    assert connection.dsn in [item["dsn"] for item in listed]


def test_a_heartbeat_without_metrics_keeps_the_last_ones(platform: Platform, connection: Connection) -> None:
    connection.heartbeat(metrics={"cpu_usage": 0.5}, compositions=[{"name": "Hello"}])
    connection.heartbeat()
    connection.settle()
    shown = platform.get(f"devices/{connection.dsn}")
    assert shown["metrics"] == {"cpu_usage": 0.5}
    assert [item["name"] for item in shown["compositions"]] == ["Hello"]
    connection.heartbeat(compositions=[])
    connection.settle()
    assert platform.get(f"devices/{connection.dsn}")["compositions"] == []


def test_a_device_that_signs_off_is_offline(platform: Platform, connection: Connection) -> None:
    connection.heartbeat()
    connection.heartbeat("offline")
    connection.settle()
    assert platform.get(f"devices/{connection.dsn}")["status"] == "offline"


def test_the_will_of_a_lost_device_makes_it_offline(platform: Platform, connection: Connection) -> None:
    connection.heartbeat()
    connection.settle()
    assert platform.get(f"devices/{connection.dsn}")["status"] == "online"
    connection.client.drop()
    until(lambda: platform.get(f"devices/{connection.dsn}")["status"] == "offline")


def test_silence_for_three_intervals_means_offline(platform: Platform, connection: Connection) -> None:
    connection.heartbeat(interval=0.1)
    connection.settle()
    assert platform.get(f"devices/{connection.dsn}")["status"] == "online"
    until(lambda: platform.get(f"devices/{connection.dsn}")["status"] == "offline")


def test_a_session_is_made_by_the_platform(platform: Platform, device: Device, connection: Connection) -> None:
    reply = connection.create(
        name="nightly", metadata={"user": "ci"}, started_at=1_700_000_000_123, request_id="request-1"
    )
    assert reply["request_id"] == "request-1"
    assert reply["status"] == "active"
    assert str(uuid.UUID(reply["session_id"])) == reply["session_id"]
    assert platform.get(f"sessions/{reply['session_id']}") == {
        "id": reply["session_id"],
        "device_id": device.id,
        "dsn": device.dsn,
        "name": "nightly",
        "status": "active",
        "metadata": {"user": "ci"},
        "tags": [],
        "started_at": "2023-11-14T22:13:20.123000Z",
        "ended_at": None,
    }
    assert platform.get(f"devices/{device.dsn}")["current_session_id"] == reply["session_id"]


def test_the_same_request_twice_makes_one_session(platform: Platform, connection: Connection) -> None:
    first = connection.create(request_id="r")
    assert connection.create(request_id="r") == first
    assert connection.create(request_id="s")["session_id"] != first["session_id"]
    assert platform.get("sessions", device_id=connection.dsn)["total"] == 2


def test_a_request_without_an_id_is_known_by_its_name_and_time(platform: Platform, connection: Connection) -> None:
    first = connection.create(started_at=1_700_000_000_000)
    assert connection.create(started_at=1_700_000_000_000) == first
    assert connection.create(started_at=1_700_000_000_001) != first


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_session_ends_once(platform: Platform, connection: Connection, status: str) -> None:
    session = connection.create(started_at=1_700_000_000_000)["session_id"]
    end = {"action": "complete", "session_id": session, "status": status, "ended_at": 1_700_000_005_000}
    assert connection.ask(**end) == {"session_id": session, "status": status}
    assert connection.ask(**end, request_id="again") == {"session_id": session, "status": status, "request_id": "again"}
    other = "failed" if status == "completed" else "completed"
    assert connection.ask(action="complete", session_id=session, status=other)["status"] == status
    shown = platform.get(f"sessions/{session}")
    assert (shown["status"], shown["ended_at"]) == (status, "2023-11-14T22:13:25.000000Z")
    assert platform.get(f"devices/{connection.dsn}")["current_session_id"] is None


def test_a_session_that_was_never_completed_fails_when_the_next_begins(
    platform: Platform, connection: Connection
) -> None:
    lost = connection.create(request_id="1")["session_id"]
    fresh = connection.create(request_id="2")["session_id"]
    assert platform.get(f"sessions/{lost}")["status"] == "failed"
    assert platform.get(f"devices/{connection.dsn}")["current_session_id"] == fresh


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"action": "explode"}, "action"),
        ({}, "action"),
        ({"action": "create", "name": 5}, "name"),
        ({"action": "create", "name": "n", "metadata": []}, "metadata"),
        ({"action": "create", "name": "n", "started_at": 1e300}, "started_at"),
        ({"action": "create", "name": "n", "started_at": 10**30}, "started_at"),
        ({"action": "complete"}, "session_id"),
        ({"action": "complete", "session_id": "none"}, "session_id"),
        ({"action": "complete", "session_id": "none", "status": "active"}, "status"),
    ],
)
def test_a_refused_request_gets_an_error_that_names_the_key(
    connection: Connection, body: dict[str, Any], word: str
) -> None:
    reply = connection.ask(**body, request_id="r")
    assert set(reply) == {"error", "request_id"}
    assert reply["error"].startswith(f"{word}: ")


def test_a_session_of_another_device_cannot_be_completed(
    platform: Platform, connection: Connection, tmp_path: Path
) -> None:
    session = connection.create()["session_id"]
    other = Device(platform, tmp_path / "other", f"serial-{next(serials)}")
    with other.connected() as stranger:
        assert "error" in stranger.ask(action="complete", session_id=session, status="failed")
    assert platform.get(f"sessions/{session}")["status"] == "active"


def test_what_a_device_says_on_anothers_topics_is_ignored(
    platform: Platform, connection: Connection, tmp_path: Path
) -> None:
    connection.heartbeat()
    connection.settle()
    other = Device(platform, tmp_path / "other", f"serial-{next(serials)}")
    with other.connected() as stranger:
        create = json.dumps({"action": "create", "name": "stolen"}).encode()
        batch = {"session_id": None, "sequence": 0, "boot_id": "b", "messages": [entry("forged")]}
        stranger.client.publish(topics.heartbeat(connection.dsn), b'{"status": "offline"}')
        stranger.client.publish(topics.sessions(connection.dsn), create)
        stranger.client.publish(topics.logs(connection.dsn), json.dumps(batch).encode())
        stranger.settle()
    connection.settle()
    assert connection.silent()
    assert platform.get(f"devices/{connection.dsn}")["status"] == "online"
    assert platform.get("sessions", device_id=connection.dsn)["total"] == 0
    assert messages(platform, f"devices/{connection.dsn}") == []


def test_a_log_batch_that_comes_twice_is_kept_once(platform: Platform, connection: Connection) -> None:
    session = connection.create()["session_id"]
    for _ in range(2):
        connection.log(entry("one", at=1), entry("two", at=2), boot="b1", sequence=7, session=session)
    connection.log(entry("three", at=3), boot="b1", sequence=8, session=session)
    connection.log(entry("four", at=4), boot="b2", sequence=7, session=session)
    connection.settle()
    assert messages(platform, f"sessions/{session}") == ["one", "two", "three", "four"]


def test_two_devices_may_use_the_same_batch_numbers(platform: Platform, connection: Connection, tmp_path: Path) -> None:
    other = Device(platform, tmp_path / "other", f"serial-{next(serials)}")
    with other.connected() as neighbour:
        for each in (connection, neighbour):
            each.log(entry(f"of {each.dsn}"))
            each.settle()
            assert messages(platform, f"devices/{each.dsn}") == [f"of {each.dsn}"]


def test_logs_of_a_session_that_is_not_the_devices_are_kept_outside_sessions(
    platform: Platform, connection: Connection, tmp_path: Path
) -> None:
    session = connection.create()["session_id"]
    other = Device(platform, tmp_path / "other", f"serial-{next(serials)}")
    with other.connected() as stranger:
        stranger.log(entry("mine"), session=session)
        stranger.settle()
    assert messages(platform, f"sessions/{session}") == []
    assert messages(platform, f"devices/{other.dsn}") == ["mine"]


GARBAGE = (
    b"",
    b"\xff\xfe",
    b"{",
    b"[]",
    b"null",
    b"1" * 5000,
    b"[" * 100_000,
    b'{"status": NaN}',
    b'{"status": "online", "metrics": {"a": NaN}}',
    b'{"status": "online", "metrics": {"a": "\\ud800"}}',
    b'{"status": "online", "metrics": {"a": "\xed\xa0\x80"}}',
    b'{"status": "online", "metrics": {"a": 1e999}}',
    b'{"status": "online", "metrics": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
    b'{"status": "online", "metrics": []}',
    b'{"status": "online", "compositions": [7]}',
    b'{"status": "online", "interval": -1}',
    b'{"status": "online", "interval": true}',
    b'{"status": {"a": 1}}',
    b'{"sequence": -1, "boot_id": "b", "messages": []}',
    b'{"sequence": 1, "boot_id": null, "messages": []}',
    b'{"sequence": 1, "boot_id": "b", "messages": {}}',
    b'{"sequence": 99999999999999999999999999, "boot_id": "b", "messages": []}',
)


def test_garbage_is_survived_and_changes_nothing(platform: Platform, connection: Connection) -> None:
    for garbage in GARBAGE:
        for topic in (topics.heartbeat, topics.logs, topics.file_upload_request):
            connection.client.publish(topic(connection.dsn), garbage)
    connection.settle()
    shown = platform.get(f"devices/{connection.dsn}")
    assert (shown["status"], shown["metrics"], shown["compositions"]) == ("offline", {}, [])
    assert messages(platform, f"devices/{connection.dsn}") == []
    assert "Traceback" not in platform.log


def test_good_log_messages_beside_bad_ones_are_kept(platform: Platform, connection: Connection) -> None:
    bad: list[Any] = [5, {}, entry("late", at=2**62), {**entry("x"), "level": 3}, {**entry("x"), "message": None}]
    connection.log(*bad, entry("good\x00"), *bad)
    connection.settle()
    assert messages(platform, f"devices/{connection.dsn}") == ["good\ufffd"]


@pytest.mark.parametrize(("retained", "status"), [(False, "online"), (True, "offline")])
def test_a_retained_heartbeat_says_nothing_about_now(path: Path, retained: bool, status: str) -> None:
    """A broker sends retained messages when the platform connects again; no process here, that is hard to provoke."""

    async def scenario() -> str:
        opened = store.Store(path)
        _, dsn, _ = await opened.write(
            store_devices.register, "serial", name="n", kind="robot", environment="test", test_device=True
        )
        client = exchange.Exchange(opened, connection_changed=lambda _: None)
        message = MQTTMessage(topic=topics.heartbeat(dsn).encode())
        message.payload, message.retain = b'{"status": "online"}', retained
        client._on_message(client._client, None, message)
        await asyncio.sleep(0)
        await client.stop()
        device = await opened.read(store_devices.find, dsn)
        await opened.close()
        return str(device["status"]) if device else ""

    assert asyncio.run(scenario()) == status


def test_a_file_upload_is_refused_at_once(connection: Connection) -> None:
    connection.client.subscribe(topics.file_upload_response(connection.dsn))
    body = json.dumps({"session_id": "s", "filename": "a.log", "request_id": "u"}).encode()
    connection.client.publish(topics.file_upload_request(connection.dsn), body)
    reply = json.loads(connection.client.take()[0])
    assert reply == {"error": "the local platform keeps no files", "request_id": "u"}


def test_a_command_reaches_its_device(platform: Platform, connection: Connection) -> None:
    connection.client.subscribe(topics.device_commands(connection.dsn))
    response = platform.call(
        "POST", f"devices/{connection.dsn}/commands", json={"type": 3, "payload": {"name": "nightly"}}
    )
    assert response.status_code == 202
    received = json.loads(connection.client.take()[0])
    assert received == {"command_id": response.json()["command_id"], "type": 3, "payload": {"name": "nightly"}}


def test_the_answer_to_a_command_tells_whether_the_device_was_there_to_get_it(
    platform: Platform, connection: Connection
) -> None:
    def delivered() -> bool:
        response = platform.call("POST", f"devices/{connection.dsn}/commands", json={"type": 3})
        assert (response.status_code, set(response.json())) == (202, {"command_id", "delivered"})
        return bool(response.json()["delivered"])

    seen = [delivered()]
    for status in ("online", "offline"):
        connection.heartbeat(status)
        connection.settle()
        seen.append(delivered())
    assert seen == [False, True, False]


def test_a_device_that_is_deleted_while_connected_is_told_so(platform: Platform, connection: Connection) -> None:
    connection.heartbeat()
    connection.settle()
    assert platform.call("DELETE", f"devices/{connection.dsn}").status_code == 204
    connection.heartbeat()
    assert connection.create(request_id="r") == {"error": "no such device is registered", "request_id": "r"}


def test_a_broadcast_reaches_every_device(platform: Platform, connection: Connection, tmp_path: Path) -> None:
    other = Device(platform, tmp_path / "other", f"serial-{next(serials)}")
    with other.connected() as neighbour:
        for each in (connection, neighbour):
            each.client.subscribe(topics.COMMANDS_BROADCAST)
        response = platform.call("POST", "commands", json={"type": "reboot"})
        expected = {"command_id": response.json()["command_id"], "type": "reboot", "payload": {}}
        for each in (connection, neighbour):
            assert json.loads(each.client.take()[0]) == expected


def test_a_burst_of_log_batches_arrives_whole_and_in_order(platform: Platform, connection: Connection) -> None:
    def batch(number: int) -> bytes:
        lines = [entry(f"{number}.{line}", at=number * 1000 + line) for line in range(20)]
        return json.dumps({"session_id": None, "sequence": number, "boot_id": "b", "messages": lines}).encode()

    connection.client.publish(topics.logs(connection.dsn), *map(batch, range(200)))
    connection.settle()
    answer = platform.get(f"devices/{connection.dsn}/logs", limit=10_000)
    assert answer["total"] == 4000
    expected = [f"{number}.{line}" for number in range(200) for line in range(20)]
    assert [item["message"] for item in answer["items"]] == expected


@pytest.mark.parametrize("broker", ["builtin", "mosquitto"])
def test_what_the_broker_has_acknowledged_is_stored_before_the_platform_stops(tmp_path: Path, broker: str) -> None:
    if broker == "mosquitto":
        parts.require("mosquitto")
    folder = tmp_path / "platform"
    with running(folder, "--broker", broker) as first:
        device = Device(first, tmp_path / "device", "serial")
        with device.connected() as connection:
            for number in range(300):
                connection.log(entry(str(number), at=number), sequence=number)
            assert first.stop() == 0
    with running(folder, "--broker", broker) as second:
        assert second.get(f"devices/{device.dsn}/logs", limit=10_000)["total"] == 300
