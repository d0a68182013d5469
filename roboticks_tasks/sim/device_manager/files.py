"""Private files: made 0600 in folders 0700, and replaced in one step."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from roboticks_tasks.sim.device_manager import endings

if TYPE_CHECKING:
    from pathlib import Path


def make_folder(folder: Path, *, private: bool = True) -> None:
    """Make a folder that only its owner may enter, for `private` also one that is there; Ending if it fails."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if private:
            folder.chmod(0o700)
    except OSError as error:
        raise endings.storage(str(folder), error) from error


def replace(path: Path, text: str) -> None:
    """Put `text` at `path`, readable by the owner only; readers see the old content or the new, never a part.

    Errors: Ending when it cannot be written (the old content stays).
    """
    temporary = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
            temporary.replace(path)
        except OSError:
            temporary.unlink()
            raise
    except OSError as error:
        raise endings.storage(str(path), error) from error


def lock(path: Path) -> int:
    """Hold an exclusive lock on `path` until the process ends and return its descriptor.

    Errors: BlockingIOError when another process holds it, Ending when the file cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise endings.storage(str(path), error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor
