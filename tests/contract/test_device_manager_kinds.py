"""Device managers of every kind under the same functions: simulated, the Python bindings, a microcontroller's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

import roboticks_tasks as rt
from roboticks_tasks.errors import (
    BinaryError,
    DeployError,
    LaunchError,
    RegistrationError,
    SessionError,
    Verdict,
)
from roboticks_tasks.lifecycle.support.places import is_hosted
from roboticks_tasks.models import BackendRef, Binary, DeviceManager, Session
from roboticks_tasks.profiles import Profile
from roboticks_tasks.sim import device_manager as simulated
from roboticks_tasks.targets import Completed
from roboticks_tasks.targets.detached import Detached, find_detached, is_alive, stop
from roboticks_tasks.targets.local import LocalTarget
from tests.conditions import until
from tests.contract.sshd import Sshd, running_sshd

STAND_IN = Path(__file__).with_name("bindings")
NOWHERE = BackendRef(url="http://127.0.0.1:9")


class Robot:
    """A root folder on this machine, and the profile of the device manager in it."""

    def __init__(self, folder: Path, kind: str, **sections: Any) -> None:
        self.root, self.artifacts = folder / "root", folder / "run"
        self.artifacts.mkdir()
        manager = {
            "kind": kind,
            "root": str(self.root),
            "bindings": {"path": [str(STAND_IN)]} if kind == "bindings" else {},
            **({} if kind == "firmware" else {"interpreter": sys.executable}),
            **sections.pop("device_manager", {}),
        }
        document = {
            "name": "robot",
            "backend": "local",
            "local_platform": {"directory": str(folder / "platform")},
            "device_manager": manager,
            **sections,
        }
        self.profile = msgspec.convert(document, Profile)

    def launch(self, backend: BackendRef = NOWHERE, *, profile: Profile | None = None) -> DeviceManager:
        profile = profile or self.profile
        return rt.launch_dm(profile, rt.ensure_binary(profile), backend, artifacts=self.artifacts)

    def tear_down(self, dm: DeviceManager | None = None, session: Session | None = None) -> dict[str, str]:
        report = rt.teardown(self.profile, artifacts=self.artifacts, dm=dm, session=session)
        assert report.ok, report
        return {part.name: part.detail for part in report.parts}

    def calls(self) -> list[str]:
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def state(self) -> dict[str, Any]:
        path = self.root / "state" / "device-manager.json"
        document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"phase": ""}
        return document

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        program = self.root / "install" / "bin" / "device-manager"
        environment = {**os.environ, "ROBOTICKS_ROOT": str(self.root)}
        return subprocess.run([program, "ctl", *words], capture_output=True, text=True, env=environment)

    def log(self) -> str:
        return (self.root / "log" / "device-manager.log").read_text()


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """Leave no device manager running, also where a test has failed."""
    yield
    left = find_detached(LocalTarget(), str(tmp_path / "root" / "run" / "device-manager.pid"))
    if left is not None:
        stop(LocalTarget(), left, grace=0.1)


def faulty(folder: Path, fault: str, **sections: dict[str, Any]) -> Robot:
    """Return a robot whose bindings have this fault."""
    manager = {"environment": {"STAND_IN_FAULT": fault}, **sections.pop("device_manager", {})}
    return Robot(folder, "bindings", device_manager=manager, **sections)


@pytest.fixture(params=["simulated", "bindings"])
def robot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Robot]:
    deployment = {"path": "package:roboticks_tasks.sim/hello_world/deployment"}
    one = Robot(tmp_path, request.param, deployment=deployment)
    yield one
    rt.teardown(one.profile, artifacts=one.artifacts)


def test_every_kind_registers_has_a_session_runs_compositions_and_is_stopped(robot: Robot) -> None:
    profile, artifacts = robot.profile, robot.artifacts
    binary = rt.ensure_binary(profile)
    backend = rt.ensure_backend(profile, artifacts=artifacts)
    dm = rt.launch_dm(profile, binary, backend, artifacts=artifacts)
    dsn = rt.await_dsn(profile, dm)
    assert f"[registration] Registered with DSN: {dsn.value}\n" in robot.log()

    session = rt.await_session(profile, dm, dsn, backend)
    until(lambda: (robot.state()["session"] or {}).get("id") == session.id, "the state file names the session")
    assert f"[sessions] Session created: {session.id}\n" in robot.log()

    running = rt.deploy(profile, dm, session)
    assert [(each.name, each.mode, each.status) for each in running.compositions] == [
        ("HeartbeatComposition", "prod", "running"),
        ("HelloWorldComposition", "prod", "running"),
    ]
    other = rt.deploy(profile, dm, session, composition="HelloWorldComposition", mode="dev")
    assert [(each.name, each.mode) for each in other.compositions] == [("HelloWorldComposition", "dev")]
    with pytest.raises(DeployError, match="known: HeartbeatComposition, HelloWorldComposition"):
        rt.deploy(profile, dm, session, composition="Nothing")

    told = robot.tear_down(dm, session)
    assert told["session"] == f"stopped {session.id}"
    assert told["device manager"] == f"stopped (pid {dm.pid})"
    assert f"Session completed: {session.id}\n" in (artifacts / "device-manager.log").read_text()
    assert robot.state()["phase"] == "stopped"
    assert not is_alive(LocalTarget(), Detached(dm.pid, dm.identity))


def test_every_kind_answers_commands_in_the_same_way(robot: Robot) -> None:
    profile = robot.profile
    backend = rt.ensure_backend(profile, artifacts=robot.artifacts)
    rt.await_dsn(profile, robot.launch(backend))
    shutil.copytree(
        Path(rt.__file__).parent / "sim" / "hello_world" / "deployment", robot.root / "deployment", dirs_exist_ok=True
    )
    name = "HeartbeatComposition"
    started = robot.ctl("start-composition", name, "--mode", "dev")
    entry = {"name": name, "mode": "dev", "status": "running", "error": None}
    assert json.loads(started.stdout) == entry
    assert json.loads(robot.ctl("start-composition", name, "--mode=dev").stdout) == entry
    other = robot.ctl("start-composition", name, "--mode", "prod")
    assert (other.returncode, other.stdout) == (1, "")
    assert "runs in mode dev: stop it first" in other.stderr
    assert json.loads(robot.ctl("stop-composition", name).stdout) == {**entry, "status": "stopped"}
    listed = json.loads(robot.ctl("list-compositions").stdout)["compositions"]
    assert [each["name"] for each in listed] == ["HeartbeatComposition", "HelloWorldComposition"]

    refused = robot.ctl("stop-session")
    assert (refused.returncode, refused.stderr) == (1, "no session is active\n")
    session = json.loads(robot.ctl("start-session", "--timeout", "20").stdout)
    assert session["status"] == "active"
    assert json.loads(robot.ctl("start-session").stdout) == session
    assert json.loads(robot.ctl("stop-session").stdout) == {**session, "status": "completed"}
    status = json.loads(robot.ctl("status").stdout)
    assert status.items() >= {"phase": "online", "session": {**session, "status": "completed"}}.items()

    assert robot.ctl("fly").returncode == 2
    assert robot.ctl("start-session", "--timeout", "soon").returncode == 2
    robot.tear_down()
    assert robot.ctl("status").returncode == 3


def test_what_is_installed_already_is_not_written_again(robot: Robot) -> None:
    first = rt.ensure_binary(robot.profile)
    folder = robot.root / "install" / "bin"
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert rt.ensure_binary(robot.profile) == first
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before
    (folder / "device-manager").write_text("#!/bin/sh\nexit 1\n")
    assert rt.ensure_binary(robot.profile) == first
    assert (folder / "device-manager").stat().st_ino != before["device-manager"]


def test_an_interpreter_that_is_not_there_is_said_so(robot: Robot) -> None:
    manager = msgspec.structs.replace(robot.profile.device_manager, interpreter="/opt/none/python3")
    with pytest.raises(BinaryError, match="the interpreter /opt/none/python3 cannot be run on the target") as refused:
        rt.ensure_binary(msgspec.structs.replace(robot.profile, device_manager=manager))
    assert "`device_manager.interpreter`" in refused.value.remedy
    assert not (robot.root / "install" / "bin" / "device-manager").exists()


def test_an_interpreter_without_the_libraries_cannot_run_the_simulated_one(tmp_path: Path) -> None:
    python = tmp_path / "python"  # of the same version, with nothing installed
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    python.chmod(0o755)
    robot = Robot(tmp_path, "simulated", device_manager={"interpreter": str(python)})
    with pytest.raises(BinaryError, match=r"it lacks cryptography, paho\.mqtt, yaml, zmq; try: .* -m pip install"):
        rt.ensure_binary(robot.profile)


def test_this_interpreter_without_the_libraries_is_found_out_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated, "REQUIREMENTS", ("zmq", "none.such"))
    with pytest.raises(BinaryError, match=r"it lacks none\.such; try: "):
        rt.ensure_binary(Robot(tmp_path, "simulated").profile)


def test_a_module_that_is_not_there_is_told_with_the_folders_that_were_searched(tmp_path: Path) -> None:
    folders = [str(tmp_path / "lib"), "{root}/lib"]
    robot = Robot(tmp_path, "bindings", device_manager={"bindings": {"path": folders}})
    with pytest.raises(BinaryError, match=f"'roboticks_device' is not found in {tmp_path}/lib, {robot.root}/lib"):
        rt.ensure_binary(robot.profile)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "roboticks_device.cpython-27-vax.so").touch()
    with pytest.raises(BinaryError, match=r"\(there is roboticks_device\.cpython-27-vax\.so, which .* cannot load\)"):
        rt.ensure_binary(robot.profile)


def test_a_source_of_the_bindings_is_brought_to_the_first_of_their_folders(tmp_path: Path) -> None:
    source = {"path": str(STAND_IN / "roboticks_device.py")}
    robot = Robot(tmp_path, "bindings", device_manager={"source": source, "bindings": {"path": ["{root}/lib"]}})
    rt.ensure_binary(robot.profile)
    assert (robot.root / "lib" / "roboticks_device.py").read_bytes() == (STAND_IN / "roboticks_device.py").read_bytes()


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        ("import-fails", "bad-configuration", "cannot be imported: ImportError: libroboticks.so.1: cannot open"),
        ("no-class", "bad-configuration", r"has no 'DeviceManager' \(it has: .*: set `device_manager.bindings.type`"),
        (
            "constructor-raises",
            "bad-configuration",
            r"DeviceManager\(\) raised RuntimeError: no configuration: .*type`",
        ),
        ("start-raises", "start-failed", r"start\(\) of the bindings raised RuntimeError: no network"),
        ("start-returns-false", "start-failed", r"start\(\) of the bindings returned False"),
        ("never-registers", "registration-failed", r"wait_for_registration\(\) of the bindings returned False for 2 s"),
        ("ends-before-registration", "registration-failed", r"returned False, and is_running\(\) does so too"),
        ("no-dsn", "registration-failed", r"get_dsn\(\) of the bindings gave no DSN"),
    ],
)
def test_bindings_that_fail_say_which_call_and_what_to_set(tmp_path: Path, fault: str, code: str, reason: str) -> None:
    robot = faulty(tmp_path, fault, timeouts={"dsn": 2})
    dm = robot.launch()
    with pytest.raises(RegistrationError, match=rf"the registration failed: .*{reason}") as failed:
        rt.await_dsn(robot.profile, dm, timeout=30)
    assert failed.value.verdict == (Verdict.CONFIG_ERROR if code == "bad-configuration" else Verdict.BENCH_ERROR)
    assert robot.state()["error"]["code"] == code
    assert " ERROR [device-manager] " in robot.log()
    until(lambda: not is_alive(LocalTarget(), Detached(dm.pid, dm.identity)), "the host has ended")


@pytest.mark.parametrize(("key", "name"), [("start", "boot"), ("type", "Manager")])
def test_a_call_that_the_module_does_not_have_is_named_with_the_key_to_set(tmp_path: Path, key: str, name: str) -> None:
    robot = Robot(tmp_path, "bindings", device_manager={"bindings": {"path": [str(STAND_IN)], key: name}})
    with pytest.raises(RegistrationError, match=rf"has no '{name}'.*: set `device_manager\.bindings\.{key}`"):
        rt.await_dsn(robot.profile, robot.launch())


def test_a_crash_of_native_code_leaves_a_trace_in_the_log(tmp_path: Path) -> None:
    robot = faulty(tmp_path, "crashes")
    with pytest.raises(LaunchError, match="the device manager ended as soon as it was started"):
        robot.launch()
    assert "Fatal Python error: Segmentation fault" in (robot.artifacts / "device-manager.log").read_text()


@pytest.mark.parametrize("fault", ["waits-for-ever", "blocks"])
def test_a_signal_stops_bindings_that_are_stuck_in_a_call(tmp_path: Path, fault: str) -> None:
    robot = faulty(tmp_path, fault, timeouts={"launch": 0.5})
    dm = robot.launch()
    until(lambda: "start" in robot.calls(), "the call")
    assert robot.tear_down(dm)["device manager"] == f"stopped (pid {dm.pid})"
    assert "INFO [device-manager] SIGTERM: stopping\n" in robot.log()
    assert "WARNING [device-manager] a call of the bindings does not return" in robot.log()
    # What has not come to run yet is not asked to stop.
    assert robot.calls() == (["start", "stop 5"] if fault == "waits-for-ever" else ["start"])


def test_bindings_that_keep_the_interpreters_lock_are_killed(tmp_path: Path) -> None:
    robot = faulty(tmp_path, "holds-the-lock", timeouts={"launch": 0.5, "teardown": 2})
    dm = robot.launch()
    until(lambda: "start" in robot.calls(), "the call")
    assert robot.tear_down(dm)["device manager"] == f"killed (pid {dm.pid})"


def test_while_bindings_wait_for_the_registration_commands_are_answered(tmp_path: Path) -> None:
    robot = faulty(tmp_path, "never-registers", timeouts={"dsn": 60})
    dm = robot.launch()
    assert json.loads(robot.ctl("status").stdout)["phase"] == "registering"
    (robot.root / "deployment").mkdir()
    assert json.loads(robot.ctl("list-compositions").stdout) == {"compositions": []}
    assert robot.tear_down(dm)["device manager"] == f"stopped (pid {dm.pid})"
    assert robot.state()["phase"] == "stopped"


def test_stopping_does_what_the_platforms_own_runner_does(tmp_path: Path) -> None:
    robot = Robot(tmp_path, "bindings")
    dm = robot.launch()
    rt.await_dsn(robot.profile, dm)
    assert robot.ctl("start-session").returncode == 0
    os.kill(dm.pid, signal.SIGTERM)
    until(lambda: not is_alive(LocalTarget(), Detached(dm.pid, dm.identity)), "the host has ended")
    assert robot.calls() == ["start", "stop_active_session", "stop 5"]
    assert "WARNING" not in robot.log()  # in the thread that made the other calls


def test_the_arguments_of_the_profile_go_to_the_start_call(tmp_path: Path) -> None:
    robot = Robot(tmp_path, "bindings", device_manager={"arguments": ["--config", "{root}/device.yaml"]})
    dm = robot.launch()
    rt.await_dsn(robot.profile, dm)
    assert robot.calls() == [f"start --config {robot.root}/device.yaml"]
    robot.tear_down(dm)


def test_a_device_manager_that_stops_by_itself_is_said_to_have(tmp_path: Path) -> None:
    robot = faulty(tmp_path, "ends-later")
    dm = robot.launch()
    rt.await_dsn(robot.profile, dm)
    until(lambda: robot.state()["phase"] == "failed", "the end")
    assert robot.state()["error"] == {
        "code": "stopped-by-itself",
        "message": "the device manager has stopped: is_running() returned False",
    }
    until(lambda: not is_alive(LocalTarget(), Detached(dm.pid, dm.identity)), "the host has ended")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("no-session", r"no session within .* s: get_active_session_id\(\) of the bindings gives none"),
        ("session-refused", r"start_session\(\) of the bindings returned False"),
        ("only-documented-calls", r"has no 'start_session': set `device_manager\.bindings\.start_session`"),
    ],
)
def test_bindings_that_give_no_session_say_why(tmp_path: Path, fault: str, reason: str) -> None:
    robot = faulty(tmp_path, fault)
    dm = robot.launch()
    dsn = rt.await_dsn(robot.profile, dm)
    with pytest.raises(SessionError, match=reason):
        rt.await_session(robot.profile, dm, dsn, NOWHERE, timeout=0.5)
    robot.tear_down(dm)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("composition-raises", r"start_composition\('Arm', 'prod'\) of the bindings raised RuntimeError: no camera"),
        ("composition-refused", r"start_composition\('Arm', 'prod'\) of the bindings returned False"),
        ("only-documented-calls", r"has no 'start_composition': set `device_manager\.bindings\.start_composition`"),
    ],
)
def test_a_composition_that_the_bindings_do_not_start_has_failed(tmp_path: Path, fault: str, reason: str) -> None:
    robot = faulty(tmp_path, fault)
    (robot.root / "deployment" / "Arm").mkdir(parents=True)
    dm = robot.launch()
    dsn = rt.await_dsn(robot.profile, dm)
    with pytest.raises(DeployError, match=reason) as failed:
        rt.deploy(robot.profile, dm, Session(id="s", dsn=dsn.value, source="state"))
    assert failed.value.verdict == Verdict.FAILED
    assert robot.state()["compositions"][0]["status"] == "failed"
    robot.tear_down(dm)


def test_a_second_host_of_the_same_root_is_refused(tmp_path: Path) -> None:
    robot = Robot(tmp_path, "bindings")
    dm = robot.launch()
    environment = {**os.environ, "ROBOTICKS_ROOT": str(robot.root)}
    second = subprocess.run([dm.binary], env=environment, capture_output=True, text=True)
    assert second.returncode == 6
    assert second.stderr == f"device-manager: a device manager is already running in {robot.root}\n"
    robot.tear_down(dm)


class Counting:
    """This machine, and how many commands were run on it."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        self.commands.append(list(argv))
        return LocalTarget().run(argv, stdin=stdin, timeout=timeout, repeatable=repeatable)


@pytest.mark.parametrize(("kind", "most"), [("simulated", 1), ("bindings", 2)])
def test_what_is_installed_already_costs_few_commands(tmp_path: Path, kind: str, most: int) -> None:
    robot, target = Robot(tmp_path, kind), Counting()
    rt.ensure_binary(robot.profile)
    rt.ensure_binary(robot.profile, target=target)
    assert len(target.commands) == most


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "sshd") as one:
        yield one


@pytest.fixture(params=["simulated", "bindings"])
def board(request: pytest.FixtureRequest, tmp_path: Path, sshd: Sshd) -> Robot:
    """Return a robot that is reached over ssh, although it is this machine too."""
    reached = msgspec.to_builtins(sshd.profile())
    return Robot(tmp_path, request.param, target=reached["target"], boards=reached["boards"])


def test_every_kind_is_installed_over_ssh_and_finds_its_own_parts_there(board: Robot) -> None:
    first = rt.ensure_binary(board.profile)
    folder = board.root / "install" / "bin"
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert rt.ensure_binary(board.profile) == first
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before
    absent = board.ctl("status")
    assert (absent.returncode, absent.stderr) == (3, f"no device manager is running in {board.root}\n")


@pytest.mark.parametrize("board", ["bindings"], indirect=True)
def test_bindings_run_on_a_board_behind_ssh(board: Robot) -> None:
    dm = board.launch()
    dsn = rt.await_dsn(board.profile, dm)
    session = rt.await_session(board.profile, dm, dsn, NOWHERE)
    (board.root / "deployment" / "Arm").mkdir(parents=True)
    deployed = rt.deploy(board.profile, dm, session)
    assert [(each.name, each.status) for each in deployed.compositions] == [("Arm", "running")]
    told = board.tear_down(dm, session)
    assert told["device manager"] == f"stopped (pid {dm.pid})"
    assert "stop_active_session" in board.calls()


class Console:
    """A microcontroller's console on a TCP port, which says that it has registered to whoever connects."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._server.accept()[0]
            except OSError:
                return
            self._connections.append(connection)
            connection.sendall(b"boot\r\nRegistered with DSN: ESP-1\r\n")

    def close(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.close()


@pytest.fixture
def micro(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Robot]:
    """Return a board of which only the console is known; its power command counts how often it was cycled."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    console = Console()
    image = tmp_path / "firmware.bin"
    image.write_bytes(b"\x00image")
    board = {"id": "esp", "console": {"port": console.port}}
    flash = ["sh", "-c", 'echo "$@" >>"$0"', str(tmp_path / "flashed"), "{source}", "{port}", "{board}"]
    one = Robot(
        tmp_path,
        "firmware",
        boards=[{**board, "power": {"cycle": ["sh", "-c", f"echo cycled >>{tmp_path}/power"]}}],
        device_manager={"flash": flash, "source": {"path": str(image)}},
        session={"request": "none"},
    )
    yield one
    rt.teardown(one.profile, artifacts=one.artifacts)
    console.close()


def captured(robot: Robot) -> Path:
    """Start to capture the board's console, as a run does, and return the log."""
    from roboticks_tasks.serial_console.captures import start_capture

    console = robot.profile.boards[0].console
    assert console is not None
    return Path(start_capture(console, log=robot.artifacts / "console.log").log)


def test_firmware_is_flashed_and_seen_through_its_console(micro: Robot, tmp_path: Path) -> None:
    console = micro.profile.boards[0].console
    assert console is not None
    log = captured(micro)
    binary = rt.ensure_binary(micro.profile)
    assert binary.path == str(tmp_path / "firmware.bin")
    assert (tmp_path / "flashed").read_text() == f"{binary.path} {console.port} esp\n"
    dm = rt.launch_dm(micro.profile, binary, NOWHERE, artifacts=micro.artifacts)
    assert (tmp_path / "power").read_text() == "cycled\n"
    assert dm.log_path == str(log)
    assert is_alive(LocalTarget(), Detached(dm.pid, dm.identity))
    assert rt.await_dsn(micro.profile, dm).value == "ESP-1"
    again = rt.launch_dm(micro.profile, binary, NOWHERE, artifacts=micro.artifacts)
    assert again == dm  # the console's capture is no device manager that an earlier run has left


def test_firmware_without_a_flash_command_is_taken_as_it_is(micro: Robot) -> None:
    manager = msgspec.structs.replace(micro.profile.device_manager, flash=None, source=None)
    profile = msgspec.structs.replace(micro.profile, device_manager=manager)
    assert rt.ensure_binary(profile) == Binary(path="firmware")
    assert not is_hosted(profile)


def test_firmware_whose_console_nobody_captures_cannot_be_launched(micro: Robot) -> None:
    with pytest.raises(LaunchError, match=r"the console of board esp .* is not captured; run `ensure-board` first"):
        rt.launch_dm(micro.profile, Binary(path="firmware"), NOWHERE, artifacts=micro.artifacts)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "echo connecting; echo no chip >&2; exit 2",
            r"flashing board esp with sh failed with 2: connecting \| no chip",
        ),
        ("echo 'Could not open the port: Device or resource busy'; exit 1", r"busy; .* is being captured by us \(pid"),
        ("sleep 60", r"flashing board esp with sh did not end within 0\.5 s; raise `timeouts\.binary`"),
    ],
)
def test_a_flash_tool_that_fails_is_quoted(micro: Robot, script: str, reason: str) -> None:
    captured(micro)
    manager = msgspec.structs.replace(micro.profile.device_manager, flash=("sh", "-c", script))
    limits = msgspec.structs.replace(micro.profile.timeouts, binary=0.5 if "sleep" in script else 60)
    with pytest.raises(BinaryError, match=reason) as failed:
        rt.ensure_binary(msgspec.structs.replace(micro.profile, device_manager=manager, timeouts=limits))
    assert failed.value.verdict == Verdict.BENCH_ERROR


def test_another_firmware_than_the_profile_names_is_not_flashed(micro: Robot, tmp_path: Path) -> None:
    source = msgspec.convert({"path": str(tmp_path / "firmware.bin"), "sha256": "0" * 64}, type(_source(micro)))
    manager = msgspec.structs.replace(micro.profile.device_manager, source=source)
    with pytest.raises(BinaryError, match="has SHA-256") as refused:
        rt.ensure_binary(msgspec.structs.replace(micro.profile, device_manager=manager))
    assert refused.value.verdict == Verdict.CONFIG_ERROR
    assert not (tmp_path / "flashed").exists()


def _source(robot: Robot) -> Any:
    return robot.profile.device_manager.source
