"""Run one program in a process group of its own: output to two places, a time limit, nothing left behind."""

from __future__ import annotations

import logging
import os
import select
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from roboticks_tasks import processes
from roboticks_tasks.targets.local import postponed
from roboticks_tasks.waiting import Deadline

log = logging.getLogger(__name__)

TESTS_PID = "tests.pid"
"""Names the tests' process in the run's folder while they run, so that teardown can stop what a killed run left."""

INTERRUPT_GRACE = 3.0
"""Seconds that the tests have to run their own clean-up when they are interrupted."""


def run_group(
    argv: Sequence[str], *, environment: Mapping[str, str], log_file: Path, pid_file: Path, deadline: Deadline
) -> int | None:
    """Run `argv` to its end and return its exit code (negative for a signal), None when `deadline` ended it.

    Its output goes to our stdout and to `log_file`. On a time-out, and when this process is told to stop, the group
    gets SIGINT (pytest runs no fixture teardown on SIGTERM), `INTERRUPT_GRACE` seconds, then SIGKILL. Whatever the
    program left in its group is killed when it has ended. `pid_file` names it while it runs, for `stop_group` of
    another process. Raises OSError when it cannot be started.
    """
    with log_file.open("wb", buffering=0) as copy, _started(argv, environment, pid_file) as (process, handle):
        assert process.stdout is not None
        try:
            if _forward(process.stdout, handle, copy, deadline):
                return process.wait()
            _interrupt(process, handle, copy)
            return None
        except BaseException:
            _interrupt(process, handle, copy)
            raise


def stop_group(pid_file: Path) -> str:
    """Stop the program that `pid_file` names, if its own process could not; return what was done, in words."""
    try:
        pid, started = map(int, pid_file.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return "none were running"
    alive = processes.is_alive(pid, started)
    if alive:
        processes.stop(pid, started, grace=INTERRUPT_GRACE, ask=signal.SIGINT)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    pid_file.unlink(missing_ok=True)
    return f"stopped (pid {pid})" if alive else "none were running"


@contextmanager
def _started(
    argv: Sequence[str], environment: Mapping[str, str], pid_file: Path
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    process, handle = None, None
    try:
        with postponed():
            process = subprocess.Popen(
                list(argv),
                stdin=null,
                stdout=pipe,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )
        handle = os.pidfd_open(process.pid)
        pid_file.write_text(f"{process.pid} {processes.start_time(process.pid) or 0}\n", encoding="ascii")
        yield process, handle
    finally:
        if process is not None:
            with process, suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if handle is not None:
            os.close(handle)
        with suppress(OSError):
            pid_file.unlink(missing_ok=True)


def _forward(stream: IO[bytes], handle: int, copy: IO[bytes], deadline: Deadline) -> bool:
    """Hand on the output until the program has ended; return False when the deadline came first.

    The program's end is what counts, not the end of its output: a daemon that it left may hold the pipe open.
    """
    os.set_blocking(stream.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        selector.register(handle, selectors.EVENT_READ)
        while not deadline.expired:
            ready = {key.fd for key, _ in selector.select(deadline.remaining)}
            if stream.fileno() in ready and not _pass_on(stream, copy):
                selector.unregister(stream)
            elif handle in ready:
                return True
    return False


def _pass_on(stream: IO[bytes], copy: IO[bytes]) -> bool:
    """Hand on what can be read now; return whether more may come."""
    try:
        chunk = os.read(stream.fileno(), 65536)
    except BlockingIOError:
        return True
    _keep(copy, chunk)
    with suppress(OSError, ValueError):  # our own stdout may be gone; the tests go on, the log has it all
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), chunk)
    return bool(chunk)


def _keep(copy: IO[bytes], chunk: bytes) -> None:
    """Write to the log as long as it takes it: a full disk must not end the tests."""
    if copy.closed:
        return
    try:
        copy.write(chunk)
    except OSError as error:
        log.error("%s is cut off: %s", copy.name, error.strerror)
        copy.close()


def _interrupt(process: subprocess.Popen[bytes], handle: int, copy: IO[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        _forward(process.stdout, handle, copy, Deadline(INTERRUPT_GRACE))
    if not select.select([handle], [], [], 0)[0]:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
