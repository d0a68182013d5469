"""The simulated device manager against the local platform: registration, sessions, logs, control, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.conditions import until
from tests.contract.device_process import Device, device_of, stop
from tests.contract.platform_process import Platform, running


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("platform") / "platform") as process:
        assert "error" not in process.ready, process.ready
        yield process


@pytest.fixture
def device(platform: Platform, tmp_path: Path) -> Iterator[Device]:
    with device_of(platform, tmp_path / "root") as found:
        yield found


def known(platform: Platform, device: Device) -> dict[str, Any]:
    """Return the platform's view of the device."""
    found: dict[str, Any] = platform.get(f"devices/{device.state()['dsn']}")
    return found


def logged(platform: Platform, device: Device, word: str) -> list[dict[str, Any]]:
    """Return the device's messages at the platform that contain `word`."""
    found: list[dict[str, Any]] = platform.get(f"devices/{device.state()['dsn']}/logs", search=word)["items"]
    return found


def lines_at(platform: Platform, device: Device) -> list[str]:
    """Return what the talker's lines are at the platform."""
    items = platform.get(f"devices/{device.state()['dsn']}/logs", module="only")["items"]
    return [entry["message"] for entry in items if entry["message"].startswith("line ")]


def children_of(process: int) -> list[int]:
    """Return the ids of a process's children."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == process:
                found.append(int(entry.name))
    return found


def command(platform: Platform, device: Device, kind: int) -> None:
    """Send a command to the device through the platform."""
    response = platform.call("POST", f"devices/{device.state()['dsn']}/commands", json={"type": kind, "payload": {}})
    assert response.status_code == 202, response.text


# --- registration -----------------------------------------------------------------------------------------------------


def test_it_registers_as_a_test_device_and_is_online_at_the_platform(platform: Platform, device: Device) -> None:
    process = device.start()

    dsn = device.state()["dsn"]
    assert f"INFO [registration] Registered with DSN: {dsn}\n" in device.log()
    assert device.state()["pid"] == process.pid
    assert known(platform, device)["test_device"] is True
    until(lambda: known(platform, device)["status"] == "online", "online at the platform")
    metrics = known(platform, device)["metrics"]
    assert set(metrics) == {"cpu_usage", "memory_usage", "disk_usage"}
    assert all(0 <= value <= 100 for value in metrics.values())


def test_heartbeats_come_at_their_interval(platform: Platform, device: Device) -> None:
    device.configure(bus_port=0, heartbeat_interval=0.05)
    device.start()

    seen: set[str] = set()

    def several() -> bool:
        seen.add(known(platform, device)["last_heartbeat"])
        return len(seen) > 4

    until(several, "several heartbeats")


def test_a_second_start_uses_the_cache_without_importing_cryptography(device: Device) -> None:
    stop(device.start())
    before = device.state()["dsn"]
    certificate = (device.root / "etc/roboticks/device.crt").read_bytes()
    device.environment["PYTHONPROFILEIMPORTTIME"] = "1"

    stop(device.start())

    imported = (device.root / "stderr.log").read_text()
    assert " paho.mqtt.client\n" in imported
    assert "cryptography" not in imported
    assert device.state()["dsn"] == before
    assert (device.root / "etc/roboticks/device.crt").read_bytes() == certificate


def test_without_its_cache_it_gets_the_same_dsn_again(device: Device) -> None:
    stop(device.start())
    before = device.state()["dsn"]
    for path in (device.root / "etc/roboticks").iterdir():
        path.unlink()

    stop(device.start())

    assert device.state()["dsn"] == before


def test_a_device_the_platform_has_forgotten_registers_again(platform: Platform, device: Device) -> None:
    stop(device.start())
    assert platform.call("DELETE", f"devices/{device.state()['dsn']}").ok

    device.start()

    assert known(platform, device)["dsn"] == device.state()["dsn"]


def test_a_device_that_is_forgotten_while_online_answers_at_once_and_registers_again(
    platform: Platform, device: Device
) -> None:
    process = device.start()
    before = device.log().count("Registered with DSN")
    assert platform.call("DELETE", f"devices/{device.state()['dsn']}").ok

    refused = device.ctl("start-session", "--timeout", "20")

    assert refused.returncode == 1
    assert refused.stderr == "the platform refused the session: no such device is registered\n"
    until(lambda: device.log().count("Registered with DSN") == before + 1, "it registers again")
    device.until_phase("online", process)
    assert device.ask("start-session")["status"] == "active"


@pytest.mark.parametrize("name", ["device.crt", "ca.crt"])
def test_credentials_that_the_broker_does_not_take_are_renewed(device: Device, name: str) -> None:
    stop(device.start())
    path = device.root / "etc/roboticks" / name
    other = {"device.crt": "ca.crt", "ca.crt": "device.crt"}[name]
    path.write_bytes((device.root / "etc/roboticks" / other).read_bytes())
    before = device.state()["dsn"]

    device.start()

    assert device.state()["dsn"] == before
    assert "registering again" in device.log()


def test_the_credentials_are_private_and_the_key_is_nowhere_else(platform: Platform, device: Device) -> None:
    stop(device.start())

    folder = device.root / "etc/roboticks"
    assert {path.name for path in folder.iterdir()} == {"device.key", "device.crt", "ca.crt", "registration.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    secret_line = (folder / "device.key").read_bytes().splitlines()[1]
    holders = [
        path
        for top in (device.root, platform.folder)
        for path in top.rglob("*")
        if path.is_file() and secret_line in path.read_bytes()
    ]
    assert holders == [folder / "device.key"]


def test_the_project_secret_is_in_no_file_and_no_argument(device: Device) -> None:
    device.deploy()
    process = device.start_with_bus()
    device.ask("start-session")
    device.ask("start-composition", "HeartbeatComposition")

    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in [process.pid, *device.module_processes()]]
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in device.module_processes()]
    stop(process)

    secret = device.secret.encode()
    assert commands
    assert environments
    assert not [text for text in commands + environments if secret in text]
    assert not [path for path in device.root.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_refused_project_secret_ends_it_with_code_4_and_says_so_in_the_state(device: Device) -> None:
    device.secret = "not the secret"

    process = device.start(wait_for=None)

    assert process.wait(10) == 4
    assert device.state()["phase"] == "failed"
    assert device.state()["error"]["code"] == "project-secret-refused"
    assert "wrong project secret" in device.state()["error"]["message"]
    assert "not the secret" not in device.log()


def test_it_waits_for_a_platform_that_is_not_there_yet(tmp_path: Path) -> None:
    folder = tmp_path / "platform"
    with running(folder) as first:
        device = Device(tmp_path / "root", first.ready["url"], first.secret)
        first.stop()
    try:
        process = device.start(wait_for=None)
        until(lambda: device.state().get("error"), "the state says why")
        assert device.state()["phase"] == "registering"
        assert device.state()["error"]["code"] == "platform-unreachable"
        with running(folder) as second:
            assert second.ready["url"] == device.url
            device.until_phase("online", process)
            assert device.state()["error"] is None
    finally:
        device.stop_all()


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_no_session_is_made_by_itself(platform: Platform, device: Device) -> None:
    device.start_with_bus()
    until(lambda: known(platform, device)["status"] == "online", "online at the platform")

    assert device.state()["session"] is None
    assert platform.get("sessions", device_id=device.state()["dsn"])["total"] == 0


def test_ctl_starts_and_stops_a_session_of_the_platform(platform: Platform, device: Device) -> None:
    device.start()

    session = device.ask("start-session", "--name", "bench 7")

    assert session["status"] == "active"
    assert device.state()["session"] == session
    there = platform.get(f"sessions/{session['id']}")
    assert (there["status"], there["name"]) == ("active", "bench 7")
    assert (device.root / "sessions/active" / f"{session['id']}.json").is_file()
    assert device.ask("start-session") == session

    assert device.ask("stop-session")["status"] == "completed"
    assert platform.get(f"sessions/{session['id']}")["status"] == "completed"
    assert (device.root / "sessions/completed" / f"{session['id']}.json").is_file()
    assert not list((device.root / "sessions/active").iterdir())
    assert f"Session created: {session['id']}\n" in device.log()
    assert f"Session completed: {session['id']}\n" in device.log()
    refused = device.ctl("stop-session")
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", "no session is active\n")


def test_commands_of_the_platform_start_and_stop_a_session(platform: Platform, device: Device) -> None:
    device.start()

    command(platform, device, 3)
    session = until(lambda: device.state()["session"], "a session")
    assert session["status"] == "active"
    until(lambda: known(platform, device)["current_session_id"] == session["id"], "the heartbeat tells the session")

    command(platform, device, 4)
    until(lambda: device.state()["session"]["status"] == "completed", "completed")
    assert platform.get(f"sessions/{session['id']}")["status"] == "completed"


def test_a_module_starts_and_stops_a_session_over_the_bus(device: Device) -> None:
    device.write_composition("Control", SESSION_CONTROL)
    device.start_with_bus()

    device.ask("start-composition", "Control")

    until(lambda: (device.state()["session"] or {}).get("status") == "completed", "started and completed")
    assert "INFO [only] saw active" in device.log()


SESSION_CONTROL = """
import json, os, pathlib, time, zmq
bus = zmq.Context().socket(zmq.XPUB)
bus.connect(os.environ["ROBOTICKS_BUS_PUBLISH"])
bus.recv()
names = {"module": os.environ["ROBOTICKS_MODULE"], "composition": os.environ["ROBOTICKS_COMPOSITION"]}
def say(topic, **payload):
    bus.send_multipart([topic.encode(), json.dumps({**names, **payload}).encode()])
say("/roboticks/module/ready")
say("/roboticks/session/control", action="start")
state = pathlib.Path(os.environ["ROBOTICKS_ROOT"], "state", "device-manager.json")
while not json.loads(state.read_text())["session"]:
    time.sleep(0.005)
print("saw active", flush=True)
say("/roboticks/session/control", action="stop")
time.sleep(60)
"""


def test_a_session_that_comes_too_late_is_given_back(platform: Platform, device: Device) -> None:
    device.start()
    platform.process.send_signal(signal.SIGSTOP)
    try:
        refused = device.ctl("start-session", "--timeout", "0.1")
    finally:
        platform.process.send_signal(signal.SIGCONT)

    def statuses() -> list[str]:
        items = platform.get("sessions", device_id=device.state()["dsn"])["items"]
        return [item["status"] for item in items]

    assert refused.returncode == 1
    until(lambda: statuses() == ["failed"], "the platform's session is ended")
    assert device.ask("start-session")["status"] == "active"


def test_a_session_that_a_crash_left_active_is_failed_at_the_next_start(platform: Platform, device: Device) -> None:
    process = device.start()
    session = device.ask("start-session")
    process.kill()
    process.wait()

    device.start()

    until(lambda: platform.get(f"sessions/{session['id']}")["status"] == "failed", "failed at the platform")
    until(lambda: not list((device.root / "sessions/active").iterdir()), "filed")


# --- logs -------------------------------------------------------------------------------------------------------------


def test_log_lines_have_a_time_a_level_and_a_part_and_arrive_at_the_platform(
    platform: Platform, device: Device
) -> None:
    device.start()
    session = device.ask("start-session")

    found = until(lambda: logged(platform, device, "Session created"), "the message at the platform")

    assert [(entry["level"], entry["module"]) for entry in found] == [("INFO", "sessions")]
    assert until(lambda: platform.get(f"sessions/{session['id']}/logs")["items"], "logs of the session")
    first = device.log().splitlines()[0].split(" ", 3)
    assert time.strptime(first[0], "%Y-%m-%dT%H:%M:%S.%fZ")
    assert first[1:3] == ["INFO", "[registration]"]


def test_its_stderr_is_not_written_twice_when_that_is_the_log_file(device: Device) -> None:
    (device.root / "log").mkdir()
    (device.root / "log" / "device-manager.log").symlink_to(device.root / "stderr.log")

    stop(device.start())

    lines = (device.root / "stderr.log").read_text().splitlines()
    assert len(lines) == len(set(lines))
    assert any("Registered with DSN" in line for line in lines)


def test_what_is_logged_while_the_platform_is_away_arrives_in_order_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "platform"
    expected = [f"line {number}" for number in range(100)]

    with running(folder) as first, device_of(first, tmp_path / "root") as device:
        process = device.start_with_bus()
        device.write_composition("Talker", TALKER)
        device.ask("start-composition", "Talker")
        until(lambda: lines_at(first, device) == expected[:50], "the first lines at the platform")
        first.stop()
        until(lambda: device.state()["phase"] == "registered", "the loss is noticed")
        assert device.state()["error"]["code"] in ("broker-unreachable", "platform-unreachable")
        (device.root / "talk-on").touch()
        until(lambda: "line 99\n" in device.log(), "it talks on")
        with running(folder) as second:
            device.until_phase("online", process)
            until(lambda: len(lines_at(second, device)) >= 100, "all lines at the platform")
            assert lines_at(second, device) == expected


TALKER = """
import json, os, pathlib, time, zmq
bus = zmq.Context().socket(zmq.XPUB)
bus.connect(os.environ["ROBOTICKS_BUS_PUBLISH"])
bus.recv()
names = {"module": os.environ["ROBOTICKS_MODULE"], "composition": os.environ["ROBOTICKS_COMPOSITION"]}
bus.send_multipart([b"/roboticks/module/ready", json.dumps(names).encode()])
for number in range(100):
    if number == 50:
        while not pathlib.Path(os.environ["ROBOTICKS_ROOT"], "talk-on").exists():
            time.sleep(0.005)
    print("line", number, flush=True)
time.sleep(600)
"""


# --- control ----------------------------------------------------------------------------------------------------------


def test_ctl_without_a_device_manager_exits_with_3(device: Device) -> None:
    nothing = device.ctl("status")
    stop(device.start())
    gone = device.ctl("status")

    assert (nothing.returncode, nothing.stdout) == (3, "")
    assert gone.returncode == 3
    assert "no device manager is running" in gone.stderr


def test_ctl_with_a_socket_that_a_crash_left_exits_with_3(device: Device) -> None:
    process = device.start()
    process.kill()
    process.wait()

    assert (device.root / "run/ctl.sock").exists()
    assert device.ctl("status").returncode == 3


def test_ctl_status_is_the_state(device: Device) -> None:
    device.start_with_bus()

    assert device.ask("status") == device.state()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fly"], 2, "unknown command 'fly'"),
        (["start-composition"], 2, "takes 1 name"),
        (["start-session", "--timeout", "soon"], 2, "--timeout must be a number"),
        (["status", "--loud"], 2, "unknown option --loud"),
    ],
)
def test_ctl_usage_errors_are_one_sentence(device: Device, arguments: list[str], code: int, words: str) -> None:
    device.start()

    completed = device.ctl(*arguments)

    assert completed.returncode == code
    assert words in completed.stderr
    assert completed.stderr.count("\n") == 1


def test_a_root_longer_than_a_unix_address_works(platform: Platform, tmp_path: Path) -> None:
    with device_of(platform, tmp_path / ("deep" * 40) / "and $HOME \"'` wide") as device:
        assert len(str(device.root)) > 160
        process = device.start()
        assert device.ask("status")["pid"] == process.pid
        assert stop(process)[0] == 0


def test_the_installed_script_knows_its_root(device: Device) -> None:
    process = device.start()
    environment = {key: value for key, value in device.environ.items() if key != "ROBOTICKS_ROOT"}

    completed = subprocess.run([device.program, "ctl", "status"], env=environment, capture_output=True, text=True)

    assert f'"pid": {process.pid}' in completed.stdout, completed.stderr


def test_a_second_device_manager_in_the_same_root_does_not_disturb_the_first(device: Device) -> None:
    first = device.start()

    second = device.start(wait_for=None)

    assert second.wait(10) == 6
    assert "already running" in (device.root / "stderr.log").read_text()
    assert device.ask("status")["pid"] == first.pid


def test_it_tells_its_version(device: Device) -> None:
    completed = subprocess.run([device.program, "--version"], capture_output=True, text=True)

    assert completed.stdout == "device-manager 1.0.0 (simulated)\n"


# --- the bus's port ---------------------------------------------------------------------------------------------------


def test_a_bus_port_that_was_asked_for_and_is_busy_ends_it_with_one_sentence(device: Device) -> None:
    context = zmq.Context()
    with context.socket(zmq.PUB) as occupant:
        port = occupant.bind_to_random_port("tcp://127.0.0.1")
        device.configure(bus_port=port)

        process = device.start(wait_for=None)

        assert process.wait(10) == 2
    context.destroy(linger=0)
    assert device.state()["error"] == {
        "code": "bus-port",
        "message": f"the bus cannot have tcp://127.0.0.1:{port}: Address already in use",
    }


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything_in_order(platform: Platform, device: Device, number: signal.Signals) -> None:
    device.deploy()
    process = device.start_with_bus()
    session = device.ask("start-session")
    device.ask("start-composition", "HelloWorldComposition")
    assert len(device.module_processes()) == 2

    process.send_signal(number)

    assert process.wait(10) == 0
    assert device.module_processes() == []
    state = device.state()
    assert (state["phase"], state["error"]) == ("stopped", None)
    assert state["session"]["status"] == "completed"
    assert {entry["status"] for entry in state["compositions"]} == {"stopped"}
    assert platform.get(f"sessions/{session['id']}")["status"] == "completed"
    until(lambda: known(platform, device)["status"] == "offline", "offline at the platform")
    last_words = until(lambda: logged(platform, device, "Stopped"), "the last message at the platform")
    assert "Stopped" in [entry["message"] for entry in last_words]
    assert not (device.root / "run/ctl.sock").exists()


def test_it_stops_fast_although_a_module_ignores_sigterm(device: Device) -> None:
    device.write_composition("Stubborn", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + TALKER)
    process = device.start_with_bus()
    device.ask("start-composition", "Stubborn")

    code, seconds = stop(process)

    assert code == 0
    assert device.module_processes() == []
    assert seconds < 1.0


def test_it_stops_fast_when_the_platform_is_gone(tmp_path: Path) -> None:
    with running(tmp_path / "platform") as platform, device_of(platform, tmp_path / "root") as device:
        process = device.start()
        device.ask("start-session")
        platform.kill()
        until(lambda: device.state()["phase"] == "registered", "the loss is noticed")

        code, seconds = stop(process)

        assert code == 0
        assert seconds < 1.0
        assert device.state()["phase"] == "stopped"


def test_kill_9_leaves_no_module_and_no_grandchild_alive(device: Device) -> None:
    device.deploy()
    device.write_composition("Parent", "import subprocess; subprocess.Popen(['sleep', '600'])\n" + TALKER)
    process = device.start_with_bus()
    device.ask("start-composition", "HelloWorldComposition")
    device.ask("start-composition", "Parent")
    assert len(device.module_processes()) == 4

    process.kill()

    until(lambda: not device.module_processes(), "all modules are gone", timeout=2.0)


def test_kill_9_leaves_no_module_alive_although_the_guard_was_killed_before(device: Device) -> None:
    device.deploy()
    process = device.start_with_bus()
    device.ask("start-composition", "HelloWorldComposition")
    [guard] = [pid for pid in children_of(process.pid) if b"guard.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    os.kill(guard, signal.SIGKILL)
    until(lambda: "[guard] a new guard knows 2 modules" in device.log(), "another guard")
    process.kill()

    until(lambda: not device.module_processes(), "all modules are gone", timeout=2.0)


def test_a_stop_ends_what_modules_have_put_into_sessions_of_their_own(device: Device) -> None:
    device.write_composition("Daemon", DAEMON + TALKER)
    process = device.start_with_bus()
    device.ask("start-composition", "Daemon")
    short, long = ((device.root / name).read_text().strip() for name in ("short", "long"))
    until(lambda: int(long) in children_of(process.pid), "it is adopted")
    until(lambda: not Path("/proc", short).exists(), "note is taken of the end of the other")

    assert stop(process)[0] == 0

    assert not Path("/proc", long).exists()


DAEMON = """
import os, subprocess
for name, seconds in (("short", "0"), ("long", "600")):
    command = f"setsid sleep {seconds} >/dev/null 2>&1 & echo $! >$ROBOTICKS_ROOT/{name}"
    subprocess.run(["sh", "-c", command])
"""


def test_a_full_disk_ends_it_with_one_line_and_code_5(device: Device) -> None:
    (device.root / "log").mkdir()
    (device.root / "log" / "device-manager.log").symlink_to("/dev/full")

    process = device.start(wait_for=None)

    assert process.wait(10) == 5
    lines = (device.root / "stderr.log").read_text().splitlines()
    assert [line for line in lines if "No space left on device" in line]
    assert not [line for line in lines if "Traceback" in line]
    assert device.state()["error"]["code"] == "storage"


@pytest.mark.parametrize("folder", ["etc", "log", "run", "sessions", "state"])
def test_a_folder_that_cannot_be_written_ends_it_with_one_line_and_code_5(device: Device, folder: str) -> None:
    (device.root / folder).write_text("a file where the folder should be")

    process = device.start(wait_for=None)

    assert process.wait(10) == 5
    [line] = (device.root / "stderr.log").read_text().splitlines()
    assert line.startswith(f"device-manager: cannot write {device.root}/{folder}")


def test_a_wrong_device_yaml_ends_it_with_one_sentence(device: Device) -> None:
    device.configure(heartbeat_interval="often")

    process = device.start(wait_for=None)

    assert process.wait(10) == 2
    assert device.state()["error"]["code"] == "bad-configuration"
    assert "device.yaml: heartbeat_interval must be a number" in device.state()["error"]["message"]


# --- faults to order --------------------------------------------------------------------------------------------------


def test_dies_at_start(device: Device) -> None:
    process = device.start(fault="dies-at-start", wait_for=None)

    assert process.wait(10) == 7
    assert "CRITICAL [faults] simulated fault: dies-at-start" in device.log()
    assert device.state()["dsn"] is None


def test_dies_later_after_it_has_registered(device: Device) -> None:
    process = device.start(fault="dies-later=0.1", wait_for="online")

    assert process.wait(10) == 8
    assert device.state()["dsn"] is not None
    assert "simulated fault: dies-later" in device.log()


def test_never_registers_but_answers_and_stops(device: Device) -> None:
    process = device.start(fault="never-registers", wait_for="registering")
    until(lambda: "simulated fault: never-registers" in device.log(), "the fault is announced")

    assert device.ask("status")["dsn"] is None
    assert stop(process)[0] == 0


def test_registers_late(device: Device) -> None:
    started = time.monotonic()
    device.start(fault="registers-late=0.5")

    assert time.monotonic() - started > 0.5


def test_no_session_is_refused_within_the_time_asked_for(platform: Platform, device: Device) -> None:
    device.start(fault="no-session")

    refused = device.ctl("start-session", "--timeout", "0.2")

    assert refused.returncode == 1
    assert refused.stderr == "the platform gave no session within 0.2 s\n"
    assert device.state()["session"] is None
    assert platform.get("sessions", device_id=device.state()["dsn"])["total"] == 0


def test_ignores_sigterm(device: Device) -> None:
    process = device.start(fault="ignores-sigterm")
    process.terminate()
    until(lambda: "simulated fault: ignores-sigterm" in device.log(), "the signal is noticed")

    assert device.ask("status")["phase"] == "online"


def test_an_unknown_fault_is_refused(device: Device) -> None:
    process = device.start(fault="explodes", wait_for=None)

    assert process.wait(10) == 2
    assert "unknown fault 'explodes'" in device.state()["error"]["message"]
