"""Keep the guard of the modules running: the program in `guard.py`, which kills them when the device manager dies."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roboticks_tasks.sim.device_manager.journal import Journal

PAUSE = 1.0
"""Seconds before the next try when a guard could not be started, or ended within that time."""


class Guard:
    """One guard at a time: when it ends, another takes its place and is told all groups that are alive."""

    def __init__(self, environment: Mapping[str, str], journal: Journal) -> None:
        self._environment, self._journal = dict(environment), journal
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._exit = -1
        self._started = 0.0
        self._closed = False

    @property
    def processes(self) -> set[int]:
        """Return the ids of the processes that are waited for one by one: the modules and the guard itself."""
        return self._groups | ({self._process.pid} if self._process is not None else set())

    def pipe(self) -> int:
        """Return the descriptor on which launchers announce themselves; OSError when no guard can be had."""
        if self._closed:
            raise OSError(errno.ESHUTDOWN, "the device manager is stopping")
        process = self._process if self._process is not None else self._start()
        assert process.stdin is not None
        return process.stdin.fileno()

    def know(self, group: int) -> None:
        """Note a group whose launcher announces itself, for the guard that may come after this one."""
        self._groups.add(group)

    def forget(self, group: int) -> None:
        """Take a group back that has ended: its number may be another's tomorrow."""
        self._groups.discard(group)
        self._tell(b"-%d\n" % group)

    def close(self) -> None:
        """Let the guard end, which kills what was not taken back, and wait for it; there will be no other."""
        self._closed = True
        if self._process is not None:
            self._unwatch()
            assert self._process.stdin is not None
            self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.2)
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py"))]
        self._process = process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            env=self._environment, start_new_session=True,
        )  # fmt: skip
        self._started = time.monotonic()
        self._exit = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._exit, self._on_end)
        for group in self._groups:
            self._tell(b"%d\n" % group)
        return process

    def _tell(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it has just ended: the next one is told
                os.write(self._process.stdin.fileno(), line)

    def _on_end(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._unwatch()
        code = self._process.wait()
        self._process.stdin.close()
        self._process = None
        self._journal.warning("guard", f"the guard of the modules has ended (code {code})")
        lived = time.monotonic() - self._started
        asyncio.get_running_loop().call_later(0.0 if lived > PAUSE else PAUSE, self._replace)

    def _replace(self) -> None:
        if self._closed or self._process is not None or not self._groups:
            return  # without modules there is nothing to guard; the next one brings a guard along
        try:
            self._start()
        except OSError as error:
            self._journal.error("guard", f"no guard can be started: {error}")
            asyncio.get_running_loop().call_later(PAUSE, self._replace)
        else:
            self._journal.info("guard", f"a new guard knows {len(self._groups)} modules")

    def _unwatch(self) -> None:
        asyncio.get_running_loop().remove_reader(self._exit)
        os.close(self._exit)
