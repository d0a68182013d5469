"""Whatever breaks between a device and the platform, every log line is at the platform once, and in order."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.sim import topics
from roboticks_tasks.sim.platform import absence
from tests import parts
from tests.conditions import until
from tests.contract.device_process import Device, device_of, stop
from tests.contract.mqtt import Client
from tests.contract.pki import Certificate
from tests.contract.platform_process import Platform, running
from tests.contract.tcp_proxy import TcpProxy, running_proxy

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

TALKER = """
import json, os, pathlib, time, zmq
bus = zmq.Context().socket(zmq.XPUB)
bus.connect(os.environ["ROBOTICKS_BUS_PUBLISH"])
bus.recv()
names = {"module": os.environ["ROBOTICKS_MODULE"], "composition": os.environ["ROBOTICKS_COMPOSITION"]}
bus.send_multipart([b"/roboticks/module/ready", json.dumps(names).encode()])
wanted = pathlib.Path(os.environ["ROBOTICKS_ROOT"], "talk-until")
number = 0
while True:
    while number >= int(wanted.read_text()):
        time.sleep(0.005)
    print("line", number, flush=True)
    number += 1
    time.sleep(0.001)
"""


class Robot:
    """A device whose only module says numbered lines, up to a number that the test sets."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.session = ""

    def start_talking(self) -> None:
        """Start the device manager, a session and the module."""
        self.device.write_composition("Talker", TALKER)
        self.say(0)
        self.device.start_with_bus()
        self.session = self.device.ask("start-session")["id"]
        self.device.ask("start-composition", "Talker")

    def say(self, until_number: int) -> None:
        """Have the module say its lines below this number, without waiting for it."""
        path = self.device.root / "talk-until"
        path.with_suffix(".new").write_text(str(until_number))
        path.with_suffix(".new").replace(path)

    def wait_for(self, number: int) -> None:
        """Wait until the line is in the device's own log."""
        until(lambda: f"[only] line {number}\n" in self.device.log(), f"line {number} is said")

    @property
    def spooled(self) -> list[dict[str, Any]]:
        """Return the messages that are kept for the platform."""
        files = sorted((self.device.root / "spool").glob("*.jsonl"))
        return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def stored(platform: Platform, robot: Robot) -> list[str]:
    """Return the module's lines as the platform shows them in the session."""
    items = platform.get(f"sessions/{robot.session}/logs", module="only", limit=10_000)["items"]
    return [entry["message"] for entry in items if entry["message"].startswith("line ")]


def lines(count: int) -> list[str]:
    return [f"line {number}" for number in range(count)]


def assert_whole(platform: Platform, robot: Robot, count: int) -> None:
    """Wait for the last of so many lines, and for the device to know it; each must be there once, in order."""
    until(lambda: lines(count)[-1] in stored(platform, robot), "the last line at the platform")
    until(lambda: robot.spooled == [], "nothing is left to be delivered")
    assert stored(platform, robot) == lines(count)


@pytest.fixture
def robot(tmp_path: Path, platform: Platform) -> Iterator[Robot]:
    with device_of(platform, tmp_path / "root") as device:
        yield Robot(device)


@pytest.fixture(params=["builtin"])
def platform(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Platform]:
    if request.param == "mosquitto":
        parts.require("mosquitto")
    with running(tmp_path / "platform", "--broker", request.param) as process:
        assert "error" not in process.ready, process.ready
        yield process


@pytest.mark.parametrize("platform", ["builtin", "mosquitto"], indirect=True)
def test_a_platform_that_is_killed_while_a_robot_talks_has_every_line_once(platform: Platform, robot: Robot) -> None:
    robot.start_talking()
    robot.say(1000)
    until(lambda: stored(platform, robot), "the first lines at the platform")
    platform.kill()
    robot.wait_for(400)
    with running(platform.folder, "--broker", platform.ready["broker"]) as second:
        assert_whole(second, robot, 1000)
        ended = robot.device.ask("stop-session")
        assert second.get(f"sessions/{ended['id']}")["status"] == "completed"


@pytest.mark.parametrize("platform", ["mosquitto"], indirect=True)
def test_a_broker_that_is_killed_loses_no_line(platform: Platform, robot: Robot) -> None:
    robot.start_talking()
    robot.say(600)
    until(lambda: stored(platform, robot), "the first lines at the platform")
    children = Path(f"/proc/{platform.process.pid}/task/{platform.process.pid}/children")
    os.kill(int(children.read_text(encoding="utf-8").split()[0]), signal.SIGKILL)
    platform.process.wait(10)
    with running(platform.folder, "--broker", "mosquitto") as second:
        assert_whole(second, robot, 600)


@pytest.fixture
def proxy(platform: Platform, robot: Robot) -> Iterator[TcpProxy]:
    """Put a network that can break between the device and the broker."""
    with running_proxy(platform.ready["mqtt"]["port"]) as between:
        robot.device.url = f"{platform.ready['url']}/via/{between.port}"
        robot.device.configure(bus_port=0, heartbeat_interval=600, keepalive=1)
        yield between


def test_connections_that_are_reset_lose_no_line(platform: Platform, robot: Robot, proxy: TcpProxy) -> None:
    robot.start_talking()
    robot.say(1000)
    for number in (100, 300, 500, 700):
        robot.wait_for(number)
        until(lambda: robot.device.state()["phase"] == "online")
        proxy.cut()
    assert_whole(platform, robot, 1000)


def test_a_network_that_swallows_everything_is_noticed_and_loses_no_line(
    platform: Platform, robot: Robot, proxy: TcpProxy
) -> None:
    robot.start_talking()
    robot.say(100)
    until(lambda: len(stored(platform, robot)) == 100, "the first lines at the platform")
    proxy.blackhole()
    robot.say(300)
    robot.wait_for(299)
    until(lambda: robot.device.state()["phase"] == "registered", "the loss is noticed")
    proxy.blackhole(False)
    assert_whole(platform, robot, 300)


def test_a_frozen_platform_is_noticed_and_loses_no_line(platform: Platform, robot: Robot) -> None:
    robot.device.configure(bus_port=0, heartbeat_interval=600, keepalive=1)
    robot.start_talking()
    platform.process.send_signal(signal.SIGSTOP)
    robot.say(200)
    robot.wait_for(199)
    until(lambda: robot.device.state()["phase"] == "registered", "the loss is noticed")
    platform.process.send_signal(signal.SIGCONT)
    assert_whole(platform, robot, 200)


def test_a_database_that_refuses_for_a_while_loses_no_line(platform: Platform, robot: Robot) -> None:
    robot.start_talking()
    size = (platform.folder / "platform.db-wal").stat().st_size
    resource.prlimit(platform.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    robot.say(50)
    until(lambda: "Lost 1 messages of devices" in platform.log, "the database refuses")
    assert stored(platform, robot) == []
    resource.prlimit(platform.process.pid, resource.RLIMIT_FSIZE, UNLIMITED)
    assert_whole(platform, robot, 50)


def test_a_device_manager_that_is_killed_while_the_platform_is_away_loses_no_line(
    platform: Platform, robot: Robot
) -> None:
    robot.start_talking()
    robot.say(100)
    until(lambda: len(stored(platform, robot)) == 100, "the first lines at the platform")
    platform.kill()
    robot.say(400)
    robot.wait_for(300)
    robot.device.processes[-1].kill()
    robot.device.processes[-1].wait()
    said = robot.device.log().count("[only] line ")
    assert said > 300
    assert {entry["session_id"] for entry in robot.spooled} == {robot.session}
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (robot.device.root / "spool").iterdir()}
    assert modes == {0o600}
    with running(platform.folder, "--broker", "builtin") as second:
        robot.device.start()
        # One more may have been taken and not yet be in the log when the kill came.
        until(lambda: len(stored(second, robot)) >= said, "all lines at the platform")
        until(lambda: robot.spooled == [], "nothing is left to be delivered")
        found = stored(second, robot)
        assert found == lines(len(found))
        assert len(found) <= said + 1
        until(lambda: second.get(f"sessions/{robot.session}")["status"] == "failed", "the session is over")


def test_what_a_stop_cannot_deliver_is_delivered_by_the_next_start(platform: Platform, robot: Robot) -> None:
    robot.start_talking()
    platform.kill()
    robot.say(200)
    robot.wait_for(199)
    assert stop(robot.device.processes[-1])[0] == 0
    said = [entry["message"] for entry in robot.spooled if entry["module"] == "only"]
    assert said == lines(200)
    kept = json.loads((robot.device.root / "sessions/active" / f"{robot.session}.json").read_text())
    with running(platform.folder, "--broker", "builtin") as second:
        robot.device.start()
        assert_whole(second, robot, 200)
        until(lambda: second.get(f"sessions/{robot.session}")["status"] != "active", "the session is over")
        session = second.get(f"sessions/{robot.session}")
        assert (session["status"], session["ended_at"]) == ("completed", kept["ended_at"].replace("Z", "000Z"))
        assert stop(robot.device.processes[-1])[0] == 0
        assert list((robot.device.root / "spool").iterdir()) == []


def test_batches_that_come_twice_and_in_the_wrong_order_show_once_and_in_order(
    platform: Platform, robot: Robot
) -> None:
    robot.start_talking()
    platform.kill()
    robot.say(1500)
    robot.wait_for(1499)
    stop(robot.device.processes[-1])
    batches: dict[int, dict[str, Any]] = {}
    for message in robot.spooled:
        batch = {key: message.pop(key) for key in ("boot_id", "sequence", "session_id")}
        batches.setdefault(batch["sequence"], {**batch, "messages": []})["messages"].append(message)
    assert len(batches) > 2
    folder = robot.device.root / "etc" / "roboticks"
    dsn = robot.device.state()["dsn"]
    certificate = Certificate(
        name=dsn, certificate=folder / "device.crt", key=folder / "device.key", ca=folder / "ca.crt"
    )
    payloads = [json.dumps(batches[number]).encode() for number in sorted(batches, reverse=True)]
    with running(platform.folder, "--broker", "builtin") as second:
        with Client(second.ready["mqtt"]["port"], certificate) as stranger:
            stranger.publish(topics.logs(dsn), *payloads[:-1], *payloads[:-1])
        robot.device.start()
        assert_whole(second, robot, 1500)


# --- the end of a session ---------------------------------------------------------------------------------------------


def test_the_session_of_a_device_that_is_killed_fails_by_itself(platform: Platform, robot: Robot) -> None:
    robot.device.start()
    session = robot.device.ask("start-session")["id"]
    robot.device.processes[-1].kill()
    until(lambda: platform.get(f"sessions/{session}")["status"] == "failed", "the session is over", timeout=8)
    assert platform.get(f"sessions/{session}")["ended_at"] is not None


def test_a_device_that_was_out_of_reach_for_long_has_its_session_again(
    platform: Platform, robot: Robot, proxy: TcpProxy
) -> None:
    robot.device.start()
    session = robot.device.ask("start-session")["id"]

    def status() -> Any:
        return platform.get(f"sessions/{session}")["status"]

    proxy.refuse()
    proxy.cut()
    until(lambda: status() == "failed", "it is presumed to have failed")
    proxy.accept_connections()
    until(lambda: status() == "active", "it goes on")
    robot.device.ask("stop-session")
    assert status() == "completed"


def test_a_session_is_given_up_only_after_the_whole_grace() -> None:
    absences = absence.Absences()
    assert absences.over(["a"], 100.0) == []
    assert absences.over(["a", "b"], 100.0 + absence.GRACE) == ["a"]
    assert absences.over(["b"], 100.5 + absence.GRACE) == []
    assert absences.over(["a", "b"], 100.0 + 2 * absence.GRACE) == ["b"]  # it had been back in between
