"""Run one program in a process group of its own: output to two places, a time limit, nothing left behind."""

from __future__ import annotations

import logging
import os
import re
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
from roboticks_tasks.bounded import BoundedLog, assemble
from roboticks_tasks.redaction import NOTHING, Redactor
from roboticks_tasks.reporting.ci_log import disobeyed
from roboticks_tasks.targets.local import postponed
from roboticks_tasks.waiting import Deadline

log = logging.getLogger(__name__)

TESTS_LOG = "pytest.log"

TESTS_PID = "tests.pid"
"""Names the tests' process in the run's folder while they run, so that teardown can stop what a killed run left."""

INTERRUPT_GRACE = 3.0
"""Seconds that the tests have to run their own clean-up when they are interrupted."""

GATE = ["/bin/sh", "-c", 'read -r _ && exec "$@" </dev/null', "sh"]
"""Becomes the program, same pid and start time, as soon as it is told to; ends where nobody is left to tell it."""

SHELL_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
"""A variable's name that every shell hands on; dash drops the others."""


def run_group(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    log_file: Path,
    pid_file: Path,
    deadline: Deadline,
    redactor: Redactor = NOTHING,
) -> int | None:
    """Run `argv` to its end and return its exit code (negative for a signal), None when `deadline` ended it.

    Its output goes to our stdout and to `log_file`, without what `redactor` takes out. On a time-out, and when this
    process is told to stop, the group gets SIGINT (a pytest without our plugin runs no fixture teardown on SIGTERM),
    `INTERRUPT_GRACE` seconds, then SIGKILL. Whatever the program left in its group is killed when it has ended.
    `pid_file` names it while it runs, for `stop_group` of another process: before it is named there it does not run. A
    program that cannot be started is an OSError, or ends with a shell's 126 or 127. A GitHub runner obeys none of it.
    """
    with (
        disobeyed(environment),
        Output(log_file, redactor) as output,
        _started(argv, environment, pid_file) as (process, handle),
    ):
        assert process.stdout is not None
        try:
            if _forward(process.stdout, handle, output, deadline):
                return process.wait()
            _interrupt(process, handle, output)
            return None
        except BaseException:
            _interrupt(process, handle, output)
            raise


def stop_group(pid_file: Path) -> str:
    """Stop the program that `pid_file` names, if its own process could not; return what was done, in words.

    The end of a long log, which its writer could not bring together with the beginning, is put there.
    """
    try:
        return _stop(pid_file)
    finally:
        assemble(pid_file.with_name(TESTS_LOG))


def _stop(pid_file: Path) -> str:
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
    # Who is killed between a start and the note of it would leave tests that nobody finds.
    gate = GATE if all(map(SHELL_NAME.fullmatch, environment)) else []
    process, handle = None, None
    try:
        with postponed():
            process = subprocess.Popen(
                [*gate, *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )
        handle = os.pidfd_open(process.pid)
        pid_file.write_text(f"{process.pid} {processes.start_time(process.pid) or 0}\n", encoding="ascii")
        _open(process, gate)
        yield process, handle
    finally:
        if process is not None:
            with process, suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if handle is not None:
            os.close(handle)
        with suppress(OSError):
            pid_file.unlink(missing_ok=True)


def _open(process: subprocess.Popen[bytes], gate: Sequence[str]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:
        if gate:
            pipe.write(b"\n")


class Output:
    """Where the tests' output goes: to our stdout as it comes, and to the log; a secret reaches neither."""

    def __init__(self, log_file: Path, redactor: Redactor) -> None:
        self._log = BoundedLog(log_file)
        self._redacted = redactor.stream()

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        self._hand_on(self._redacted.close())
        self._log.close()

    def take(self, data: bytes) -> None:
        """Hand on what has come, but for the beginning of a secret."""
        self._hand_on(self._redacted.feed(data))

    def _hand_on(self, data: bytes) -> None:
        self._log.write(data)
        with suppress(OSError, ValueError):  # our own stdout may be gone; the tests go on, the log has it all
            sys.stdout.flush()
            os.write(sys.stdout.fileno(), data)


def _forward(stream: IO[bytes], handle: int, output: Output, deadline: Deadline) -> bool:
    """Hand on the output until the program has ended; return False when the deadline came first.

    The program's end is what counts, not the end of its output: a daemon that it left may hold the pipe open.
    """
    os.set_blocking(stream.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        selector.register(handle, selectors.EVENT_READ)
        while not deadline.expired:
            ready = {key.fd for key, _ in selector.select(deadline.remaining)}
            if stream.fileno() in ready and not _pass_on(stream, output):
                selector.unregister(stream)
            elif handle in ready:
                return True
    return False


def _pass_on(stream: IO[bytes], output: Output) -> bool:
    """Hand on what can be read now; return whether more may come."""
    try:
        chunk = os.read(stream.fileno(), 65536)
    except BlockingIOError:
        return True
    output.take(chunk)
    return bool(chunk)


def _interrupt(process: subprocess.Popen[bytes], handle: int, output: Output) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        _forward(process.stdout, handle, output, Deadline(INTERRUPT_GRACE))
    if not select.select([handle], [], [], 0)[0]:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
