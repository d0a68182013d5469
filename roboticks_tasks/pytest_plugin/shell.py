"""The shell of the board, as tests see it: commands, files, a reboot. Each is noted in the run's folder."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from roboticks_tasks.errors import ConfigError, RoboticksError
from roboticks_tasks.pytest_plugin.here import Here
from roboticks_tasks.targets import Completed, Target
from roboticks_tasks.targets import files as target_files
from roboticks_tasks.waiting import Deadline, first

SHOWN = 4096
"""Characters of each of a command's outputs that stand in an AssertionError."""

MOST = 64 * 1024 * 1024
"""Bytes of a file that `get` returns."""

BOOT_ID = ("cat", "/proc/sys/kernel/random/boot_id")

REBOOT = "reboot || sudo -n reboot"

PAUSE = 0.5
"""Seconds between two attempts to reach a board that is booting."""

# $1 path, $2 most bytes
GET = """
[ -f "$1" ] || { echo "there is no such file" >&2; exit 66; }
size=$(wc -c <"$1") || exit
[ "$size" -le "$2" ] || { echo "it has $size bytes, more than $2" >&2; exit 75; }
exec cat "$1"
"""


class Shell:
    """A POSIX shell on the board under test; what breaks the way to it is a TargetError, never an AssertionError."""

    def __init__(self, target: Target, here: Here, *, pause: float = PAUSE) -> None:
        self._target = target
        self._here = here
        self._pause = pause

    def run(
        self, command: Sequence[str] | str, timeout: float = 30.0, *, check: bool = True, stdin: bytes = b""
    ) -> Completed:
        """Run a program with its arguments, or a line of shell, to its end; return exit code, stdout and stderr.

        With `check`, AssertionError with what it said when it does not end with 0. TargetError when it takes more than
        `timeout` seconds, or the link breaks.
        """
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
        words = command if isinstance(command, str) else shlex.join(argv)
        with self._here.noting(words) as note:
            done = self._target.run(argv, stdin=stdin, timeout=timeout)
            note.exit_code = done.exit_code
            note.output = _decode(done.stdout) + _decode(done.stderr)
        if check and not done.ok:
            raise AssertionError(self._failure(words, done))
        return done

    def put(self, content: bytes | str | Path, path: str, *, mode: int = 0o644) -> None:
        """Write bytes, text, or the file that a Path names, to `path` on the board; nobody sees half of it there."""
        data = content.encode() if isinstance(content, str) else content
        what = str(data) if isinstance(data, Path) else f"{len(data)} bytes"
        with self._here.noting(f"put {what} to {path}") as note:
            target_files.put(self._target, data, path, mode=mode)
            note.exit_code = 0

    def get(self, path: str, *, most: int = MOST) -> bytes:
        """Return the content of a file on the board; AssertionError when there is none, or it has more than `most`."""
        with self._here.noting(f"get {path}") as note:
            done = self._target.run(["sh", "-c", GET, "sh", path, str(most)], timeout=300, repeatable=True)
            note.exit_code, note.output = done.exit_code, _decode(done.stderr)
        if not done.ok:
            raise AssertionError(f"{path} of board {self._here.board.id} cannot be had: {done.last_words}")
        return done.stdout

    def reboot(self, command: Sequence[str] | str = REBOOT) -> None:
        """Reboot the board and wait until it answers with another boot id; AssertionError when it does not in time.

        It has `target.reboot_timeout` seconds; ConfigError without that, and where the target is this machine.
        """
        spec = self._here.profile.target
        if spec.kind == "local":
            raise ConfigError("the target is this machine: a test does not reboot it")
        if spec.reboot_timeout is None:
            raise ConfigError(
                f"profile {self._here.profile.name!r} says that board {self._here.board.id} does not reboot in a run",
                remedy="set `target.reboot_timeout` to the seconds that it may be away",
            )
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
        with self._here.noting("reboot") as note:
            before = self._target.run(BOOT_ID, repeatable=True).text
            deadline = Deadline(spec.reboot_timeout)
            self._order(argv, deadline)
            self._await(lambda: self._boot_id() not in {"", before}, deadline, f"another boot id than {before}")
            note.exit_code = 0

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the board answers, after its power was switched; `timeout` is by default what it may boot.

        AssertionError when it does not.
        """
        power = self._here.board.power
        seconds = timeout or (power.boot_timeout if power else self._here.profile.target.connect_timeout)
        with self._here.noting("wait until it answers") as note:
            self._await(lambda: self._target.run(["true"], repeatable=True).ok, Deadline(seconds), "any answer")
            note.exit_code = 0

    def _order(self, argv: Sequence[str], deadline: Deadline) -> None:
        try:
            done = self._target.run(argv, timeout=deadline.remaining)
        except RoboticksError:
            return  # the board went down under it, as it was told
        if not done.ok:
            raise AssertionError(self._failure("reboot", done))

    def _boot_id(self) -> str:
        return self._target.run(BOOT_ID, timeout=10, repeatable=True).text

    def _await(self, is_so: Callable[[], bool], deadline: Deadline, what: str) -> None:
        last: list[str] = []

        def probe() -> bool | None:
            try:
                return is_so() or None
            except RoboticksError as error:
                last[:] = [f": {error}"]
                return None

        if first(probe, deadline=deadline, interval=self._pause) is None:
            raise AssertionError(
                f"board {self._here.board.id} did not give {what} within {deadline.seconds:g} s{''.join(last)}"
            )

    def _failure(self, words: str, done: Completed) -> str:
        parts = [f"`{words[:SHOWN]}` ended with {done.exit_code} on board {self._here.board.id}"]
        for name, data in (("stdout", done.stdout), ("stderr", done.stderr)):
            if text := _decode(data).strip():
                parts.append(f"{name}: {text[-SHOWN:]}")
        return "\n".join(parts)


def wait_for_board(here: Here, connect: Callable[[], AbstractContextManager[Target]]) -> None:
    """Wait until a board whose power was switched answers, each time on a new connection, if it has a shell at all."""
    if here.profile.target.kind == "local" or here.profile.device_manager.kind == "firmware":
        return
    Shell(_Fresh(connect), here).wait()


class _Fresh:
    """A target that is opened for each command."""

    def __init__(self, connect: Callable[[], AbstractContextManager[Target]]) -> None:
        self._connect = connect

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        with self._connect() as target:
            return target.run(argv, stdin=stdin, timeout=timeout, repeatable=repeatable)


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")
