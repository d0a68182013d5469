"""A run whose link to the board dies, and then the run itself: the board is free of it all the same."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conditions import until
from tests.contract.robot import runs
from tests.contract.sshd import running_sshd
from tests.contract.tcp_proxy import TcpProxy, running_proxy
from tests.e2e.bench import Bench
from tests.e2e.board_profiles import manager, over_ssh

WAITS = """
import time
from pathlib import Path

def test_until_it_may_end(device):
    Path({marker!r}).touch()
    while Path({marker!r}).exists():
        time.sleep(0.01)
"""
SUITE = """
[deployment]
path = "package:roboticks_tasks.sim/hello_world/deployment"

[tests]
command = "pytest -q -p no:cacheprovider tests"
timeout = 60
"""
WATCHDOG = 3


class Lab:
    """A bench, a board behind a proxy, and a run that is in its tests as long as `marker` exists."""

    def __init__(self, bench: Bench, root: Path, proxy: TcpProxy) -> None:
        self.bench = bench
        self.root = root
        self.proxy = proxy
        self.marker = bench.folder / "tests-run"
        self.commands = bench.folder / "commands"

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """Run until the tests run, and the last sign of life is one that is not good for a command as well."""
        with self.bench.popen("hil-test", "--profile", "board", "--artifacts", "run") as run:
            until(self.marker.exists, "the tests run", 60)
            before = self._signs()
            until(lambda: self._signs() > before + 1, "signs of life are given", 60)
            yield run

    def _signs(self) -> int:
        return self.commands.read_text(errors="replace").count(f"{self.root}/run/watchdog.pid {WATCHDOG})")

    def on_board(self) -> list[int]:
        """Return the processes of the device manager, its modules, and its watchdog."""
        ours, found = os.fsencode(self.root), []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                variables = (folder / "environ").read_bytes().split(b"\0")
                is_watchdog = ours + b"/run/watchdog.pid" in words and b"-c" in words
                if (is_watchdog or b"ROBOTICKS_ROOT=" + ours in variables) and runs(int(folder.name)):
                    found.append(int(folder.name))
        return found

    @property
    def device_manager(self) -> int:
        return int((self.root / "run" / "device-manager.pid").read_text().split()[0])

    def log(self) -> str:
        return (self.root / "log" / "device-manager.log").read_text()


@pytest.fixture
def lab(bench: Bench, tmp_path: Path) -> Iterator[Lab]:
    (bench.folder / "tests").mkdir()
    root = tmp_path / "root"
    noted = f'ForceCommand echo "$SSH_ORIGINAL_COMMAND" >>{bench.folder}/commands; exec sh -c "$SSH_ORIGINAL_COMMAND"'
    with running_sshd(tmp_path / "sshd", more=noted) as sshd, running_proxy(sshd.port) as proxy:
        one = Lab(bench, root, proxy)
        (bench.folder / "tests" / "test_wait.py").write_text(WAITS.format(marker=str(one.marker)))
        device_manager = manager("simulated", root, more=f"watchdog = {WATCHDOG}")
        text = over_ssh(sshd, device_manager=device_manager, suite=SUITE).replace(
            f"port = {sshd.port}", f"port = {proxy.port}\nkeep_alive = 1\nconnect_timeout = 2"
        )
        bench.profile("board", text)
        yield one
        proxy.blackhole(False)


def test_the_board_frees_itself_of_a_run_whose_link_and_processes_all_died(lab: Lab) -> None:
    with lab.running() as run:
        assert len(lab.on_board()) > 3
        lab.proxy.blackhole()
        board = set(lab.on_board())
        # As if somebody pulled this machine's plug: the run, its guard, its tests, its platform, its ssh.
        for pid in set(lab.bench.running()) - board - own_sshd():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.wait(timeout=20)
    until(lambda: not lab.on_board(), "nothing of the device manager is left on the board", 40)
    assert "watchdog: stopped the device manager" in lab.log()


def test_a_run_that_only_lost_its_link_says_why_the_device_manager_ended(lab: Lab) -> None:
    with lab.running() as run:
        lab.proxy.blackhole()
        until(lambda: not lab.on_board(), "the board has stopped the device manager", 40)
        lab.proxy.blackhole(False)
        lab.proxy.cut()
        lab.marker.unlink()
        _, errors = run.communicate(timeout=60)
    assert "the board's watchdog gets no sign of life, it stops the device manager in" in errors
    assert lab.bench.result(lab.bench.folder / "run")["verdict"] == "bench-error"
    assert "watchdog: stopped the device manager" in (lab.bench.folder / "run" / "device-manager.log").read_text()


def test_a_run_that_is_heard_is_not_stopped_however_long_its_tests_take(lab: Lab) -> None:
    with lab.running() as run:
        group = os.getpgid(int((lab.root / "run" / "watchdog.pid").read_text().split()[0]))
        seconds: set[int] = set()

        def count() -> bool:
            seconds.update(sleeps_of(group))
            return len(seconds) > 2 * WATCHDOG + 1

        until(count, "the watchdog has counted twice as long as it waits", 60)
        assert runs(lab.device_manager)
        lab.marker.unlink()
        run.communicate(timeout=60)
    assert run.returncode == 0
    assert not lab.on_board()


def sleeps_of(group: int) -> list[int]:
    """Return the programs in a process group that sleep: a watchdog starts one each second."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "comm").read_text() == "sleep\n" and os.getpgid(int(folder.name)) == group:
                found.append(int(folder.name))
    return found


def own_sshd() -> set[int]:
    """Return the processes that serve the board's connections, and its sshd."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "comm").read_text().startswith("sshd"):
                found.add(int(folder.name))
    return found
