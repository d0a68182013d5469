"""Download a file once: resumable, checked, atomic, kept in a cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

from roboticks_tasks.errors import BinaryError, Verdict
from roboticks_tasks.waiting import Deadline, first

SECRETS = re.compile(r"(?<=//)[^/@\s]+@|\?[^\s'\")>]*")
"""What of an address is nobody else's business: user and password, and the query, which may be a signature."""

PATIENCE = 0.1
"""Seconds between two looks whether somebody else has downloaded a file."""


def fetch(url: str, *, sha256: str | None, cache: Path | None = None, timeout: float) -> Path:
    """Return the local file with the content of `url`; a part that is there already is not asked for again.

    With `sha256` a cached file is used without asking the server. `timeout` is in seconds for the whole download.
    Raises BinaryError when the server refuses, the time is over, the checksum differs, or the cache cannot be written.
    """
    folder = _cache_folder() if cache is None else cache
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _fetch(url, folder, sha256=sha256, deadline=Deadline(timeout))
    except OSError as error:
        raise BinaryError(
            f"{_shown(url)} could not be kept in {folder}: {error.strerror}", remedy="free space, or set XDG_CACHE_HOME"
        ) from error


def _fetch(url: str, folder: Path, *, sha256: str | None, deadline: Deadline) -> Path:
    # A signed address has a long query, which is no part of the file's name.
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{PurePosixPath(urlsplit(url).path).name[:60] or 'file'}"
    whole, part = folder / name, folder / f"{name}.part"
    with _alone(part, url, deadline):
        if sha256 is None or not whole.exists() or _sha256(whole) != sha256.lower():
            _download(url, part, deadline)
            _check(url, part, sha256)
            part.replace(whole)
    return whole


@contextmanager
def _alone(part: Path, url: str, deadline: Deadline) -> Iterator[None]:
    """Have a part to oneself for the block: two runs that need the same file must not both write to it."""

    def taken() -> BinaryIO | None:
        stream = part.open("ab")
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(part.stat(), os.fstat(stream.fileno())):
                return stream
        stream.close()  # somebody else has it, or has just made the whole file of it
        return None

    stream = first(taken, deadline=deadline, interval=PATIENCE)
    if stream is None:
        raise BinaryError(
            f"{_shown(url)} is still being downloaded by another run after {deadline.seconds:g} s",
            remedy="run again when that has ended, or raise `timeouts.binary`",
            verdict=Verdict.BACKEND_ERROR,
        )
    with stream:
        try:
            yield
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _check(url: str, part: Path, sha256: str | None) -> None:
    if sha256 is not None and (digest := _sha256(part)) != sha256.lower():
        part.unlink()
        raise BinaryError(
            f"{_shown(url)} has SHA-256 {digest}, expected {sha256.lower()}",
            remedy="correct `device_manager.source.sha256`, or mistrust the server",
        )


def _download(url: str, part: Path, deadline: Deadline) -> None:
    import requests

    from roboticks_tasks.backend.calls import SlowError
    from roboticks_tasks.backend.reasons import reason_of
    from roboticks_tasks.lifecycle.support.transfer import BrokenError, RefusedError, transfer

    remedy = "run again to resume"
    try:
        transfer(url, part, deadline=deadline)
        return
    except SlowError:
        have = part.stat().st_size if part.exists() else 0
        what = f"did not arrive within {deadline.seconds:g} s ({have} bytes are kept)"
        remedy = "run again to resume, or raise `timeouts.binary`"
    except (BrokenError, RefusedError) as error:
        what = f"could not be downloaded: {_shown(str(error))}"
    except requests.RequestException as error:
        seen, advice = reason_of(error, url)
        what = f"could not be downloaded: {_shown(seen)}"
        remedy = f"{_shown(advice)}; {remedy}"
    raise BinaryError(f"{_shown(url)} {what}", remedy=remedy, verdict=Verdict.BACKEND_ERROR)


def _shown(text: str) -> str:
    """Return an address, or a sentence that holds some, as everybody may read it."""
    return SECRETS.sub("", text)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "roboticks-tasks"
