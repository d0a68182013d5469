"""What is known of the captures that run: a file each in the user's own folder, true while its process lives."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from roboticks_tasks import processes
from roboticks_tasks.bench import file_name, private_folder

if TYPE_CHECKING:  # the capture must start quickly and needs no msgspec
    from roboticks_tasks.models import Capture

SUFFIX = ".capture"


def file_of(port: str, suffix: str) -> Path:
    """Return the file of a port in the user's own folder; one port has one name, whatever link leads to it."""
    return private_folder() / (file_name(resolve(port)) + suffix)


def resolve(port: str) -> str:
    """Return the device that a path leads to; a URL as it is."""
    return port if "://" in port else os.path.realpath(port)


def socket_of(port: str) -> Path:
    """Return where the capture of `port` listens; the name of a socket may have 107 bytes."""
    return private_folder() / f"{file_name(resolve(port))[-8:]}.sock"


def register(path: Path, *, port: str, log: str, socket: str) -> None:
    """Note in `path` that this process captures `port`: a `models.Capture` as JSON, whole or not at all."""
    pid = os.getpid()
    process = {"pid": pid, "start_time": processes.start_time(pid)}
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"process": process, "port": port, "log": log, "socket": socket}), encoding="utf-8")
    new.replace(path)


def find_capture(port: str) -> Capture | None:
    """Return the living capture that owns `port`, under whatever link it was started; None when there is none."""
    return next((capture for capture in _captures_of(port) if is_capturing(capture)), None)


def killed_capture(port: str) -> Capture | None:
    """Return a capture of `port` that was killed: one that ends in order takes its registration along."""
    return next((capture for capture in _captures_of(port) if not is_capturing(capture)), None)


def forget(capture: Capture) -> None:
    """Remove the registration of a capture that was killed."""
    for path, known in _registered():
        if known == capture:
            path.unlink(missing_ok=True)


def is_capturing(capture: Capture) -> bool:
    """Tell whether the very process of `capture` still runs."""
    return processes.is_alive(capture.process.pid, capture.process.start_time)


def try_lock(path: Path) -> IO[bytes] | None:
    """Return the file `path`, locked until it is closed or its process ends, or None when somebody else has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


@contextmanager
def locked(path: Path, *, seconds: float) -> Iterator[bool]:
    """Hold `path` for the block; False when somebody else had it for so long."""
    deadline = time.monotonic() + seconds
    while (file := try_lock(path)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        yield file is not None
    finally:
        if file is not None:
            file.close()


def _captures_of(port: str) -> Iterator[Capture]:
    for _, capture in _registered():
        # A replugged adapter may have another device behind the same link: both are resolved as they are now.
        if port == capture.port or resolve(port) == resolve(capture.port):
            yield capture


def _registered() -> Iterator[tuple[Path, Capture]]:
    from msgspec import DecodeError
    from msgspec.json import decode

    from roboticks_tasks.models import Capture

    for path in private_folder().glob(f"*{SUFFIX}"):
        with suppress(OSError, DecodeError, UnicodeDecodeError):
            yield path, decode(path.read_bytes(), type=Capture)
