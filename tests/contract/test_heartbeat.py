"""Signs of life over real links, and what becomes of the device manager when the link dies."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from roboticks_tasks.errors import TargetError
from roboticks_tasks.lifecycle.support import heartbeat
from roboticks_tasks.lifecycle.support.heartbeat import beating, leave_watched
from roboticks_tasks.lifecycle.support.watchdog import BEAT, is_watched, stop_watchdog
from roboticks_tasks.models import DeviceManager
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets import Completed, Target
from roboticks_tasks.targets.local import LocalTarget
from roboticks_tasks.targets.serial import open_serial
from roboticks_tasks.targets.ssh import SshTarget, open_ssh
from tests.conditions import until
from tests.contract.pty_board import profile_of, running_board
from tests.contract.robot import Robot, running_robot, runs
from tests.contract.sshd import children, running_sshd
from tests.contract.tcp_proxy import TcpProxy, running_proxy
from tests.contract.test_watchdog import end, manager


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    """A folder of the board, and a way to it that needs no link: the board is this machine."""
    (tmp_path / "robot").mkdir()
    with running_robot(LocalTarget(), tmp_path / "robot") as one:
        yield one
        end(one.target, one.folder)


def watched(profile: Profile, seconds: float) -> Profile:
    spec = msgspec.structs.replace(profile.device_manager, watchdog=seconds)
    return msgspec.structs.replace(profile, device_manager=spec)


@contextmanager
def ssh_board(folder: Path) -> Iterator[tuple[Profile, TcpProxy]]:
    """Run an sshd that is reached through a proxy."""
    with running_sshd(folder / "sshd") as sshd, running_proxy(sshd.port) as proxy:
        yield sshd.profile(port=proxy.port, keep_alive=1, connect_timeout=2), proxy


class Counting:
    """A target that counts the signs of life that have arrived."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.arrived = 0

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        done = self._target.run(argv, stdin=stdin, timeout=timeout, repeatable=repeatable)
        self.arrived += BEAT in argv and done.ok
        return done


def await_stopped(dm: DeviceManager) -> None:
    until(lambda: not runs(dm.pid), "the board has stopped the device manager", 60)
    until(lambda: "watchdog: stopped" in Path(dm.log_path).read_text(), "its log says why")


def test_over_ssh_the_board_stops_it_when_the_network_swallows_everything(
    robot: Robot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dm = manager(robot)
    with ssh_board(tmp_path) as (profile, proxy), open_ssh(profile) as target:
        with caplog.at_level(logging.WARNING), beating(watched(profile, 3), dm, target):
            proxy.blackhole()
            await_stopped(dm)
            until(lambda: "the board's watchdog gets no sign of life" in caplog.text, "the run says so")
        proxy.blackhole(False)


def test_over_ssh_the_board_stops_it_when_the_connection_is_killed_and_none_can_be_made(
    robot: Robot, tmp_path: Path
) -> None:
    dm = manager(robot)
    before = set(children(os.getpid()))
    with ssh_board(tmp_path) as (profile, proxy), open_ssh(profile) as target:
        masters = [
            pid for pid in set(children(os.getpid())) - before if b"-M" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert masters
        with beating(watched(profile, 3), dm, target):
            proxy.refuse()
            for pid in masters:
                os.kill(pid, signal.SIGKILL)
            await_stopped(dm)


def test_over_a_console_the_board_stops_it_when_the_cable_is_pulled(robot: Robot, tmp_path: Path) -> None:
    dm = manager(robot)
    with running_board(tmp_path / "pty") as board:
        profile = profile_of(board, connect_timeout=2)
        with open_serial(profile) as target, beating(watched(profile, 3), dm, target):
            board.unplug()
            await_stopped(dm)


@pytest.mark.parametrize("kind", ["ssh", "serial"])
def test_a_link_that_is_made_anew_keeps_it_alive(
    robot: Robot, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "LONGEST_INTERVAL", 1.0)
    dm = manager(robot)
    with ssh_board(tmp_path) as (over_ssh, proxy), running_board(tmp_path / "pty") as board:
        profile = over_ssh if kind == "ssh" else profile_of(board)
        with open_ssh(profile) if kind == "ssh" else open_serial(profile) as target:
            counting = Counting(target)
            with beating(watched(profile, 12), dm, counting):
                if kind == "ssh":
                    proxy.cut()
                else:
                    board.unplug()
                    board.plug()
                before = counting.arrived
                until(lambda: counting.arrived > before + 1, "signs of life arrive again", 60)
                assert runs(dm.pid)
            assert stop_watchdog(robot.target, dm.root) == "stopped"


def test_a_sign_of_life_that_is_stuck_when_the_target_is_closed_does_not_connect_again(tmp_path: Path) -> None:
    before = set(children(os.getpid()))
    with ssh_board(tmp_path) as (profile, _), ThreadPoolExecutor(1) as threads:
        target = SshTarget(profile)
        stuck = threads.submit(target.run, ["sh", "-c", f"echo >{tmp_path}/began; exec sleep 600"], repeatable=True)
        until((tmp_path / "began").exists, "the command runs")
        ours = set(children(os.getpid())) - before
        target.close()
        with pytest.raises(TargetError, match="the connection was closed"):
            stuck.result(20)
        assert not set(children(os.getpid())) - before - ours


def test_the_watchdog_outlives_the_run_and_the_link(robot: Robot, tmp_path: Path) -> None:
    dm = manager(robot)
    with ssh_board(tmp_path) as (profile, _), open_ssh(profile) as target, beating(watched(profile, 3), dm, target):
        pass
    assert is_watched(robot.target, dm.root)
    await_stopped(dm)


def test_what_is_kept_is_watched_for_longer(robot: Robot, caplog: pytest.LogCaptureFixture) -> None:
    dm = manager(robot)
    with beating(Profile(), dm, robot.target):
        pass
    leave_watched(Profile(), dm, robot.target, seconds=600)
    assert is_watched(robot.target, dm.root)
    assert not caplog.records
