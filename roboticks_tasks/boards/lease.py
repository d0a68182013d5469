"""One run at a time per board: a lock that the kernel holds, so that any death of the holder frees it."""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from roboticks_tasks.errors import BoardInUseError, ConfigError
from roboticks_tasks.profiles import Profile


@contextmanager
def lease(profile: Profile, *, run: str) -> Iterator[None]:
    """Hold the profile's board for the block; BoardInUseError, with the holder's words, when another run has it.

    ConfigError when this user's folder for locks cannot be written.
    """
    board = f"{profile.target.kind}:{profile.device_manager.root}"
    with _open(f"{hashlib.sha256(board.encode()).hexdigest()[:16]}.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another run that is just starting"
            raise BoardInUseError(
                f"the board of profile {profile.name!r} ({board}) is in use by {holder}",
                remedy="wait for that run to end, or use another board or root",
            ) from None
        lock.truncate(0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lock.write(f"run {run}, pid {os.getpid()}, {_user()}@{socket.gethostname()}, since {now}\n")
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)


def _open(name: str) -> TextIO:
    try:
        return (_folder() / name).open("a+")
    except OSError as error:
        raise ConfigError(
            f"the lock of the board cannot be written: {error.filename}: {error.strerror}",
            remedy="let XDG_RUNTIME_DIR name a folder of yours, or unset it",
        ) from error


def _folder() -> Path:
    """Return a folder of this user that all runs on this machine share, whatever their working directory."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "roboticks-tasks" if base else Path(tempfile.gettempdir()) / f"roboticks-tasks-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return str(os.getuid())
