"""A bench of one's own for a test: a folder, a clean environment, and a look at what is left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

DEADLINE = 60.0
"""Seconds after which a command counts as stuck."""


class Done(NamedTuple):
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one sentence that an error is."""
        [line] = [line for line in self.err.splitlines() if line.startswith("roboticks-tasks: ")]
        return line.removeprefix("roboticks-tasks: ")


class Bench:
    """Run commands of ours in `folder`; nothing of the developer's environment reaches them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "XDG_RUNTIME_DIR": str(folder / "runtime"),
            "ROBOTICKS_BENCH": str(folder / "bench"),
            "LANG": "C.UTF-8",
            "PYTEST_ADDOPTS": "-p no:schemathesis",  # a plugin of our tests: its import takes a third of a second
        }

    def popen(
        self, *words: str, variables: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start `roboticks-tasks WORDS` in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "roboticks_tasks", *words],
            cwd=folder or self.folder,
            env={**self.environment, **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, variables: Mapping[str, str] | None = None, folder: Path | None = None) -> Done:
        """Run `roboticks-tasks WORDS` to its end, in `folder` instead of the bench's own."""
        process = self.popen(*words, variables=variables, folder=folder)
        out, err = process.communicate(timeout=DEADLINE)
        assert "Traceback" not in err, err
        return Done(process.returncode, out, err)

    @property
    def latest(self) -> Path:
        """The folder of the last run of profile sim."""
        return self.latest_of("sim")

    def latest_of(self, profile: str) -> Path:
        """The folder of the last run of a profile."""
        return (self.folder / "test-output" / f"{profile}-latest").resolve()

    def result(self, folder: Path | None = None) -> dict[str, Any]:
        """The result.json of a run."""
        result: dict[str, Any] = json.loads(((folder or self.latest) / "result.json").read_text())
        return result

    def state(self, folder: Path | None = None) -> dict[str, Any]:
        """The run.json of a run."""
        state: dict[str, Any] = json.loads(((folder or self.latest) / "run.json").read_text())
        return state

    def profile(self, name: str, text: str) -> Path:
        """Write a profile into ./hardware_profiles."""
        path = self.folder / "hardware_profiles" / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def running(self) -> dict[int, str]:
        """Every living process that belongs to this bench, by its arguments, environment or working directory."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid() and (words := self._belongs(entry)):
                found[int(entry.name)] = words
        return found

    def _belongs(self, entry: Path) -> str:
        marker = str(self.folder).encode()
        try:
            words = (entry / "cmdline").read_bytes()
            # A zombie has no arguments: it runs no more, whoever should have waited for it.
            if words and (marker in words or marker in (entry / "environ").read_bytes()):
                return words.replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            pass
        return ""

    def assert_nothing_is_left(self) -> None:
        """Fail with the list of what still runs, a moment after the run has ended."""
        end = time.monotonic() + 2
        while (left := self.running()) and time.monotonic() < end:
            time.sleep(0.02)
        assert left == {}

    def kill_everything(self) -> None:
        """Clean up after a failed test."""
        for pid in self.running():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
