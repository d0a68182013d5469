"""Have a guard beside a run: a process that tears it down when this one is gone, however that went."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from roboticks_tasks import processes
from roboticks_tasks.models import Process
from roboticks_tasks.profiles import Profile
from roboticks_tasks.targets.local import postponed

log = logging.getLogger(__name__)

DONE = b"done\n"
"""The word that sends the guard home: this run has been torn down by its own process."""

KEEP = b"keep"
"""The word before the seconds for which the guard leaves a failed run as it is."""

PROGRAM = "roboticks_tasks.guard"


class Orders(msgspec.Struct, frozen=True):
    """What the guard has to know; it travels through the pipe, never in an argument list or a file."""

    profile: Profile
    artifacts: str
    run_id: str


class Guard:
    """A guard that watches over this process: it is blocked on a pipe whose other end only this process has."""

    def __init__(self, process: subprocess.Popen[bytes] | None) -> None:
        self._process = process
        self._keeps = False

    @property
    def process(self) -> Process | None:
        """Return the guard's process, None when there is none."""
        if self._process is None:
            return None
        return Process(pid=self._process.pid, start_time=processes.start_time(self._process.pid) or 0)

    def say(self, word: bytes) -> bool:
        """Send it a word; False when there is no guard any more."""
        if self._process is None or self._process.stdin is None:
            return False
        try:
            self._process.stdin.write(word)
            self._process.stdin.flush()
        except OSError as error:
            log.warning("the guard of this run is gone: %s", error.strerror)
            return False
        return True

    def keep(self, seconds: float) -> bool:
        """Have it leave everything as it is for so long from `leave` on, and tear down then; False without a guard."""
        self._keeps = self.say(b"%s %f\n" % (KEEP, seconds))
        return self._keeps

    def leave(self) -> None:
        """Send it home, it has nothing to do; or let it have the run that it keeps."""
        if self._process is None or self._process.stdin is None:
            return
        if not self._keeps:
            self.say(DONE)
        with suppress(OSError):
            self._process.stdin.close()
        if not self._keeps:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1.0)


@contextmanager
def guarded(profile: Profile, artifacts: Path, *, run_id: str, leases: Sequence[int]) -> Iterator[Guard]:
    """Have a guard for the block; the descriptors `leases` stay open in it, so that the board is not free before it is
    safe. Where none can be started the run goes on without: the next one cleans up after it.
    """
    guard = Guard(_start(Orders(profile, str(artifacts.absolute()), run_id), leases))
    try:
        yield guard
    finally:
        guard.leave()


def _environment() -> dict[str, str]:
    """Return ours without what says that the guard belongs to this run, or to a job of GitHub's runner.

    That runner kills at the end of a job what carries the job's id, however much is still to be made safe.
    """
    return {**processes.unmarked(os.environ), "RUNNER_TRACKING_ID": ""}


def _start(orders: Orders, leases: Sequence[int]) -> subprocess.Popen[bytes] | None:
    try:
        with postponed():
            process = subprocess.Popen(
                [sys.executable, "-m", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                pass_fds=tuple(leases),
                start_new_session=True,  # what ends our process group must not end it
            )
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(orders) + b"\n")
            process.stdin.flush()
    except OSError as error:
        log.warning("this run has no guard: %s", error.strerror)
        return None
    return process
