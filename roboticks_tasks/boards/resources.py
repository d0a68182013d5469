"""What a physical board is known by, whatever profiles call it: the files in which all who use it meet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks import bench
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.profiles import Profile, board_of

LOCK = "run/lease"
"""The lock's place below the root of a device manager of this machine, so that everyone who uses it meets there."""


class LockFile(NamedTuple):
    """A file to lock; those of the bench belong to all its users, the others to whoever owns the board's root."""

    path: Path
    shared: bool


def resources(profile: Profile) -> list[str]:
    """Return what the narrowed profile's board is known by on this machine's bench, what it is reached by first.

    The board's own numbers count too where it is not this machine: they are the same whichever name reaches it.
    """
    board, target = board_of(profile), profile.target
    found = []
    if target.kind == "ssh":
        if board.host is None:
            raise ConfigError(f"board {board.id!r} has no host", remedy="add `host` to it in the profile")
        found.append(f"ssh {board.host.lower()} {board.port or target.port or 22}")
    if target.kind == "serial" and board.console is None:
        raise ConfigError(f"board {board.id!r} has no console", remedy="add `console` to it in the profile")
    if board.console is not None:
        found += [f"console {name}" for name in _names_of_port(board.console.port)]
    if target.kind != "local" and board.identity is not None:
        numbers = {"serial": board.identity.serial, "mac": board.identity.mac}
        found += [f"{kind} {number.strip().lower()}" for kind, number in numbers.items() if number]
    return found


def lock_files(profile: Profile, *, make: bool = True) -> list[LockFile]:
    """Return the files to lock for the narrowed profile's board, in the one order in which everybody takes them.

    The bench's folder is only asked for when the board needs it, and made if need be unless `make` says no.
    """
    files = [LockFile(Path(profile.device_manager.root) / LOCK, shared=False)] if _has_root(profile) else []
    known = resources(profile)
    folder = (bench.shared_folder() if make else bench.find_shared_folder()) if known else None
    if folder is not None:
        files += [LockFile(folder / bench.file_name(name), shared=True) for name in sorted(set(known))]
    return files


def board_names(profile: Profile) -> list[str]:
    """Return the names of the files that lease the narrowed profile's board: two that share one mean the same board."""
    return [str(file.path) for file in lock_files(profile, make=False)]


def quarantine_name(profile: Profile) -> str:
    """Return the name of the bench's file that tells of the board's failures."""
    known = resources(profile) or [f"root {os.path.realpath(profile.device_manager.root)}"]
    return f"{bench.file_name(known[0])}.quarantine"


def _has_root(profile: Profile) -> bool:
    """Tell whether the device manager has a folder on this machine; that of firmware is on the microcontroller."""
    return profile.target.kind == "local" and profile.device_manager.kind != "firmware"


def _names_of_port(port: str) -> Iterator[str]:
    """Yield the names that a serial port goes by: two profiles that share one of them mean the same board."""
    _, scheme, address = port.partition("://")
    if scheme:
        yield address.partition("?")[0].rstrip("/").lower()  # raw or RFC 2217, it is one port of one server
        return
    # Both, because a board that is switched off and on may come back as another ttyUSB under the same link.
    yield str(Path(port).absolute())
    yield os.path.realpath(port)
