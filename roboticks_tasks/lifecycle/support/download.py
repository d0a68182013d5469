"""Download a file once: resumable, checked, atomic, kept in a cache."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from roboticks_tasks.errors import BinaryError, Verdict
from roboticks_tasks.waiting import Deadline

CHUNK = 1 << 20


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
            f"{url} could not be kept in {folder}: {error.strerror}", remedy="free space, or set XDG_CACHE_HOME"
        ) from error


def _fetch(url: str, folder: Path, *, sha256: str | None, deadline: Deadline) -> Path:
    # A signed address has a long query, which is no part of the file's name.
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{PurePosixPath(urlsplit(url).path).name[:60] or 'file'}"
    whole, part = folder / name, folder / f"{name}.part"
    if sha256 is not None and whole.exists() and _sha256(whole) == sha256.lower():
        return whole
    _download(url, part, deadline)
    if sha256 is not None and (digest := _sha256(part)) != sha256.lower():
        part.unlink()
        raise BinaryError(
            f"{url} has SHA-256 {digest}, expected {sha256.lower()}",
            remedy="correct `device_manager.source.sha256`, or mistrust the server",
        )
    part.replace(whole)
    return whole


def _download(url: str, part: Path, deadline: Deadline) -> None:
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(5, 30)) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # the part is whole already
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            with part.open("ab" if resumed else "wb") as stream:
                for chunk in response.iter_content(CHUNK):
                    stream.write(chunk)
                    if deadline.expired:
                        raise BinaryError(
                            f"{url} did not arrive within {deadline.seconds:g} s ({stream.tell()} bytes are kept)",
                            remedy="run again to resume, or raise `timeouts.binary`",
                            verdict=Verdict.BACKEND_ERROR,
                        )
    except requests.RequestException as error:
        raise BinaryError(
            f"{url} could not be downloaded: {error}", remedy="run again to resume", verdict=Verdict.BACKEND_ERROR
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "roboticks-tasks"
