"""What modules leave behind: their children in sessions of their own, which no kill of a process group reaches.

The device manager adopts them (PR_SET_CHILD_SUBREAPER), takes note of their ends, and kills what is left at the end of
a clean stop. The limits: stopping one composition spares them, and so does the guard when the device manager is killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

PR_SET_CHILD_SUBREAPER = 36
GENERATIONS = 8
"""Children of the killed are adopted in their turn: so often they are looked for."""

PATIENCE_MS = 100
"""Milliseconds for a killed process to go; one that is stuck in a system call is left behind."""


def adopt() -> frozenset[int]:
    """Adopt all orphans below this process from now on, and return the children that it already has."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # fails only before Linux 3.4
    return children()


def children() -> frozenset[int]:
    """Return the ids of the processes whose parent is this one."""
    own, found = os.getpid(), set()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # The name of a program may hold anything, also parentheses.
                fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[1]) == own:
                    found.add(int(entry.name))
    return frozenset(found)


def reap(others: Collection[int]) -> bool:
    """Take note of adopted processes that have ended; `others` are not touched, somebody else waits for them.

    Return whether one of the `others` has ended: what is behind it is seen only once it has been waited for.
    """
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in others:
                return True
            os.waitpid(ended.si_pid, 0)
    return False


def kill(spared: Collection[int]) -> None:
    """Kill the adopted, their children, and so on; `spared` are children that are not adopted."""
    for _ in range(GENERATIONS):
        left = children().difference(spared)
        if not left:
            return
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        for process in left:
            _wait(process)


def _wait(process: int) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(process)
        try:
            end = select.poll()
            end.register(descriptor, select.POLLIN)
            if end.poll(PATIENCE_MS):
                os.waitpid(process, os.WNOHANG)
        finally:
            os.close(descriptor)
