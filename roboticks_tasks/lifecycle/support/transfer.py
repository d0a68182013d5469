"""Bring a file over HTTP into a part that may be there already: in a time, up to a size, again where it broke."""

from __future__ import annotations

import shutil
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from roboticks_tasks.backend.calls import PASSING, SlowError, open_session, pause_before, within
from roboticks_tasks.backend.client import LOOPBACK
from roboticks_tasks.waiting import Deadline

if TYPE_CHECKING:
    import requests

CHUNK = 1 << 16
LARGEST = 4 << 30
"""Bytes of a file; a device manager has some tens of millions, what is larger than this is a mistake."""

ATTEMPTS = 4
REDIRECTS = 5
CONNECT, READ = 5.0, 30.0
NOT_SATISFIABLE, PARTIAL = 416, 206


class BrokenError(Exception):
    """The file does not come, and the next attempt may do better."""


class RefusedError(Exception):
    """The file does not come, and would not at the next attempt; the message says why."""


class Part:
    """The part of a file on disk; once it is sealed, a transfer that was left behind cannot touch it any more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._sealed = False

    @property
    def size(self) -> int:
        """Return the bytes that are there."""
        return self._path.stat().st_size if self._path.exists() else 0

    def seal(self) -> None:
        """Let nobody write any more."""
        with self._lock:
            self._sealed = True

    def write(self, chunk: bytes, *, afresh: bool = False) -> None:
        """Append a chunk, or begin with it; SlowError when the part is sealed."""
        with self._lock:
            if self._sealed:
                raise SlowError("too late")
            with self._path.open("wb" if afresh else "ab") as stream:
                stream.write(chunk)

    def room(self) -> int:
        """Return the free bytes of the disk."""
        return shutil.disk_usage(self._path.parent).free


def transfer(url: str, path: Path, *, deadline: Deadline) -> None:
    """Append to the file at `path` what it lacks of `url`; broken connections and busy servers are tried again.

    Raises SlowError at the deadline, RefusedError, BrokenError and requests' errors after the last attempt, and
    OSError when the disk refuses.
    """
    import requests

    part, attempt = Part(path), 0
    session = open_session(trust_env=urlsplit(url).hostname not in LOOPBACK)
    try:
        while True:
            attempt += 1
            try:
                within(deadline.remaining, partial(_attempt, session, url, part, patience=deadline.remaining))
                return
            except requests.exceptions.SSLError:
                raise
            except (requests.RequestException, BrokenError):
                pause = pause_before(attempt)
                if attempt >= ATTEMPTS or pause >= deadline.remaining:
                    raise
                time.sleep(pause)
    finally:
        part.seal()
        session.close()


def _attempt(session: requests.Session, url: str, part: Part, *, patience: float) -> None:
    have = part.size
    headers = {"Range": f"bytes={have}-"} if have else {}
    timeout = (max(0.01, min(CONNECT, patience)), max(0.01, min(READ, patience)))
    options: dict[str, Any] = {"headers": headers, "timeout": timeout, "stream": True, "allow_redirects": False}
    for _ in range(REDIRECTS + 1):
        with session.get(url, **options) as response:
            place = response.headers.get("Location")
            if not (response.is_redirect and place):
                _receive(response, part, have)
                return
            following = urljoin(url, place)
            if urlsplit(url).scheme == "https" != urlsplit(following).scheme:
                raise RefusedError(f"it redirects to an address without TLS ({following})")
            url = following
    raise RefusedError(f"it redirects in a circle, or more than {REDIRECTS} times")


def _receive(response: requests.Response, part: Part, have: int) -> None:
    status = response.status_code
    if have and status == NOT_SATISFIABLE:
        return  # the part is whole already
    if not response.ok:
        text = f"{status} {response.reason}"
        raise BrokenError(text) if status in PASSING else RefusedError(text)
    resumed = have if status == PARTIAL else 0
    promised = int(length) if (length := response.headers.get("Content-Length", "")).isdecimal() else 0
    if resumed + promised > LARGEST:
        raise RefusedError(f"it has {resumed + promised} bytes, more than the {LARGEST} that are taken")
    if promised > part.room() + (0 if resumed else have):
        raise RefusedError(f"it has {promised} bytes more, and the disk has room for {part.room()}")
    if not resumed:
        part.write(b"", afresh=True)
    for chunk in response.iter_content(CHUNK):
        part.write(chunk)
        resumed += len(chunk)
        if resumed > LARGEST:
            raise RefusedError(f"it has more than the {LARGEST} bytes that are taken")
