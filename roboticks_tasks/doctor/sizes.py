"""What a run would bring to a board: how much it is, in bytes, and for which machine it is built."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from roboticks_tasks.errors import ConfigError
from roboticks_tasks.lifecycle.deployment import source_folder
from roboticks_tasks.lifecycle.support import elf
from roboticks_tasks.profiles import Profile


class Source(NamedTuple):
    """The device manager's file on this machine, if any, and its first bytes; `size` is what is to be brought."""

    path: Path | None = None
    size: int = 0
    header: bytes = b""


def inspect(profile: Profile) -> Source:
    """Return what is known of it here; a file that is not there, or comes from a URL, is simply not known."""
    size = deployment_size(profile)
    source = profile.device_manager.source
    with suppress(OSError):
        if source is not None and source.path is not None:
            path = Path(source.path)
            with path.open("rb") as stream:
                header = stream.read(elf.HEADER)
            return Source(path, size + path.stat().st_size, header)
    return Source(size=size)


def deployment_size(profile: Profile) -> int:
    """Return the size of the folder that is to be deployed, 0 where there is none here."""
    if profile.deployment.path is None:
        return 0
    with suppress(OSError, ConfigError):
        return sum(path.stat().st_size for path in source_folder(profile.deployment.path).rglob("*") if path.is_file())
    return 0


def readable(size: int) -> str:
    """Return a number of bytes as people say it."""
    if size < 1_000_000_000:
        return f"{size / 1e6:.0f} MB"
    return f"{size / 1e9:.1f} GB"
