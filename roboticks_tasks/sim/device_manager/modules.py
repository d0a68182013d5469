"""Modules as processes: a group of its own for each, its output line by line, its end noticed at once.

What a module starts in a session of its own is not of its group: see `orphans.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from roboticks_tasks.sim.device_manager.guarding import Guard

LONGEST_LINE = 16_384
KILL_GRACE = 1.0
LAST_WORDS = 5
"""Lines kept to explain an end."""

# The launcher tells the guard its group, which is its own process id, before it becomes the module: there is no moment
# in which a module runs and the guard does not know. Its stdin is the guard's pipe.
LAUNCHER = ("/bin/sh", "-c", 'echo $$ >&0; exec "$@" </dev/null', "sh")


class Module:
    """One running module."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        guard: Guard,
        on_line: Callable[[str, str], None],
        on_end: Callable[[Module], None],
    ) -> None:
        """Start it in `folder`; `on_line(name, line)` for its output, `on_end(module)` once. OSError when it cannot."""
        self.name = name
        self.stopping = False
        self.ended = asyncio.Event()
        self._guard, self._on_line, self._on_end = guard, on_line, on_end
        self._partial = b""
        self._words: deque[str] = deque(maxlen=LAST_WORDS)
        program = [sys.executable if command[0] == "python" else command[0], *command[1:]]
        self._process = subprocess.Popen(
            [*LAUNCHER, *program], stdin=guard.pipe(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=folder, env=dict(environment), start_new_session=True,
        )  # fmt: skip
        guard.know(self._process.pid)
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._exit = os.pidfd_open(self._process.pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._output, self._read)
        loop.add_reader(self._exit, self._end)

    @property
    def how_it_ended(self) -> str:
        """Return in one sentence how it ended, with its last words."""
        code = self._process.returncode
        how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        words = " | ".join(self._words)
        return f"{self.name} {how}" + (f": {words}" if words else " without a word")

    async def stop(self, grace: float) -> None:
        """Ask the module's group to end, and kill it after `grace` seconds."""
        self.stopping = True
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await self.ended.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            # A process stuck in a system call outlives even that: it must not take the device manager along.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_GRACE):
                    await self.ended.wait()

    def end_soon(self, grace: float) -> None:
        """Ask the module's group to end now and kill it after `grace` seconds, without waiting here."""
        self.stopping = True
        self._signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(grace, self._signal, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _read(self) -> None:
        """Take what the module has printed; lines of any length, the longest are cut into several."""
        try:
            data = os.read(self._output, 65_536)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._output)
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._say(line)
        while len(self._partial) >= LONGEST_LINE:
            self._say(self._partial[:LONGEST_LINE])
            self._partial = self._partial[LONGEST_LINE:]

    def _say(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            self._words.append(text)
            self._on_line(self.name, text)

    def _end(self) -> None:
        """Take the last output, reap the process, and end what it has left of its group."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._exit)
        os.close(self._exit)
        self._read_the_rest()
        loop.remove_reader(self._output)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._guard.forget(self._process.pid)
        self.ended.set()
        self._on_end(self)

    def _read_the_rest(self) -> None:
        rest = bytearray()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._output, 65_536):
                rest += data
                if len(rest) > 1 << 20:
                    break  # a child of the module still writes: enough
        for line in (self._partial + bytes(rest)).split(b"\n"):
            self._say(line)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
