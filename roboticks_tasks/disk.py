"""Files that are whole or as they were before, and can be written on a full disk where room was reserved for them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from roboticks_tasks.errors import ConfigError

RESERVE = ".reserve"

SLOTS, SLOT = 12, 32_768
"""Files that hold a folder's reserve, and bytes of each: one is a run's state, result or JUnit file, several times."""

FULL = {errno.ENOSPC, errno.EDQUOT}
UNSUPPORTED = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file so that it is either whole or as it was before; ConfigError when the folder does not take it.

    `durable` makes it survive a power cut, and lets it have the folder's reserve when the disk is full.
    """
    try:
        with _replacing(path, durable=durable) as stream:
            stream.write(content)
    except OSError as error:
        if not (durable and error.errno in FULL and _write_reserved(path, content)):
            raise not_writable(path.parent, error) from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Lend a file that takes the place of `path` if the block ends well; ConfigError when it cannot be written."""
    try:
        with _replacing(path, durable=True) as stream:
            yield stream
    except OSError as error:
        raise not_writable(path.parent, error) from error


def reserve(folder: Path) -> None:
    """Allocate room in `folder` for what has to be written when the disk is full; ConfigError when there is none."""
    try:
        for number in range(SLOTS):
            _allocate(folder / f"{RESERVE}.{number}")
    except OSError as error:
        raise not_writable(folder, error) from error


def give_back(folder: Path) -> None:
    """Remove what `reserve` has allocated."""
    for slot in _slots(folder):
        with suppress(OSError):
            slot.unlink()


def not_writable(folder: Path, error: OSError) -> ConfigError:
    """Return the error that says why nothing can be written to `folder`."""
    return ConfigError(
        f"the output folder {folder} cannot be written: {error.strerror}",
        remedy="free space or choose another one with --artifacts",
    )


@contextmanager
def _replacing(path: Path, *, durable: bool) -> Iterator[BinaryIO]:
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        _sync(path.parent)


def _sweep(path: Path) -> None:
    """Remove the temporary files of writers that were killed."""
    for left in path.parent.glob(f".{path.name}.*.new"):
        pid = left.name.removesuffix(".new").rpartition(".")[2]
        if pid.isdecimal() and not _lives(pid):
            with suppress(OSError):
                left.unlink()


def _lives(pid: str) -> bool:
    """Tell whether a process can still write: one whose parent does not know yet that it is dead has no arguments."""
    try:
        return bool(Path("/proc", pid, "cmdline").read_bytes())
    except OSError:
        return False


def _sync(folder: Path) -> None:
    """Have the names in a folder survive a power cut, where the file system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _slots(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{RESERVE}.*"))


def _allocate(slot: Path) -> None:
    if slot.exists():
        return
    try:
        with slot.open("wb") as stream:
            try:
                os.posix_fallocate(stream.fileno(), 0, SLOT)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
                stream.write(bytes(SLOT))
                stream.flush()
                os.fsync(stream.fileno())
    except OSError:
        with suppress(OSError):
            slot.unlink()
        raise


def _write_reserved(path: Path, content: bytes) -> bool:
    """Write into a slot's own blocks, which nobody else can take meanwhile, and give it the name `path`."""
    for slot in _slots(path.parent):
        temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            slot.rename(temporary)
            with temporary.open("r+b") as stream:
                stream.write(content)
                stream.truncate()
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()  # the next one has this one's room as well, also where a write needs a new place
            continue
        _sync(path.parent)
        with suppress(ConfigError):  # the old file's room is free
            reserve(path.parent)
        return True
    return False
