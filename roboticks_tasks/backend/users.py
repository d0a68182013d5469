"""Which runs use a local platform: the last one that lives stops it."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from roboticks_tasks import processes
from roboticks_tasks.errors import BackendError
from roboticks_tasks.waiting import Deadline, first

PATIENCE = 20.0
"""Seconds for another run to start or stop the platform; 15 are what it has for a start."""


class Mark(msgspec.Struct, frozen=True):
    """A run that uses the platform, alive as long as one of its processes is: (pid, start time) each."""

    processes: tuple[tuple[int, int], ...]


@contextmanager
def exclusive(directory: Path, *, timeout: float = PATIENCE) -> Iterator[None]:
    """Hold the platform's folder for the block, so that one run does not stop what another is just about to use.

    Raises BackendError when another run has it for `timeout` seconds: it hangs, or was stopped.
    """
    with (directory / "users.lock").open("w") as lock:

        def taken() -> bool | None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            return True

        if not taken() and not first(taken, deadline=Deadline(timeout), interval=0.02):
            raise BackendError(
                f"another run keeps the local platform's folder {directory} locked",
                remedy=f"`fuser {directory / 'users.lock'}` names the process",
            )
        yield


def join(directory: Path, run: Path, *, pid: int, started: int) -> None:
    """Note that process `pid` uses the platform for the run in folder `run`."""
    path = _mark(directory, run)
    path.parent.mkdir(exist_ok=True)
    known = _read(path).processes
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(Mark(processes=(*known, (pid, started)))))
    new.replace(path)  # whoever reads it meanwhile must not find half of it


def leave(directory: Path, run: Path) -> bool:
    """Forget the run in folder `run` and every dead one; return whether another living run is left."""
    _mark(directory, run).unlink(missing_ok=True)
    for half in (directory / "users").glob("*.new"):  # of a process that was killed: whoever lives would have the lock
        half.unlink(missing_ok=True)
    others = False
    for path in (directory / "users").glob("*.json"):
        if any(processes.is_alive(pid, started) for pid, started in _read(path).processes):
            others = True
        else:
            path.unlink(missing_ok=True)
    return others


def own_process() -> tuple[int, int]:
    """Return pid and start time of this process."""
    pid = os.getpid()
    return pid, processes.start_time(pid) or 0


def _mark(directory: Path, run: Path) -> Path:
    name = hashlib.sha256(str(run.absolute()).encode()).hexdigest()[:16]
    return directory / "users" / f"{name}.json"


def _read(path: Path) -> Mark:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Mark(processes=())
