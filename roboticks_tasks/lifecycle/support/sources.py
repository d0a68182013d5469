"""The profile's `device_manager.source` as a file of this machine, with its checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from roboticks_tasks.errors import BinaryError
from roboticks_tasks.lifecycle.support import download
from roboticks_tasks.profiles import Profile


class Fetched(NamedTuple):
    """A file of this machine: what it is called where it came from, its SHA-256, and where it lies now."""

    name: str
    sha256: str
    path: Path

    def head(self, size: int) -> bytes:
        """Return the first `size` bytes."""
        with self.path.open("rb") as stream:
            return stream.read(size)


def fetch(profile: Profile, cache: Path | None) -> Fetched | None:
    """Return the source's file, downloaded if need be; None when the profile names none.

    `cache` is the folder for downloads. Raises BinaryError when it cannot be read or has another checksum.
    """
    source = profile.device_manager.source
    if source is None:
        return None
    if (source.path is None) == (source.url is None):
        raise BinaryError("`device_manager.source` needs either a path or a url")
    if source.url is not None:
        file = download.fetch(source.url, sha256=source.sha256, cache=cache, timeout=profile.timeouts.binary)
        name = PurePosixPath(urlsplit(source.url).path).name
    else:
        file = Path(source.path or "")
        name = file.name
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BinaryError(
            f"the device manager's source {file} cannot be read: {error.strerror}",
            remedy="set `device_manager.source` in the profile",
        ) from error
    if source.sha256 is not None and digest != source.sha256.lower():
        raise BinaryError(
            f"{file} has SHA-256 {digest}, expected {source.sha256.lower()}",
            remedy="correct `device_manager.source.sha256` or the file",
        )
    return Fetched(name=name, sha256=digest, path=file)
