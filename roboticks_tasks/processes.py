"""Processes of this machine, told apart by pid *and* start time: pids recur."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path


def start_time(pid: int) -> int | None:
    """Return when `pid` started, in clock ticks since boot (field 22 of /proc/PID/stat); None when it is gone.

    A zombie counts as gone: it runs no more, only its parent has not noticed.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()  # the name in parentheses may itself hold spaces
    return None if state in {"Z", "X"} else int(fields[18])


def is_alive(pid: int, started: int) -> bool:
    """Tell whether the very process that started at `started` still runs."""
    return start_time(pid) == started


def stop(pid: int, started: int, *, grace: float = 2.0, ask: signal.Signals = signal.SIGTERM) -> bool:
    """Ask the process to end by the signal `ask`, kill it after `grace` seconds; return whether it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # The handle is taken before the comparison: from here on it names this process and no later one.
        if not is_alive(pid, started):
            return True
        for number, patience in ((ask, grace), (signal.SIGKILL, 1.0)):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], patience)[0]:
                with suppress(ChildProcessError):  # a child of ours would stay a zombie until we end
                    os.waitpid(pid, os.WNOHANG)
                return True
        return False
    except ProcessLookupError:
        return True
    finally:
        os.close(handle)
