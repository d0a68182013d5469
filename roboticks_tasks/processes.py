"""Processes of this machine, told apart by pid *and* start time: pids recur."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

COOKIE = "ROBOTICKS_RUN_ID"
"""The variable that every process of a run has in its environment, with the run's id: the last means to find one."""


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


_runs: list[object] = []


@contextmanager
def counted() -> Iterator[None]:
    """Count a run of this process for the block; several, in threads, share one environment, and cannot mark in it."""
    run = object()
    _runs.append(run)
    if len(_runs) > 1:
        os.environ.pop(COOKIE, None)
    try:
        yield
    finally:
        _runs.remove(run)


@contextmanager
def marked(run_id: str) -> Iterator[None]:
    """Let whatever is started in the block carry the run's id, unless this process has another run at the same time."""
    if len(_runs) > 1:
        yield
        return
    before = os.environ.get(COOKIE)
    os.environ[COOKIE] = run_id
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(COOKIE, None)
        else:
            os.environ[COOKIE] = before


def unmarked(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for what several runs share, or what outlives its run: the end of one must not end it."""
    return {name: value for name, value in environ.items() if name != COOKIE}


def carriers(run_id: str) -> list[tuple[int, int]]:
    """Return pid and start time of every process that carries the run's id, but this one and its ancestors."""
    wanted, spared, found = f"{COOKIE}={run_id}".encode(), _lineage(os.getpid()), []
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal() or int(entry.name) in spared:
            continue
        try:
            environment = Path(entry.path, "environ").read_bytes()
        except OSError:  # another user's, or it has just ended
            continue
        started = start_time(int(entry.name)) if wanted in environment.split(b"\0") else None
        if started is not None:
            found.append((int(entry.name), started))
    return found


def sweep(run_id: str, *, grace: float = 1.0) -> int:
    """Stop whatever still carries the run's id: SIGTERM, SIGKILL after `grace` seconds; return how many there were."""
    met: set[tuple[int, int]] = set()
    # What starts another one just before it dies is why the last look comes more than once.
    for number, patience in ((signal.SIGTERM, grace), *[(signal.SIGKILL, 0.5)] * 3):
        left = carriers(run_id)
        if not left:
            break
        met.update(left)
        for pid, started in left:
            _signal(pid, started, number)
        end = time.monotonic() + patience
        while any(is_alive(*each) for each in left) and time.monotonic() < end:
            time.sleep(0.01)
    return len(met)


def boot_id() -> str:
    """Return the name of the machine's present boot; some containers have none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return "none"


def _signal(pid: int, started: int, number: signal.Signals) -> None:
    with suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if is_alive(pid, started):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _lineage(pid: int) -> set[int]:
    """Return `pid` and its ancestors."""
    found: set[int] = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        pid = int(text.rpartition(")")[2].split()[1])
    return found
