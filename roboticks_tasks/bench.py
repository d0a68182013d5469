"""This machine as a bench: the folders in which everyone who uses its boards meets, and each user's own."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from roboticks_tasks.errors import ConfigError

VARIABLE = "ROBOTICKS_BENCH"
"""Names another folder than the machine's for leases and quarantine; containers that share boards must share one."""

SHARED = ("/run/lock/roboticks", "/var/lock/roboticks", "/tmp/roboticks-bench")  # noqa: S108 - checked before use
"""Where leases are kept; the same for every user, or two of them could have one board."""

LONGEST_BASE = 40
"""Characters: what may stand before the name of a Unix socket, which with its folder may have about 100."""


def shared_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder for what all users of this machine's boards share, made if need be.

    ConfigError when none can be made, and when the one that is there cannot be used: with another one instead, two
    users would not meet.
    """
    names = _names(os.environ if environ is None else environ)
    for name in ("", *names):  # at first those that are there: a user with fewer rights may have made a later one
        with suppress(OSError):
            _make_shared(name)
        if (folder := _find(names)) is not None:
            return folder
    raise ConfigError(
        f"no folder for the leases of boards can be made: {', '.join(names)}",
        remedy=f"set {VARIABLE} to one that all users of the boards can write",
    )


def find_shared_folder(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the folder of `shared_folder` if it is there, else None; ConfigError when it cannot be used."""
    return _find(_names(os.environ if environ is None else environ))


def private_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return this user's own folder for sockets, short enough for one; ConfigError when it is somebody else's."""
    environ = os.environ if environ is None else environ
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    fits = runtime.startswith("/") and len(runtime) < LONGEST_BASE and os.access(runtime, os.W_OK | os.X_OK)
    folder = Path(runtime if fits else "/tmp") / f"roboticks-{os.getuid()}"  # noqa: S108 - checked below
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}", remedy="set XDG_RUNTIME_DIR") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"{folder} is not a folder of this user alone", remedy="remove it, or set XDG_RUNTIME_DIR")
    return folder


def file_name(resource: str) -> str:
    """Return a file name for what a board is known by: a host and port, a serial port, a folder."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", resource).strip("-.")[-100:]
    # Two resources must not share a name because of what was left out of it.
    return f"{readable}-{zlib.crc32(resource.encode('utf-8', 'surrogateescape')):08x}"


def _names(environ: Mapping[str, str]) -> tuple[str, ...]:
    named = environ.get(VARIABLE)
    if named and not named.startswith("/"):
        raise ConfigError(f"{VARIABLE} is {named!r}, which is another folder for each run", remedy="give it from /")
    return (named,) if named else SHARED


def _find(names: tuple[str, ...]) -> Path | None:
    """Return the first of the folders that is there: what one user made because he could is there for all."""
    for name in names:
        folder = Path(name)
        try:
            mode = folder.lstat().st_mode
        except OSError:
            continue
        if problem := _problem(folder, mode):
            mend = f"`sudo chmod 1777 {folder}` or remove it" if stat.S_ISDIR(mode) else "remove it"
            raise ConfigError(
                f"the folder for the leases of boards, {folder}, {problem}",
                remedy=f"{mend}, or set {VARIABLE} for all users of the boards",
            )
        return folder
    return None


def _problem(folder: Path, mode: int) -> str:
    if not stat.S_ISDIR(mode):
        return "is not a folder"
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return "lets everyone remove the leases of others"
    return "" if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else "cannot be written by this user"


def _make_shared(name: str) -> None:
    """Make the folder with all its rights at once, so that nobody finds it in between and cannot write it."""
    folder = Path(name)
    if not name or os.path.lexists(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new.chmod(0o1777)  # as in /tmp: everyone makes files, nobody removes another's
        new.rename(folder)
    except OSError:  # somebody else was faster
        new.rmdir()
