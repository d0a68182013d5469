"""A POSIX shell on a board's serial console as a target."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from roboticks_tasks.errors import BoardError, ConfigError, RoboticksError, TargetError
from roboticks_tasks.profiles import Profile
from roboticks_tasks.profiles.boards import board_of
from roboticks_tasks.profiles.values import Console, Target
from roboticks_tasks.serial_console.line import Line, open_line
from roboticks_tasks.targets.protocol import Completed
from roboticks_tasks.targets.protocol import Target as TargetProtocol
from roboticks_tasks.targets.serial.exchange import ConsoleLostError
from roboticks_tasks.targets.serial.login import leave_shell, reach_shell
from roboticks_tasks.targets.serial.shell import Shell, TooLongError
from roboticks_tasks.waiting import Deadline, first

REOPEN = 0.2
"""Seconds between two attempts to open a port that has vanished."""


@contextmanager
def open_serial(profile: Profile) -> Iterator[TargetProtocol]:
    """Lend the shell on the console of the profile's board, and leave the console as it was found.

    ConfigError when the board has no console, BoardError when no shell answers there.
    """
    board = board_of(profile)
    if board.console is None:
        raise ConfigError(
            f"board {board.id!r} has no console, which a serial target needs",
            remedy='give it `console = { port = "/dev/serial/by-id/…" }`',
        )
    target = SerialTarget(
        profile.target,
        board.console,
        boot_timeout=board.power.boot_timeout if board.power else profile.target.connect_timeout,
    )
    try:
        target.connect()
        yield target
    finally:
        target.close()


class SerialTarget:
    """Run commands on the console's shell, which is reached again when the board has rebooted."""

    def __init__(self, spec: Target, console: Console, *, boot_timeout: float) -> None:
        self._spec = spec
        self._console = console
        self._boot_timeout = boot_timeout
        self._stack = ExitStack()
        self._line: Line | None = None
        self._shell: Shell | None = None
        self._logged_in = False
        self._closed = False
        variable = self._spec.login.password_variable
        self._password = os.environ.get(variable) if variable else None

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command to its end; TargetError when it takes more than `timeout` seconds or the console is lost.

        A repeatable command is run once more when the console comes back: after a lost line, and after a reboot when
        the profile has a `target.reboot_timeout`.
        """
        # Whoever stops it removes the script before it reads the process id: one of the two sees the other.
        script = b'echo $$ >"$0.pid"\n[ -e "$0" ] || exit\nexec ' + shlex.join(argv).encode("utf-8", "surrogateescape")
        command = shlex.join(argv)[:200]
        if self._shell is None:
            self._reconnect(command)
        try:
            return self._run(command, script, stdin, timeout)
        except ConsoleLostError as lost:
            if lost.rebooted and self._spec.reboot_timeout is None:
                remedy = "set `target.reboot_timeout` if it may reboot in a run"
                raise TargetError(f"`{command}` was lost: {lost}", remedy=remedy) from lost
            if not repeatable:
                raise TargetError(f"`{command}` was lost: {lost}") from lost
        self._reconnect(command)
        try:
            return self._run(command, script, stdin, timeout)
        except ConsoleLostError as lost:
            raise TargetError(f"`{command}` was lost for the second time: {lost}") from lost

    def connect(self, timeout: float | None = None) -> None:
        """Open the line if it is closed, and start the loop in the shell behind it, within `timeout` seconds."""
        if self._closed:  # by whoever needs the console now
            raise BoardError("the console was closed")
        timeout = self._boot_timeout if timeout is None else timeout
        if self._line is None:
            self._line = self._stack.enter_context(open_line(self._console))
        login = self._spec.login
        logged_in = reach_shell(self._line, login, password=self._password, timeout=timeout, console=self._console)
        self._logged_in = self._logged_in or logged_in
        self._shell = Shell(self._line, login_prompt=login.login_prompt, patience=self._spec.connect_timeout)

    def close(self) -> None:
        """Stop the loop, log out if this has logged in, close the line."""
        self._closed = True
        with self._stack, suppress(TargetError):
            if self._shell is not None and not self._shell.stop():
                return
            if self._logged_in and self._line is not None:
                leave_shell(self._line, self._spec.login)

    def _run(self, command: str, script: bytes, stdin: bytes, timeout: float) -> Completed:
        assert self._shell is not None
        try:
            return self._shell.run(script, stdin, timeout=timeout)
        except TooLongError as error:
            raise TargetError(f"`{command}` {error}") from None
        except ConsoleLostError as lost:
            shell, self._shell = self._shell, None
            self._logged_in = self._logged_in and not lost.rebooted
            with suppress(TargetError):
                shell.stop()
            raise

    def _reconnect(self, command: str) -> None:
        """Get a shell on a console that was lost; TargetError when it does not come back in time."""
        deadline = Deadline(self._spec.reboot_timeout or self._boot_timeout)
        reasons: list[RoboticksError] = []

        def attempt() -> bool | None:
            try:
                self.connect(max(deadline.remaining, 0.1))
            except (TargetError, BoardError) as error:
                reasons.append(error)
                if isinstance(error, BoardError) and self._line is not None:
                    raise  # a login that was refused is not tried again
                # The port may have vanished: what has it open would never see the next one of that name.
                self._stack.close()
                self._line = None
                return None
            return True

        try:
            back = first(attempt, deadline=deadline, interval=REOPEN)
        except BoardError as error:
            raise TargetError(f"`{command}` cannot be run: {error}") from error
        if not back:
            raise TargetError(f"`{command}` cannot be run: the console did not come back: {reasons[-1]}")
