"""The process that has the run of `pytest --profile`: bring-up, lease, guard, signs of life and teardown are its.

They are not done in pytest's own process, where a debugger that stops at a breakpoint would stop them, too, and where
they would share signals, threads and standard streams with the tests. It is our own command line; the command that it
takes for the tests is a stand-in, which ends when pytest has run them.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from roboticks_tasks.models import RunResult
from roboticks_tasks.pytest_plugin import RUN_VARIABLE, standin
from roboticks_tasks.pytest_plugin.membership import own_file
from roboticks_tasks.signals import PARENT_VARIABLE
from roboticks_tasks.state import RESULT_FILE

GLANCE = 0.1
"""Seconds between two looks at whether a signal has come."""


class Companion:
    """A run in the folder `folder`, which another process of ours has, for the tests of this one."""

    def __init__(self, profile: str, folder: Path, *, board: str | None, attach: bool) -> None:
        self.folder = folder
        self._words = ["pytest-session" if attach else "hil-test", "--profile", profile, "--artifacts", str(folder)]
        self._words += ["--board", board] if board else []
        self._process: subprocess.Popen[bytes] | None = None
        self._handle = -1  # of the process, to wait for its end
        self._line: socket.socket | None = None
        self.junit: Path | None = None
        """Where the run expects the tests' JUnit file."""
        self.variables: dict[str, str] = {}
        """What the run tells its tests by their environment, and they do not know yet."""
        self._listener: socket.socket | None = None

    def start(self, *, quiet: bool) -> None:
        """Start the process; what it prints goes where ours goes, or nowhere."""
        path = own_file(f"-{id(self):x}.sock")
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        # Isolated: the modules beside it would hide those of the standard library that have their names.
        command = [sys.executable, "-I", "-S", standin.__file__, str(path), str(os.getpid())]
        environment = {name: value for name, value in os.environ.items() if name != RUN_VARIABLE}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "roboticks_tasks", *self._words, "--test-command", shlex.join(command)],
            env={**environment, PARENT_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else 2,
            stderr=subprocess.DEVNULL if quiet else None,
            start_new_session=True,  # Ctrl-C is for pytest, which has its own clean-up to do before
        )
        self._handle = os.pidfd_open(self._process.pid)

    def await_up(self, is_stopped: Callable[[], bool]) -> bool:
        """Return whether the tests may begin: False when the process has ended before, or `is_stopped`."""
        assert self._listener is not None
        while not is_stopped():
            ready = select.select([self._listener.fileno(), self._handle], [], [], GLANCE)[0]
            if self._listener.fileno() in ready:
                self._line = self._listener.accept()[0]
                hello = json.loads(self._line.makefile("rb").readline())
                self.junit = Path(hello["junit"]) if hello["junit"] else None
                told: dict[str, str] = hello["variables"]
                # What everybody has anyway, a key of the platform say, is written nowhere.
                new = {name: value for name, value in told.items() if os.environ.get(name) != value}
                self.variables = {name: value for name, value in new.items() if name != PARENT_VARIABLE}
                self._stop_listening()
                return True
            if ready:
                break
        return False

    def _stop_listening(self) -> None:
        if self._listener is not None:
            Path(self._listener.getsockname()).unlink(missing_ok=True)
            self._listener.close()
            self._listener = None

    @property
    def has_ended(self) -> bool:
        """Tell whether the run is over although the tests are not: somebody, or its time limit, has ended it."""
        return self._line is not None and bool(select.select([self._line], [], [], 0)[0])

    def tell(self, code: int, junit: Path | None, *, signal_number: int | None) -> None:
        """Hand over the tests' JUnit file and exit code; a signal that ended them is to end the run, too."""
        if self._process is None:
            return
        if junit is not None and self.junit is not None and junit != self.junit:
            with suppress(OSError):  # without one the run says that there is none
                shutil.copyfile(junit, self.junit)
        if signal_number is not None:
            self._signal(signal_number)
        elif self._line is not None:
            with suppress(OSError):
                self._line.sendall(b"%d\n" % code)
        else:
            self._signal(signal.SIGTERM)

    def wait(self, signal_number: Callable[[], int | None]) -> int:
        """Wait for the teardown and return the run's own exit code; a signal that comes meanwhile is passed on."""
        if self._process is None:
            return 0
        passed_on = signal_number()
        while not select.select([self._handle], [], [], GLANCE)[0]:
            if passed_on is None and (passed_on := signal_number()) is not None:
                self._signal(passed_on)
        code = self._process.wait()
        os.close(self._handle)
        self._stop_listening()
        if self._line is not None:
            self._line.close()
        self._process = None
        return code

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    @property
    def reason(self) -> str:
        """Return why the run ended as it did."""
        try:
            result = msgspec.json.decode((self.folder / RESULT_FILE).read_bytes(), type=RunResult)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return "the run ended without a result"
        return f"{result.verdict}: {result.reason}"
