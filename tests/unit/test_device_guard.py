"""The guard of the modules: there is one while there are modules, and none after the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from roboticks_tasks.sim.device_manager import orphans
from roboticks_tasks.sim.device_manager.guarding import Guard
from roboticks_tasks.sim.device_manager.journal import Journal


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def test_a_dead_guard_is_replaced_and_the_new_one_knows_the_modules(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roboticks_tasks.sim.device_manager.guarding.PAUSE", 0.0)

    async def scene() -> None:
        guard = Guard(os.environ, Journal(tmp_path / "log"))
        guard.pipe()
        guard.know(sleeper.pid)
        [first] = guard.processes - {sleeper.pid}
        os.kill(first, 9)
        async with asyncio.timeout(5):
            while guard.processes in ({sleeper.pid}, {sleeper.pid, first}):
                await asyncio.sleep(0)
        guard.close()

    asyncio.run(scene())

    assert sleeper.wait(5) == -9


def test_after_the_end_nothing_starts_a_guard_again(tmp_path: Path) -> None:
    async def scene() -> None:
        guard = Guard(os.environ, Journal(tmp_path / "log"))
        guard.know(2**22)
        guard.close()
        guard.forget(2**22)
        with pytest.raises(OSError, match="the device manager is stopping"):
            guard.pipe()
        assert guard.processes == set()

    asyncio.run(scene())


def test_ended_children_of_others_are_left_to_them() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

        assert process.pid in orphans.children()
        assert orphans.reap({process.pid}) is True
        assert process.wait() == 0
