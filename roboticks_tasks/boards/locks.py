"""Files that are locked as long as their holder lives, with the holder's words in them."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from roboticks_tasks import processes
from roboticks_tasks.boards.resources import LockFile
from roboticks_tasks.errors import ConfigError

log = logging.getLogger(__name__)

MOST_WORDS = 4096
"""Bytes; no holder has more to say."""

UNKNOWN = "another run that is just starting"

ATTEMPTS = 20
"""How often a file is opened that changes under our hands."""


def take(files: Iterable[LockFile], held: list[int]) -> str | None:
    """Lock all the files, or none and return the words of the holder who has one of them.

    The descriptors are added to `held` as they are had. A file of this machine's own that cannot be written is passed
    over: there no device manager can be started either, and the step that tries will say so.
    """
    before = len(held)
    for file in files:
        words = _take_one(file, held)
        if words is not None:
            release(held, keep=before)
            return words
    return None


def release(held: list[int], *, keep: int = 0) -> None:
    """Give back all but the first `keep` of the locks, the last one first."""
    while len(held) > keep:
        lock = held.pop()
        fcntl.flock(lock, fcntl.LOCK_UN)  # closing it would not do: the run's guard has it open, too
        os.close(lock)


def hand_over(held: list[int], words: str) -> None:
    """Close the locks without giving them back: they stay with whoever else has them open; `words` say who that is."""
    for lock in held:
        with suppress(OSError):
            content = words.replace("\n", "?").encode("utf-8", "backslashreplace") + b"\n"
            os.pwrite(lock, content, 0)
            os.ftruncate(lock, len(content))
    while held:
        os.close(held.pop())


def write_words(held: Sequence[int], words: str) -> None:
    """Write into every locked file who holds it, in one line; nothing, when that is nobody.

    A second line names this process, for `is_orphaned`.
    """
    pid = os.getpid()
    who = f"{socket.gethostname()} {pid} {processes.start_time(pid) or 0}\n" if words else ""
    content = words.encode("utf-8", "backslashreplace")[: MOST_WORDS - len(who)] + who.encode()
    for lock in held:
        with suppress(OSError):  # the lock itself holds without these words, on a full disk say
            # In this order nobody reads an empty file of a board that is held.
            os.pwrite(lock, content, 0)
            os.ftruncate(lock, len(content))


def holder_of(files: Iterable[LockFile]) -> str | None:
    """Return the words of who has one of the files locked now; the look itself holds it for microseconds."""
    for file in files:
        lock = _open_to_look(file)
        if lock is None:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_words(lock)
        finally:
            os.close(lock)
    return None


def is_orphaned(files: Iterable[LockFile]) -> bool:
    """Tell whether one of the files is locked although the process that locked it is gone: its guard is cleaning up."""
    for file in files:
        lock = _open_to_look(file)
        if lock is None:
            continue
        try:
            host, pid, started = os.pread(lock, MOST_WORDS, 0).split(b"\n")[1].split()
            if host.decode() == socket.gethostname() and not processes.is_alive(int(pid), int(started)):
                return True
        except (IndexError, ValueError, OSError):
            continue  # nobody's, or another version's words
        finally:
            os.close(lock)
    return False


def printable(text: str) -> str:
    """Replace what a terminal does not just show: the words may be another user's."""
    return "".join(each if each.isprintable() else "?" for each in text)


def open_shared(path: Path) -> int:
    """Open a file of the bench that every user may write, made if need be; ConfigError when it is not one."""
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            lock = _open_or_make(path)
        except (FileNotFoundError, FileExistsError, PermissionError) as error:
            # It, or its folder, was being made by somebody else, who gives us the right to write it next.
            problem = str(error.strerror)
            time.sleep(0.005)
            continue
        except OSError as error:
            problem = str(error.strerror)
            break
        if stat.S_ISREG(os.fstat(lock).st_mode):
            return lock
        os.close(lock)
        problem = "not a file"
        break
    raise ConfigError(f"{path} cannot be written: {problem}", remedy=f"`sudo chmod 666 {path}`, or remove it")


def _open_or_make(path: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        # Where everyone may make files, the kernel refuses O_CREAT on those of other users (fs.protected_regular).
        return os.open(path, flags)
    except FileNotFoundError:
        lock = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        os.fchmod(lock, 0o666)  # whatever the umask says
        return lock


def _open_own(path: Path) -> int | None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.debug("no lease: %s", error)
        return None


def _open_to_look(file: LockFile) -> int | None:
    try:
        return os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None


def _take_one(file: LockFile, held: list[int]) -> str | None:
    for _ in range(ATTEMPTS):
        lock = open_shared(file.path) if file.shared else _open_own(file.path)
        if lock is None:
            return None
        held.append(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = _read_words(lock)
            os.close(held.pop())
            return words
        if os.fstat(lock).st_nlink:
            return None
        os.close(held.pop())  # somebody removed the file before we had it: the next one locks another
    return UNKNOWN


def _read_words(lock: int) -> str:
    """Return the first line of what the holder wrote."""
    text = os.pread(lock, MOST_WORDS, 0).decode("utf-8", "replace").partition("\n")[0]
    return printable(text).strip() or UNKNOWN
