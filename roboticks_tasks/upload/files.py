"""Which files of a run go to the platform with its results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

RESULTS = "results.xml"
ATTACHMENTS = "attachments"

RUN_FILES = {
    "report.html": "attachments",
    "timeline.jsonl": "logs",
    "device-manager.log": "logs",
    "console.log": "logs",
}
"""Files of the run as a whole, and their kind in the platform's words."""

MOST_FILES = 500
LARGEST_FILE = 250_000_000
LARGEST_RESULTS = 16_000_000
"""Bytes: what the local platform takes, and more than anybody reads."""

TYPES = {".log": "text/plain", ".json": "application/json", ".jpg": "image/jpeg", ".png": "image/png"}
"""As the platform's documentation has them; everything else is `application/octet-stream`."""


class RunFile(NamedTuple):
    """A file: its path in the run's folder, with slashes, and its kind in the platform's words."""

    path: str
    kind: str

    @property
    def media_type(self) -> str:
        """Return the documented content type."""
        suffix = Path(self.path).suffix.lower().replace(".jpeg", ".jpg")
        return TYPES.get(suffix, "application/octet-stream")


def files_of(artifacts: Path) -> list[RunFile]:
    """Return the files of a run that are there, in the order in which they are worth sending."""
    named = [RunFile(name, kind) for name, kind in RUN_FILES.items() if (artifacts / name).is_file()]
    return [*named, *_attachments(artifacts)]


def open_file(artifacts: Path, path: str) -> BinaryIO:
    """Open a file of the run's folder; OSError for one that is not there or is a link, which may lead anywhere."""
    descriptor = os.open(artifacts / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.fdopen(descriptor, "rb")


def _attachments(artifacts: Path) -> Iterator[RunFile]:
    for folder, folders, names in os.walk(artifacts / ATTACHMENTS):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield RunFile(path.relative_to(artifacts).as_posix(), ATTACHMENTS)
