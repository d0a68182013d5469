"""The watchdog on the board: it stops what nobody speaks for any more, and nothing else.

A test makes its seconds pass by writing what the watchdog's own clock writes: empty lines into its standard input.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from roboticks_tasks.lifecycle.support import watchdog
from roboticks_tasks.lifecycle.support.watchdog import (
    beat,
    is_watched,
    keep_for,
    pid_file_of,
    start_watchdog,
    stop_watchdog,
)
from roboticks_tasks.models import BackendRef, DeviceManager
from roboticks_tasks.targets import Target
from roboticks_tasks.targets.detached import Detached, spawn_detached
from roboticks_tasks.targets.local import LocalTarget
from tests.conditions import until
from tests.contract.robot import Robot, running_robot, runs
from tests.contract.shells import SHELLS
from tests.contract.small_disk import SmallDisk, open_small_disk

LONG = 400
"""Seconds that no test takes."""


@pytest.fixture(scope="module", params=list(SHELLS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with SHELLS[request.param]() as opened:
        yield opened


@pytest.fixture
def robot(target: Target, tmp_path: Path) -> Iterator[Robot]:
    with running_robot(target, tmp_path) as one:
        yield one
        end(target, tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have watchdogs count twenty times as fast: nothing of one ends before it has slept."""
    assert "sleep 1 || sleep 1" in watchdog.WATCHDOG
    script = watchdog.WATCHDOG.replace("sleep 1 || sleep 1", "sleep 0.05 || sleep 1")
    monkeypatch.setattr(watchdog, "WATCHDOG", script)


def end(target: Target, root: Path) -> None:
    """Leave no watchdog behind, nor any part of one."""
    left = groups(root)
    stop_watchdog(target, str(root))
    for group in left:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def manager(robot: Robot, script: str = "exec sleep 600") -> DeviceManager:
    """Start what stands for a device manager."""
    return described(robot.start(script), robot.folder)


def described(process: Detached, root: Path) -> DeviceManager:
    return DeviceManager(
        pid=process.pid,
        identity=process.identity,
        binary="",
        root=str(root),
        log_path=str(root / "log" / "a.log"),
        state_path=str(root / "a.json"),
        backend=BackendRef(url="http://127.0.0.1:9"),
    )


def members(root: Path) -> list[int]:
    """Return the processes of every watchdog of this root: all have its pid file among their arguments."""
    word = os.fsencode(pid_file_of(str(root)))
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # it has just ended
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            if word in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def groups(root: Path) -> set[int]:
    """Return the process groups of its watchdogs."""
    found = set()
    for pid in members(root):
        with suppress(ProcessLookupError):
            found.add(os.getpgid(pid))
    return found


def reader_of(root: Path) -> int:
    """Return the process that counts, once it is the one that the pid file names."""

    def named() -> int | None:
        with suppress(OSError, ValueError):
            pid = int(Path(pid_file_of(str(root))).read_text().split()[0])
            return pid if str(Path(f"/proc/{pid}/fd/0").readlink()).startswith("pipe:") else None
        return None

    return until(named, "the watchdog counts")


def pass_seconds(root: Path, count: int) -> None:
    """Have the watchdog count so many seconds, and wait until it has, or has ended."""
    with suppress(OSError), Path(f"/proc/{reader_of(root)}/fd/0").open("wb", buffering=0) as pipe:
        pipe.write(b"\n" * count)
        until(lambda: unread(pipe.fileno()) == 0 or not members(root), "it has read them")


def unread(descriptor: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"0000"))[0]
    return count


@pytest.mark.usefixtures("quick")
def test_a_device_manager_that_nobody_speaks_for_is_stopped_with_its_children_and_its_log_says_why(
    robot: Robot,
) -> None:
    dm = manager(robot, "sleep 600 & echo $! >child; echo >done; exec sleep 600")
    robot.await_file("done")
    child = int((robot.folder / "child").read_text())
    start_watchdog(robot.target, dm, seconds=1)
    until(lambda: not runs(dm.pid) and not runs(child), "both are stopped")
    until(lambda: not members(robot.folder), "the watchdog has ended")
    assert Path(dm.log_path).read_text() == (
        f"watchdog: stopped the device manager (pid {dm.pid}, stopped): "
        "no sign of life for 1 s, neither from the run nor from its machine\n"
    )
    assert not Path(pid_file_of(dm.root)).exists()


def test_one_that_does_not_listen_is_killed(robot: Robot) -> None:
    dm = manager(robot, "trap '' TERM; echo >done; while :; do sleep 0.01; done")
    robot.await_file("done")
    start_watchdog(robot.target, dm, seconds=LONG, grace=0.1)
    pass_seconds(robot.folder, LONG)
    until(lambda: not runs(dm.pid), "it is killed")
    until(lambda: f"(pid {dm.pid}, killed)" in Path(dm.log_path).read_text(), "the log says so")


def test_one_that_is_spoken_for_lives_until_nobody_does(robot: Robot) -> None:
    dm = manager(robot)
    start_watchdog(robot.target, dm, seconds=LONG)
    for _ in range(3):
        assert beat(robot.target, dm.root, seconds=LONG)
        pass_seconds(robot.folder, LONG - 100)
        assert runs(dm.pid)
    pass_seconds(robot.folder, 100)
    until(lambda: not runs(dm.pid), "it is stopped")


def test_the_last_sign_of_life_counts_also_when_it_is_good_for_less(robot: Robot) -> None:
    dm = manager(robot)
    start_watchdog(robot.target, dm, seconds=2 * LONG)
    assert beat(robot.target, dm.root, seconds=LONG)
    pass_seconds(robot.folder, LONG)
    until(lambda: not runs(dm.pid), "it is stopped")


@pytest.mark.usefixtures("quick")
def test_it_ends_with_the_device_manager_and_writes_nothing(robot: Robot) -> None:
    dm = manager(robot)
    start_watchdog(robot.target, dm, seconds=20 * LONG)
    assert is_watched(robot.target, dm.root)
    os.kill(dm.pid, signal.SIGKILL)
    until(lambda: not members(robot.folder), "it has ended")
    assert not is_watched(robot.target, dm.root)
    assert not beat(robot.target, dm.root, seconds=1)
    assert Path(dm.log_path).read_text() == ""
    assert not Path(pid_file_of(dm.root)).exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seconds", [1, 20 * LONG])
def test_another_process_with_the_device_managers_number_is_left_alone(robot: Robot, seconds: int) -> None:
    process = robot.start("exec sleep 600")
    recycled = described(Detached(process.pid, f"1-{process.identity.partition('-')[2]}"), robot.folder)
    start_watchdog(robot.target, recycled, seconds=seconds)
    until(lambda: not members(robot.folder), "it has ended")
    assert runs(process.pid)


def test_a_sign_of_life_goes_to_no_other_process_that_has_the_watchdogs_number(robot: Robot) -> None:
    process = robot.start("exec sleep 600")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        forged = f"{stranger.pid} 1-{process.identity.partition('-')[2]}\n"
        Path(pid_file_of(str(robot.folder))).write_text(forged)
        assert not beat(robot.target, str(robot.folder), seconds=1)
        assert stop_watchdog(robot.target, str(robot.folder)) == "none"
        assert stranger.communicate(b"")[0] == b""


@pytest.mark.usefixtures("quick")
def test_a_new_one_takes_the_place_of_the_old_one_which_stops_nothing(robot: Robot) -> None:
    dm = manager(robot)
    start_watchdog(robot.target, dm, seconds=LONG)
    first = reader_of(robot.folder)
    os.killpg(os.getpgid(first), signal.SIGSTOP)
    Path(f"/proc/{first}/fd/0").write_bytes(b"\n" * LONG)
    start_watchdog(robot.target, dm, seconds=20 * LONG)
    os.killpg(os.getpgid(first), signal.SIGCONT)  # its time is over, and it does not know yet that it was replaced
    second = reader_of(robot.folder)
    until(lambda: len(groups(robot.folder)) == 1, "the old one has ended")
    assert second in members(robot.folder)
    assert runs(dm.pid)


@pytest.mark.usefixtures("quick")
def test_a_watchdog_that_nobody_can_find_any_more_stops_nothing(robot: Robot) -> None:
    dm = manager(robot)
    start_watchdog(robot.target, dm, seconds=20 * LONG)
    reader_of(robot.folder)
    Path(pid_file_of(dm.root)).unlink()
    until(lambda: not members(robot.folder), "it has ended")
    assert runs(dm.pid)


def test_stopping_it_leaves_nothing_of_it_and_may_be_done_twice(robot: Robot) -> None:
    dm = manager(robot)
    start_watchdog(robot.target, dm, seconds=LONG)
    os.killpg(os.getpgid(reader_of(robot.folder)), signal.SIGSTOP)  # so none of it can end by itself
    assert stop_watchdog(robot.target, dm.root) == "stopped"
    until(lambda: not members(robot.folder), "nothing is left")
    assert stop_watchdog(robot.target, dm.root) == "none"
    assert runs(dm.pid)


def test_what_is_kept_is_stopped_later_by_the_watchdog_that_there_is_or_by_a_new_one(robot: Robot) -> None:
    dm = manager(robot)
    keep_for(robot.target, dm, LONG)
    first = reader_of(robot.folder)
    pass_seconds(robot.folder, LONG - 100)
    keep_for(robot.target, dm, 2 * LONG)
    assert reader_of(robot.folder) == first
    pass_seconds(robot.folder, 2 * LONG - 100)
    assert runs(dm.pid)
    pass_seconds(robot.folder, 100)
    until(lambda: not runs(dm.pid), "it is stopped")


def test_a_second_that_somebody_cuts_short_is_not_counted(robot: Robot) -> None:
    dm = manager(robot)
    start_watchdog(robot.target, dm, seconds=LONG)
    reader = reader_of(robot.folder)

    def sleeper() -> int | None:
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                pid = int(path.parent.name)
                if os.getpgid(pid) == os.getpgid(reader) and "(sleep)" in path.read_text():
                    return pid
        return None

    first = until(sleeper, "it sleeps")
    os.kill(first, signal.SIGKILL)
    until(lambda: sleeper() not in {None, first}, "it sleeps again")
    assert beat(robot.target, dm.root, seconds=LONG)


def test_a_board_whose_sleep_does_not_work_has_no_watchdog_rather_than_one_that_counts_too_fast(
    tmp_path: Path,
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sleep").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "sleep").chmod(0o755)
    strange = LocalTarget({**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})
    with running_robot(LocalTarget(), tmp_path) as robot:
        dm = manager(robot)
        start_watchdog(strange, dm, seconds=LONG)
        until(lambda: not members(tmp_path), "it has ended")
        assert runs(dm.pid)
        assert Path(dm.log_path).read_text() == ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (tmp_path / "disk").mkdir()
    with open_small_disk(tmp_path / "disk", size="1m") as disk:
        if disk is None:
            pytest.skip("this machine allows no mounts")
        yield disk


@pytest.mark.parametrize("state", ["full", "read-only"])
def test_signs_of_life_arrive_on_a_disk_that_takes_nothing(small_disk: SmallDisk, state: str) -> None:
    root = Path(small_disk.path)
    process = spawn_detached(
        small_disk,
        ["sleep", "600"],
        environment={},
        log="/dev/null",  # an open file would keep the disk from becoming read-only
        pid_file=f"{root}/run/a.pid",
        directory=str(root),
    )
    dm = described(process, root)
    try:
        start_watchdog(small_disk, dm, seconds=LONG)
        reader_of(small_disk.folder)
        if state == "full":
            assert not small_disk.run(["sh", "-c", f"cat /dev/zero >{root}/filler"]).ok
        else:
            small_disk.remount("ro")
        assert not small_disk.run(["sh", "-c", f"echo 1 >{root}/run/heartbeat"]).ok
        assert beat(small_disk, dm.root, seconds=LONG)
        assert is_watched(small_disk, dm.root)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        stop_watchdog(small_disk, dm.root)
