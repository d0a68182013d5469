"""A board's shell over the system's ssh, through a link that may break and a board that may reboot."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from roboticks_tasks.errors import TargetError, UnreachableError
from roboticks_tasks.profiles.values import Profile
from roboticks_tasks.targets.protocol import Completed, Target
from roboticks_tasks.targets.ssh import invocation
from roboticks_tasks.targets.ssh.connection import Connection, Lost, connect
from roboticks_tasks.targets.ssh.reasons import shown
from roboticks_tasks.targets.ssh.remote import Leader
from roboticks_tasks.waiting import Deadline, Pace

PACE = 0.5
"""Seconds between two attempts to reach a board that reboots."""

ATTEMPTS = 2
"""How often a board that does not reboot is called again after the connection broke."""


class SshTarget:
    """Run commands through one connection, which is made anew when it broke."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._connection: Connection | None = connect(profile)
        self._leftovers: list[Leader] = []
        self._closed = False

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Run a command to its end; TargetError when it takes more than `timeout` seconds or the link breaks.

        A command that has not reached the board, or is `repeatable`, is run again, within `timeout` and the time that
        the board may be away. BoardError when the board does not come back.
        """
        budget = Deadline(timeout + (self._profile.target.reboot_timeout or 0.0))
        attempt = 0
        while True:
            connection = self._connected(budget)
            limit = min(timeout, max(budget.remaining, 0.1)) if attempt else timeout
            try:
                return connection.run(argv, stdin=stdin, timeout=limit)
            except Lost as lost:
                self._drop(lost)
                enough = budget.expired or (self._profile.target.reboot_timeout is None and attempt >= ATTEMPTS)
                if enough or (lost.sent and not repeatable):
                    raise self._broken(argv, lost) from lost
                attempt += 1

    def close(self) -> None:
        """End the connection; a command that another thread has under way breaks, and does not connect again."""
        self._closed = True
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None  # another thread may be here as well
        if connection is not None:
            connection.close()

    def _connected(self, budget: Deadline) -> Connection:
        """Return a living connection; after a loss, the board is called again until `budget` is over."""
        if self._closed:
            raise TargetError("the connection was closed")
        if self._connection is not None and not self._connection.is_alive:
            self._disconnect()
        if self._connection is None:
            self._connection = self._connect_again(budget)
            leftovers, self._leftovers = self._leftovers, []
            for leader in leftovers:
                self._connection.end_leftover(leader)
        return self._connection

    def _connect_again(self, budget: Deadline) -> Connection:
        pace = Pace(PACE)
        attempts = 0
        while True:
            pace.is_due()
            attempts += 1
            try:
                return connect(self._profile)
            except UnreachableError:
                rebooting = self._profile.target.reboot_timeout is not None
                if budget.expired or (not rebooting and attempts >= ATTEMPTS):
                    raise
            while not pace.is_due() and not budget.expired:
                time.sleep(0.02)

    def _drop(self, lost: Lost) -> None:
        if lost.leader is not None:
            self._leftovers.append(lost.leader)
        self._disconnect()

    def _broken(self, argv: Sequence[str], lost: Lost) -> TargetError:
        where = invocation.host_of(self._profile)
        if not lost.sent:
            return TargetError(f"the connection to {where} was lost before `{shown(argv)}` could be sent: {lost}")
        return TargetError(
            f"the connection to {where} was lost in the middle of `{shown(argv)}`: {lost}",
            remedy="the command may or may not have run: look at the board before doing it again",
        )


@contextmanager
def open_ssh(profile: Profile) -> Iterator[Target]:
    """Connect to the profile's board for the block; BoardError when it cannot be reached or trusted."""
    invocation.sweep_folders()
    target = SshTarget(profile)
    try:
        yield target
    finally:
        target.close()
