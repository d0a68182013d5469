"""One run at a time per board: a lock that the kernel holds, so that any death of the holder frees it."""

from __future__ import annotations

import fcntl
import getpass
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from roboticks_tasks.errors import BoardInUseError
from roboticks_tasks.profiles import Profile

log = logging.getLogger(__name__)

LOCK = "run/lease"
"""The lock's place below the device manager's root: where the board is, so that everyone who uses it meets there."""


@contextmanager
def lease(profile: Profile, *, run: Path) -> Iterator[None]:
    """Hold the profile's board for the block; BoardInUseError, with the holder's words, when another run has it.

    `run` is the run's folder, for those who are refused. Where the lock cannot be written, no device manager can be
    started either, and the step that tries will say so.
    """
    board = Path(profile.device_manager.root)
    lock = _open(board / LOCK)
    if lock is None:
        yield
        return
    try:
        _take(lock, profile)
        _write(lock, _describe(run))
        try:
            yield
        finally:
            _write(lock, "")
    finally:
        os.close(lock)


def _open(path: Path) -> int | None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.debug("no lease: %s", error)
        return None


def _take(lock: int, profile: Profile) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 4096, 0).decode("utf-8", "replace").strip() or "another run that is just starting"
        raise BoardInUseError(
            f"the board of profile {profile.name!r} ({profile.device_manager.root}) is in use by {holder}",
            remedy="wait for that run to end, or use another board or root",
        ) from None


def _describe(run: Path) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"run {run.absolute()}, pid {os.getpid()}, {_user()}@{socket.gethostname()}, since {now}\n"


def _write(lock: int, text: str) -> None:
    with suppress(OSError):  # the lock itself holds without these words, on a full disk say
        os.ftruncate(lock, 0)
        os.pwrite(lock, text.encode("utf-8", "backslashreplace"), 0)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return str(os.getuid())
