"""The platform's folder: made private, locked by one process, its files replaced atomically."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

STATE = "platform.json"
"""Describes the running platform; there while it is ready."""

PORTS = "ports.json"
LOCK = "platform.lock"
DATABASE = "platform.db"
FILES = "files"
"""The folder of the files of test runs, each under its id."""

PROJECT_SECRET = "project-secret"  # noqa: S105 (a file's name)
API_KEY = "api-key"
UNFINISHED = ".roboticks-unfinished"
"""How the names of our half-written files end: only those may be cleaned up, the folder is the user's."""


class AlreadyRunningError(Exception):
    """Another platform process has this folder."""


def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` atomically with `data`; it never exists half-written or with wider rights than `mode`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, private to its owner, and hold it; raise AlreadyRunningError or OSError.

    The kernel lets go of the lock however this process ends.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise AlreadyRunningError(f"another platform process is using {folder}") from error
    try:
        for left in folder.glob(f".*{UNFINISHED}"):
            if left.is_file() and not left.is_symlink():
                left.unlink()
        yield
    finally:
        os.close(lock)


def secret(path: Path, prefix: str) -> str:
    """Return the secret kept in `path`; make it at the first start."""
    with contextlib.suppress(FileNotFoundError):
        kept = path.read_text(encoding="utf-8").strip()
        if kept:
            return kept
    made = prefix + os.urandom(24).hex()
    write(path, made.encode() + b"\n", mode=0o600)
    return made


def start_time() -> int:
    """Return this process's start time in clock ticks since boot: with the process id it names a process for good."""
    stat = Path("/proc/self/stat").read_text(encoding="utf-8")
    return int(stat.rpartition(")")[2].split()[19])


def last_ports(folder: Path) -> tuple[int, int]:
    """Return the HTTP and the MQTT port of the last start, 0 where none is known."""
    try:
        ports = json.loads((folder / PORTS).read_bytes())
        http, mqtt = ports["http"], ports["mqtt"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0
    sound = all(isinstance(port, int) and 0 < port < 65536 for port in (http, mqtt))
    return (http, mqtt) if sound else (0, 0)


def keep_ports(folder: Path, *, http: int, mqtt: int) -> None:
    """Remember the ports for the next start, so that devices find the platform where it was."""
    if last_ports(folder) != (http, mqtt):
        write(folder / PORTS, json.dumps({"http": http, "mqtt": mqtt}).encode())
