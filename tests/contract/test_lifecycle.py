"""The seven functions called alone, as from a script, on a device manager of which only the log is known."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

import roboticks_tasks as rt
from roboticks_tasks.errors import (
    BinaryError,
    ConfigError,
    LaunchError,
    NoVerdictError,
    RegistrationError,
    SessionError,
    Verdict,
)
from roboticks_tasks.lifecycle.support import elf
from roboticks_tasks.models import BackendRef, Binary, DeviceManager, Dsn, Session
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.values import Source
from roboticks_tasks.targets.detached import Detached, is_alive
from roboticks_tasks.targets.local import LocalTarget
from tests.contract.shells import TinyTarget

SESSION = "5d683a20-382e-4309-bdbb-3d531f42d2ad"
NOWHERE = BackendRef(url="http://127.0.0.1:9")


class Robot:
    """A machine with a device manager that is a shell script, and the values that the functions take."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.artifacts = folder / "run"
        self.artifacts.mkdir()
        document = {
            "name": "robot",
            "device_manager": {"root": str(self.root)},
            "session": {"request": "none"},
            "timeouts": {"launch": 0.1, "dsn": 0.5, "session": 0.5},
        }
        self.profile = msgspec.convert(document, Profile)

    def install(self, *lines: str) -> Binary:
        path = self.root / "install" / "bin" / "device-manager"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(0o755)
        return rt.ensure_binary(self.profile)

    def launch(self, *lines: str) -> DeviceManager:
        return rt.launch_dm(self.profile, self.install(*lines), NOWHERE, artifacts=self.artifacts)


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    one = Robot(tmp_path)
    yield one
    rt.teardown(one.profile, artifacts=one.artifacts)


def test_dsn_and_session_come_from_the_log_where_there_is_no_state_file(robot: Robot) -> None:
    dm = robot.launch("echo 'Registered with DSN: WR-001'", f"echo 'Session created: {SESSION}'", "exec sleep 60")
    dsn = rt.await_dsn(robot.profile, dm)
    assert dsn == Dsn(value="WR-001", source="log")
    session = rt.await_session(robot.profile, dm, dsn, NOWHERE)
    assert session == Session(id=SESSION, dsn="WR-001", source="log")


def test_the_patterns_of_the_profile_find_what_another_log_says(robot: Robot) -> None:
    patterns = msgspec.structs.replace(robot.profile.device_manager.log_patterns, dsn=r"serial=(?P<dsn>\w+)")
    manager = msgspec.structs.replace(robot.profile.device_manager, log_patterns=patterns)
    dm = robot.launch("echo 'up: serial=A7'", "exec sleep 60")
    profile = msgspec.structs.replace(robot.profile, device_manager=manager)
    assert rt.await_dsn(profile, dm).value == "A7"


@pytest.mark.parametrize(
    ("pattern", "reason"), [("(", "is not a regular expression"), ("serial=(.*)", r"has no group \(\?P<dsn>…\)")]
)
def test_a_pattern_that_cannot_work_is_named(robot: Robot, pattern: str, reason: str) -> None:
    patterns = msgspec.structs.replace(robot.profile.device_manager.log_patterns, dsn=pattern)
    manager = msgspec.structs.replace(robot.profile.device_manager, log_patterns=patterns)
    profile = msgspec.structs.replace(robot.profile, device_manager=manager)
    dm = robot.launch("exec sleep 60")
    with pytest.raises(ConfigError, match=rf"`device_manager\.log_patterns\.dsn` {reason}"):
        rt.await_dsn(profile, dm)


def test_no_dsn_in_time_says_what_was_last_seen_on_every_side(robot: Robot) -> None:
    dm = robot.launch("echo booting", "exec sleep 60")
    with pytest.raises(RegistrationError) as failed:
        rt.await_dsn(robot.profile, dm)
    message = str(failed.value)
    assert "no DSN within 0.5 s" in message
    assert f"(pid {dm.pid}) is running" in message
    assert "no state written" in message
    assert "last log line: 'booting'" in message
    assert "was not asked" in message


def test_no_session_in_time_says_so(robot: Robot) -> None:
    dm = robot.launch("echo 'Registered with DSN: WR-001'", "exec sleep 60")
    with pytest.raises(SessionError, match=r"no session within 0\.5 s: the device manager \(pid \d+\) is running"):
        rt.await_session(robot.profile, dm, Dsn(value="WR-001", source="log"), NOWHERE)


def test_a_device_manager_that_dies_is_not_waited_for(robot: Robot) -> None:
    profile = msgspec.structs.replace(robot.profile, timeouts=msgspec.structs.replace(robot.profile.timeouts, dsn=60))
    robot.root.mkdir()
    os.mkfifo(robot.root / "go")
    dm = robot.launch('read line <"$ROBOTICKS_ROOT/go"', "echo 'out of memory'")
    (robot.root / "go").write_text("die\n")
    with pytest.raises(RegistrationError, match=r"waiting for the DSN is in vain: .* has ended"):
        rt.await_dsn(profile, dm)


def test_a_device_manager_that_cannot_start_leaves_its_log_and_nothing_else(robot: Robot) -> None:
    with pytest.raises(LaunchError, match="its last words: 'no camera'"):
        robot.launch("echo 'no camera'", "exit 9")
    assert (robot.artifacts / "device-manager.log").read_text() == "no camera\n"


def test_launching_again_stops_the_one_that_was_left(robot: Robot) -> None:
    first = robot.launch("exec sleep 60")
    second = robot.launch("exec sleep 60")
    target = LocalTarget()
    assert not is_alive(target, Detached(first.pid, first.identity))
    assert is_alive(target, Detached(second.pid, second.identity))


def test_teardown_finds_by_itself_what_runs_and_is_idempotent(robot: Robot) -> None:
    dm = robot.launch("echo hello", "exec sleep 60")
    first = {part.name: part.detail for part in rt.teardown(robot.profile, artifacts=robot.artifacts).parts}
    assert first["device manager"] == f"stopped (pid {dm.pid})"
    assert (robot.artifacts / "device-manager.log").read_text() == "hello\n"
    second = {part.name: part.detail for part in rt.teardown(robot.profile, artifacts=robot.artifacts).parts}
    assert second["device manager"] == "none was running"


def test_a_part_of_teardown_that_fails_keeps_the_others_from_nothing(robot: Robot, tmp_path: Path) -> None:
    dm = robot.launch("exec sleep 60")
    (tmp_path / "file").touch()
    report = rt.teardown(robot.profile, artifacts=tmp_path / "file" / "run", dm=dm)
    assert {part.name: part.ok for part in report.parts} == {
        "tests": True,
        "session": True,
        "device manager": True,
        "log": False,
        "telemetry": True,
    }
    assert not report.ok
    assert not is_alive(LocalTarget(), Detached(dm.pid, dm.identity))


def test_deploy_without_a_folder_is_a_warning(robot: Robot, caplog: pytest.LogCaptureFixture) -> None:
    dm = robot.launch("exec sleep 60")
    deployment = rt.deploy(robot.profile, dm, Session(id=SESSION, dsn="WR-001", source="log"))
    assert deployment.compositions == ()
    assert "Deployment path does not exist" in caplog.text


def test_the_environment_of_the_device_manager_is_the_documented_one(
    robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBOTICKS_PROJECT_SECRET", "hush")
    robot.launch("env | sort", "exec sleep 60")
    rt.teardown(robot.profile, artifacts=robot.artifacts)
    told = dict(line.split("=", 1) for line in (robot.artifacts / "device-manager.log").read_text().splitlines())
    assert told["TEST_DEVICE"] == "true"
    assert told["ROBOTICKS_ROOT"] == str(robot.root)
    assert told["ROBOTICKS_API_URL"] == NOWHERE.url
    assert told["ROBOTICKS_PROJECT_SECRET"] == "hush"
    assert told["ROBOTICKS_COMPOSITION_MODE"] == "prod"


def test_a_junit_file_of_yesterday_is_no_verdict_of_today(robot: Robot, tmp_path: Path) -> None:
    crashes, yesterday = tmp_path / "pytest", tmp_path / "mine.xml"
    crashes.write_text("#!/bin/sh\nexit 0\n")
    crashes.chmod(0o755)
    yesterday.write_text("<testsuites><testsuite><testcase name='green'/></testsuite></testsuites>")
    suite = msgspec.structs.replace(robot.profile.tests, command=f"{crashes} --junitxml={yesterday}")
    profile = msgspec.structs.replace(robot.profile, tests=suite)
    with pytest.raises(NoVerdictError, match="it left no JUnit file"):
        rt.pytest_session(profile, Session(id=SESSION, dsn="WR-001", source="log"), artifacts=robot.artifacts)
    assert "<error" in (robot.artifacts / "pytest.xml").read_text()


def test_a_state_file_may_say_more_than_we_know(robot: Robot) -> None:
    composition = '{"name":"C","mode":"m","status":"running","pid":7}'
    state = f'{{"phase":"online","dsn":"WR-001","colour":"red","compositions":[{composition}]}}'
    file = '"$ROBOTICKS_ROOT/state/device-manager.json"'
    dm = robot.launch('mkdir -p "$ROBOTICKS_ROOT/state"', f"echo '{state}' >{file}", "exec sleep 60")
    assert rt.await_dsn(robot.profile, dm) == Dsn(value="WR-001", source="state")


class Board:
    """A robot of which only busybox's programs are known, and the profile that brings a device manager to it."""

    def __init__(
        self, folder: Path, *, content: bytes = b"#!/bin/sh\nexec sleep 60\n", without: Sequence[str] = ()
    ) -> None:
        self.programs = folder / "programs"
        self.programs.mkdir()
        # The shell is this machine's: busybox's own does not look whether its programs are there.
        self.target = TinyTarget(self.programs, without=("sh", *without), also=("sh",))
        self.robot = Robot(folder)
        self.source = folder / "source"
        self.source.write_bytes(content)
        self.path = self.robot.root / "install" / "bin" / "device-manager"
        manager = msgspec.structs.replace(self.robot.profile.device_manager, source=Source(path=str(self.source)))
        self.profile = msgspec.structs.replace(self.robot.profile, device_manager=manager)

    def replace(self, name: str, *lines: str) -> None:
        """Give the board another program of this name."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(0o755)

    def ensure(self) -> Binary:
        return rt.ensure_binary(self.profile, target=self.target)


def test_a_source_is_brought_once_started_and_stopped_on_a_board_that_has_only_busybox(tmp_path: Path) -> None:
    board = Board(tmp_path)
    binary = board.ensure()
    assert binary.sha256 == hashlib.sha256(board.source.read_bytes()).hexdigest()
    assert board.path.read_bytes() == board.source.read_bytes()
    written = board.path.stat().st_ino
    assert board.ensure() == binary
    assert board.path.stat().st_ino == written
    dm = rt.launch_dm(board.profile, binary, NOWHERE, artifacts=board.robot.artifacts, target=board.target)
    report = rt.teardown(board.profile, artifacts=board.robot.artifacts, dm=dm, target=board.target)
    assert report.ok, report
    assert not is_alive(LocalTarget(), Detached(dm.pid, dm.identity))


def test_a_device_manager_that_lost_its_permission_is_brought_again(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.ensure()
    board.path.chmod(0o644)
    board.ensure()
    assert board.path.stat().st_mode & 0o777 == 0o755


def test_no_setsid_on_the_board_is_the_benchs_fault(tmp_path: Path) -> None:
    board = Board(tmp_path, without=("setsid",))
    binary = board.ensure()
    with pytest.raises(LaunchError, match=r"the target has no `setsid`; install util-linux") as failed:
        rt.launch_dm(board.profile, binary, NOWHERE, artifacts=board.robot.artifacts, target=board.target)
    assert failed.value.verdict == Verdict.BENCH_ERROR
    assert failed.value.remedy.startswith("install util-linux")


def test_a_file_system_that_is_read_only_is_the_benchs_fault(tmp_path: Path) -> None:
    board = Board(tmp_path)
    binary = board.ensure()
    board.source.write_text("#!/bin/sh\nexit 0\n")
    board.replace("mkdir", "echo 'mkdir: can not create directory: Read-only file system' >&2", "exit 1")
    with pytest.raises(BinaryError, match=r"Read-only file system; remount it writable, or set") as refused:
        board.ensure()
    with pytest.raises(LaunchError, match=r"Read-only file system; remount it writable, or set") as failed:
        rt.launch_dm(board.profile, binary, NOWHERE, artifacts=board.robot.artifacts, target=board.target)
    assert {refused.value.verdict, failed.value.verdict} == {Verdict.BENCH_ERROR}


def test_a_program_for_another_machine_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    board = Board(tmp_path, content=b"\x7fELF\x02\x01" + bytes(12) + b"\xb7\x00" + bytes(100))
    board.replace("uname", "echo x86_64")
    with pytest.raises(BinaryError, match="is built for aarch64, the target is x86_64; provide the x86_64") as refused:
        board.ensure()
    assert refused.value.verdict == Verdict.BENCH_ERROR
    assert not board.robot.root.exists()
    board.path.parent.mkdir(parents=True)
    board.path.write_bytes(board.source.read_bytes())
    board.path.chmod(0o755)
    there = msgspec.structs.replace(board.profile.device_manager, source=None)
    with pytest.raises(BinaryError, match="is built for aarch64"):
        rt.ensure_binary(msgspec.structs.replace(board.profile, device_manager=there), target=board.target)


def test_a_program_whose_c_library_the_board_lacks_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    content = Path(sys.executable).resolve().read_bytes()
    needed = elf.needed_glibc(Path(sys.executable).resolve())
    if needed is None:  # an interpreter for musl
        content += b"\0GLIBC_2.17\0"
    board = Board(tmp_path, content=content)
    board.replace("getconf", "echo glibc 2.5")
    with pytest.raises(BinaryError, match=r"needs glibc 2\.\d+, the target has 2\.5") as refused:
        board.ensure()
    assert refused.value.verdict == Verdict.BENCH_ERROR
    assert not board.robot.root.exists()


def test_a_source_that_is_another_one_or_missing_is_the_configurations_fault(tmp_path: Path) -> None:
    board = Board(tmp_path)
    for source, reason in (
        (Source(path=str(board.source), sha256="0" * 64), "has SHA-256"),
        (Source(path=str(tmp_path / "none")), "cannot be read: No such file"),
    ):
        manager = msgspec.structs.replace(board.profile.device_manager, source=source)
        with pytest.raises(BinaryError, match=reason) as refused:
            rt.ensure_binary(msgspec.structs.replace(board.profile, device_manager=manager), target=board.target)
        assert refused.value.verdict == Verdict.CONFIG_ERROR
    assert not board.robot.root.exists()


def test_what_is_not_there_or_no_program_is_the_configurations_fault(robot: Robot) -> None:
    with pytest.raises(BinaryError, match="Device manager binary not found: ") as refused:
        rt.ensure_binary(robot.profile)
    assert refused.value.verdict == Verdict.CONFIG_ERROR
    path = Path(robot.install("exit 0").path)
    path.chmod(0o644)
    with pytest.raises(BinaryError, match="it is not executable; try: chmod"):
        rt.ensure_binary(robot.profile)
    path.unlink()
    path.mkdir()
    with pytest.raises(BinaryError, match="it is not a file"):
        rt.ensure_binary(robot.profile)


def test_the_device_is_told_the_platforms_address_as_it_reaches_it(robot: Robot) -> None:
    backend = BackendRef(url="http://127.0.0.1:9", device_url="http://127.0.0.1:10")
    binary = robot.install("echo $ROBOTICKS_API_URL", "exec sleep 60")
    rt.launch_dm(robot.profile, binary, backend, artifacts=robot.artifacts)
    rt.teardown(robot.profile, artifacts=robot.artifacts)
    assert (robot.artifacts / "device-manager.log").read_text() == "http://127.0.0.1:10\n"
