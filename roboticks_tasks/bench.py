"""This machine as a bench: the folders in which everyone who uses its boards meets, and each user's own."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from roboticks_tasks.errors import ConfigError

VARIABLE = "ROBOTICKS_BENCH"
"""Names another folder than the machine's for leases and quarantine."""

SHARED = ("/run/lock/roboticks", "/var/lock/roboticks", "/tmp/roboticks-bench")  # noqa: S108 - checked before use
"""Where leases are kept, the first that can be made; the same for every user, or two of them could have one board."""


def shared_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder for what all users of this machine's boards share; ConfigError when none can be made."""
    environ = os.environ if environ is None else environ
    named = environ.get(VARIABLE)
    for name in (named,) if named else SHARED:
        folder = Path(name)
        with suppress(OSError):
            _make_shared(folder)
        if folder.is_dir() and not folder.is_symlink() and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise ConfigError(
        f"no folder for the leases of boards can be written: {named or ', '.join(SHARED)}",
        remedy=f"set {VARIABLE} to one that all users of the boards can write",
    )


def private_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return this user's own folder for sockets, short enough for one; ConfigError when it is somebody else's."""
    environ = os.environ if environ is None else environ
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    base = Path(runtime) if runtime and len(runtime) < 40 and os.access(runtime, os.W_OK) else Path("/tmp")  # noqa: S108 - checked below
    folder = base / f"roboticks-{os.getuid()}"
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
    import zlib

    return f"{readable}-{zlib.crc32(resource.encode('utf-8', 'surrogateescape')):08x}"


def _make_shared(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        folder.chmod(0o1777)  # as in /tmp: everyone makes files, nobody removes another's
