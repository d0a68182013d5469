"""Run one program in a process group of its own: output to two places, a time limit, nothing left behind."""

from __future__ import annotations

import logging
import os
import select
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from roboticks_tasks.waiting import Deadline

log = logging.getLogger(__name__)

INTERRUPT_GRACE = 3.0
"""Seconds that the tests have to run their own clean-up when they are interrupted."""


def run_group(argv: Sequence[str], *, environment: Mapping[str, str], log_file: Path, deadline: Deadline) -> int | None:
    """Run `argv` to its end and return its exit code (negative for a signal), None when `deadline` ended it.

    Its output goes to our stdout and to `log_file`. On a time-out, and when this process is told to stop, the group
    gets SIGINT (pytest runs no fixture teardown on SIGTERM), `INTERRUPT_GRACE` seconds, then SIGKILL. Whatever the
    program left in its group is killed when it has ended. Raises OSError when it cannot be started.
    """
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with log_file.open("wb", buffering=0) as copy:
        process = subprocess.Popen(
            list(argv), stdin=null, stdout=pipe, stderr=subprocess.STDOUT, env=dict(environment), start_new_session=True
        )
        handle = os.pidfd_open(process.pid)
        assert process.stdout is not None
        try:
            if not _forward(process.stdout, handle, copy, deadline):
                _interrupt(process, handle, copy)
                return None
            return process.wait()
        except BaseException:
            _interrupt(process, handle, copy)
            raise
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
            os.close(handle)


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
    with suppress(OSError, ValueError):  # our own stdout may be closed; the tests go on, the log has it all
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
